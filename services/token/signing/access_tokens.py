"""What an access token says (RFC 9068 §2.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import MAX_CLOCK_DIFFERENCE
from chassis.ids import new_id
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.token_use import CLIENT_CREDENTIALS
from services.token.signing.algorithms import Signer
from services.token.status_lists.bits import status_claim

_DIFFERENCE_SECONDS = int(MAX_CLOCK_DIFFERENCE.total_seconds())

SIGNED = Counter("tokens_signed_total", "Access tokens signed.", ["alg"])


@dataclass(frozen=True, slots=True)
class Delegated:
    """What an app may do for a user: `scopes` at `audience`, which is empty for the tenant itself.

    `jkt` is the thumbprint of the key that the token is bound to (RFC 9449 §6), None for a bearer token.
    """

    app_id: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    jkt: str | None


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose token it is: the session, how it was proven, and the user as last heard of.

    A token never outlives `session_expires_at`. `act_json` is the `act` claim, empty for the user itself.
    `status_index` is the place in the status lists that says whether it was revoked.
    `delegated` is what the user allowed an app, None for the user's own token.
    """

    client_id: UUID
    session_id: UUID
    session_expires_at: datetime
    auth_time: datetime
    amr: tuple[str, ...]
    acr: str
    user: users_pb2.User
    token_use: str
    act_json: str
    status_index: int | None
    delegated: Delegated | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Whose token it is when no user is behind it: a service account, and the secret it was got with.

    Or an app (`is_app`), which is its own credential. An empty `audience` is the tenant itself. `acts_for` is
    the app that got the token by exchange, `act_json` who acts (RFC 8693 §4.1), and `ends_at` when the token
    that it came from does.
    """

    client_id: UUID
    account_id: UUID
    name: str
    credential_id: UUID
    scopes: tuple[str, ...]
    audience: tuple[str, ...] = ()
    jkt: str | None = None
    is_app: bool = False
    acts_for: str = ""
    act_json: str = ""
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token; `expires_in` is in seconds."""

    token: str
    expires_in: int


class AccessTokens:
    """Signs the access tokens of one issuer."""

    def __init__(self, issuer: str, ttl: timedelta, *, with_status: bool) -> None:
        """Take `iss`, how long a token lives, and whether it names its place in a status list."""
        self._with_status = with_status
        self._issuer = issuer
        self._ttl = int(ttl.total_seconds())

    async def sign(self, signer: Signer, subject: Subject, now: datetime) -> AccessToken:
        """Sign a user's access token.

        `iat` is the time of this process, which revocations go by. `nbf` is earlier by as much as clocks may
        differ (RFC 7519 §4.1.5), so that a validator whose clock is late takes the token at once.
        """
        issued_at = int(now.timestamp())
        expires_at = min(issued_at + self._ttl, int(subject.session_expires_at.timestamp()))
        user, delegated = subject.user, subject.delegated
        claims: dict[str, object] = {
            "iss": self._issuer,
            "sub": user.id,
            "aud": str(subject.client_id),
            "exp": expires_at,
            "iat": issued_at,
            "nbf": issued_at - _DIFFERENCE_SECONDS,
            "jti": str(new_id()),
            "sid": str(subject.session_id),
            "client_id": str(subject.client_id),
            "token_use": subject.token_use,
            "email": user.email,
            "role": user.role,
            "email_verified": user.email_verified,
            "auth_time": int(subject.auth_time.timestamp()),
            "amr": subject.amr,
            "acr": subject.acr,
        }
        if delegated is not None:
            _narrow(claims, delegated)
        if subject.act_json:
            claims["act"] = json.loads(subject.act_json)
        if self._with_status and subject.status_index is not None:
            claims["status"] = status_claim(self._issuer, subject.status_index)
        SIGNED.labels(str(signer.algorithm)).inc()
        return AccessToken(await signer.token(claims), max(0, expires_at - issued_at))

    async def sign_machine(self, signer: Signer, machine: Machine, now: datetime) -> AccessToken:
        """Sign a service account's access token.

        `sid` is the secret that it was got with, so that revoking that revokes the token, as ending a session
        does for a user's.
        """
        issued_at = int(now.timestamp())
        expires_at = issued_at + self._ttl
        if machine.ends_at is not None:
            expires_at = min(expires_at, int(machine.ends_at.timestamp()))
        claims: dict[str, object] = {
            "iss": self._issuer,
            "sub": str(machine.account_id),
            "aud": _audience(machine.audience) or str(machine.client_id),
            "exp": expires_at,
            "iat": issued_at,
            "nbf": issued_at - _DIFFERENCE_SECONDS,
            "jti": str(new_id()),
            "sid": str(machine.credential_id),
            "client_id": str(machine.client_id),
            "token_use": CLIENT_CREDENTIALS,
            "scope": " ".join(machine.scopes),
            "scopes": machine.scopes,
        }
        if azp := machine.acts_for or (str(machine.account_id) if machine.is_app else ""):
            claims["azp"] = azp
        if not machine.is_app:
            claims["service_account_id"] = str(machine.account_id)
            claims["service_account_name"] = machine.name
        if machine.act_json:
            claims["act"] = json.loads(machine.act_json)
        if machine.jkt is not None:
            claims["cnf"] = {"jkt": machine.jkt}
        SIGNED.labels(str(signer.algorithm)).inc()
        return AccessToken(await signer.token(claims), max(0, expires_at - issued_at))


def _narrow(claims: dict[str, object], delegated: Delegated) -> None:
    """Turn a user's claims into those of an app: it sees of the user what its scopes say."""
    if "email" not in delegated.scopes:
        del claims["email"], claims["email_verified"]
    if "profile" not in delegated.scopes:
        del claims["role"]
    claims["azp"] = delegated.app_id
    claims["scope"] = " ".join(delegated.scopes)
    claims["aud"] = _audience(delegated.audience) or claims["aud"]
    if delegated.jkt is not None:
        claims["cnf"] = {"jkt": delegated.jkt}


def _audience(resources: tuple[str, ...]) -> object:
    """Return `aud` for resources: one as text, several as a list, none as nothing."""
    return list(resources) if len(resources) > 1 else "".join(resources)
