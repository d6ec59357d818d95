"""The table of used assertions, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Column, DateTime, LargeBinary
from sqlmodel import Field

from contracts.apps import App
from services.token.service_accounts.models import ServiceAccount
from services.token.tables import Base


class UsedAssertionRow(Base, table=True):
    """An assertion of `private_key_jwt` that was used, until it has expired: each is good once."""

    __tablename__ = "used_assertions"

    jti_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field(nullable=False)
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))


class AuthMethod(StrEnum):
    """How a client proves itself (OpenID Connect Core §9)."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request says of its client: an id, and a secret or an assertion, or neither.

    `shown` are the codes and tokens that it presents, and `resources` what it asks for: by them the tenant of
    a client id metadata document is found.
    """

    client_id: str
    method: AuthMethod
    secret: str = ""
    assertion: str = ""
    shown: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthenticatedAccount:
    """A service account that has proven itself; `credential_id` is the secret it did so with.

    With `private_key_jwt` that is the account itself.
    """

    account: ServiceAccount
    credential_id: UUID
    method: AuthMethod


@dataclass(frozen=True, slots=True)
class AuthenticatedApp:
    """An app that has proven itself; a public one only named itself, which `is_confidential` tells."""

    app: App
    method: AuthMethod

    @property
    def is_confidential(self) -> bool:
        """Whether it has proven to be the app."""
        return self.method is not AuthMethod.NONE


Authenticated = AuthenticatedAccount | AuthenticatedApp
"""A client of the OAuth endpoints."""


@dataclass(frozen=True, slots=True)
class LiveRefreshToken:
    """A refresh token of a grant that would be accepted now; `jkt` names the key that it is bound to."""

    session_id: UUID
    user_id: UUID
    scope: str
    jkt: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A successful answer of the token endpoint (RFC 6749 §5.1); what is empty is not in it."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str = ""
    id_token: str = ""
    issued_token_type: str = ""

    def document(self) -> dict[str, object]:
        """Return its members."""
        members: dict[str, object] = {
            "access_token": self.access_token,
            "token_type": self.token_type,
            "expires_in": self.expires_in,
            "scope": self.scope,
        }
        for name in ("refresh_token", "id_token", "issued_token_type"):
            if value := getattr(self, name):
                members[name] = value
        return members


def token_type(jkt: str | None) -> str:
    """Return the scheme that a token goes with (RFC 9449 §5)."""
    return "Bearer" if jkt is None else "DPoP"
