"""Who is calling: decided at the gateway, signed, and believed by a service only when the signature is good.

`X-Auth-Context` is `base64url(JSON).hex(HMAC-SHA256)`. The MAC covers method and target, so that a context
seen for one request is good for no other. It lives for 30 s, and for `MAX_CLOCK_DIFFERENCE` more where the
clocks of gateway and service differ.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any
from uuid import UUID

from chassis.clock import MAX_CLOCK_DIFFERENCE
from chassis.errors import Forbidden, NotFound, Unauthenticated

HEADER = b"x-auth-context"
_LIFETIME_SECONDS = 30
_DIFFERENCE_SECONDS = MAX_CLOCK_DIFFERENCE.total_seconds()
_MAX_BYTES = 8192

ALL = "all"
"""The scope of an admin who administers the whole installation."""
CLIENT_SCOPE = "client:"
"""Begins the scope of an admin who administers one client; its id follows."""


class Access(StrEnum):
    """The credential class of a route, and of a caller."""

    PUBLIC = "public"
    API_KEY = "api_key"
    USER = "user"
    ADMIN = "admin"
    SCIM = "scim"
    OAUTH = "oauth"


class KeyKind(StrEnum):
    """What an API key may be used for: servers (`ask_…`) or browsers and mobile apps (`apk_…`)."""

    SECRET = "secret"  # noqa: S105 - the kind's name, not a secret
    PUBLISHABLE = "publishable"


class ImpersonationRefused(Forbidden):
    """Somebody acts in the user's name, and this is for the user alone."""

    code = "impersonation_refused"
    detail = "This is for the user alone; a session in the user's name cannot do it."


class PermissionMissing(Forbidden):
    """None of the admin's roles has the permission that the operation needs."""

    code = "permission_missing"
    detail = "None of your roles allows this."


class ScopeTooNarrow(Forbidden):
    """The operation is of the whole installation, and the admin administers only a part of it."""

    code = "scope_too_narrow"
    detail = "This is for admins of the whole installation."


class ContextRejected(Exception):
    """The context header is missing, forged, of another request, or of another time."""


@dataclass(frozen=True, slots=True)
class CallerContext:
    """One authenticated caller of one request. `ip` is the client's, as the trusted proxies told it.

    For `admin`, `admin_id` is None when the break-glass key was used, which may do everything; anybody else
    may do what `admin_permissions` names, within `admin_scopes`. `origin` is set only when it is an
    allowed one. `is_enrolling` marks a user whose token opens nothing but the set-up of a second factor.
    `impersonator_id` names who acts in the user's name (RFC 8693 §4.1), a support engineer for instance.
    """

    access: Access
    request_id: str
    ip: str = ""
    user_agent: str = ""
    origin: str | None = None
    client_id: UUID | None = None
    key_id: str | None = None
    key_kind: KeyKind | None = None
    user_id: UUID | None = None
    session_id: UUID | None = None
    email: str | None = None
    role: str | None = None
    auth_time: int | None = None
    amr: tuple[str, ...] = ()
    admin_id: UUID | None = None
    admin_permissions: tuple[str, ...] = ()
    admin_scopes: tuple[str, ...] = ()
    is_enrolling: bool = False
    impersonator_id: str | None = None

    @property
    def is_break_glass(self) -> bool:
        """True when the caller holds the master admin key instead of an admin user's token."""
        return self.access is Access.ADMIN and self.admin_id is None

    @property
    def client_scope(self) -> frozenset[UUID] | None:
        """The clients an admin may see and touch; None for all of them.

        Everything that lists over clients must be narrowed by it.
        """
        if self.is_break_glass or ALL in self.admin_scopes:
            return None
        named = (
            scope.removeprefix(CLIENT_SCOPE) for scope in self.admin_scopes if scope.startswith(CLIENT_SCOPE)
        )
        return frozenset(map(UUID, named))

    def check_permission(self, permission: str | None) -> None:
        """Check that an admin may do what needs `permission`; None is for the break-glass key alone.

        Raises:
            PermissionMissing: none of its roles allows it.
        """
        if not self.is_break_glass and (permission is None or permission not in self.admin_permissions):
            raise PermissionMissing

    def check_client_scope(self, client_id: UUID | str | None) -> None:
        """Check that an admin may touch what is of a client; None is what is of all of them.

        Raises:
            NotFound: the client is not one of its; whether there is such a client is not told.
            ScopeTooNarrow: it is of the whole installation, and the admin is not.
        """
        allowed = self.client_scope
        if allowed is None:
            return
        if client_id is None:
            raise ScopeTooNarrow
        try:
            wanted = UUID(str(client_id))
        except ValueError:
            raise NotFound from None
        if wanted not in allowed:
            raise NotFound

    def require_client(self) -> UUID:
        """Return the tenant.

        Raises:
            Unauthenticated: the caller named none.
        """
        if self.client_id is None:
            raise Unauthenticated
        return self.client_id

    def require_user(self) -> UUID:
        """Return the user.

        Raises:
            Unauthenticated: the caller is none.
        """
        if self.user_id is None:
            raise Unauthenticated
        return self.user_id

    def check_access(
        self, needed: Access, *, for_enrollment: bool = False, for_impersonation: bool = False
    ) -> None:
        """Check that the caller has the credential class of a route; the gateway did, a service does again.

        `for_enrollment` says that the route helps to set up a second factor, `for_impersonation` that it may
        be called by whoever acts in the user's name.

        Raises:
            Unauthenticated: a caller with nothing, or with a token for the set-up only.
            Forbidden: a caller of another class.
            ImpersonationRefused: somebody acts in the user's name, and this is for the user alone.
        """
        if needed in (Access.PUBLIC, self.access) or (
            needed is Access.API_KEY and self.access is Access.USER
        ):
            if self.is_enrolling and not for_enrollment:
                raise Unauthenticated
            if self.impersonator_id is not None and not for_impersonation:
                raise ImpersonationRefused
            return
        raise Unauthenticated if self.access is Access.PUBLIC else Forbidden


_MEMBERS = tuple(field.name for field in fields(CallerContext))

_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode


def sign_context(
    context: CallerContext, key: bytes, method: str, target: str, *, now: float | None = None
) -> bytes:
    """Return the header's value for one request (`target` is the raw path with the query).

    `now` is in Unix seconds; without it the machine's.
    """
    # `asdict` copies deeply, which costs as much as the rest of the signing.
    members = {name: value for name in _MEMBERS if (value := getattr(context, name))}
    members["exp"] = int(time.time() if now is None else now) + _LIFETIME_SECONDS
    payload = base64.urlsafe_b64encode(_encode(members).encode())
    return payload + b"." + _mac(key, method, target, payload)


def verify_context(header: bytes, key: bytes, method: str, target: str) -> CallerContext:
    """Check a header and return the caller it names.

    Raises:
        ContextRejected: it is not good for this request.
    """
    payload, _, mac = header.partition(b".")
    if len(header) > _MAX_BYTES or not hmac.compare_digest(mac, _mac(key, method, target, payload)):
        raise ContextRejected("forged")
    try:
        members: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload))
        left = members.pop("exp") - time.time()
        if not -_DIFFERENCE_SECONDS <= left <= _LIFETIME_SECONDS + _DIFFERENCE_SECONDS:
            raise ContextRejected("of another time")
        return _decode(members)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ContextRejected("malformed") from error


def _decode(members: dict[str, Any]) -> CallerContext:
    for name in ("client_id", "user_id", "session_id", "admin_id"):
        if name in members:
            members[name] = UUID(members[name])
    if "key_kind" in members:
        members["key_kind"] = KeyKind(members["key_kind"])
    for name in ("amr", "admin_permissions", "admin_scopes"):
        if name in members:
            members[name] = tuple(members[name])
    members["access"] = Access(members["access"])
    return CallerContext(**members)


def _mac(key: bytes, method: str, target: str, payload: bytes) -> bytes:
    digest = hmac.digest(key, f"{method}\n{target}\n".encode() + payload, "sha256")
    return binascii.hexlify(digest)
