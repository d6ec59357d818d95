"""The table of authorization codes, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from services.token.tables import Base


class AuthorizationCodeRow(Base, table=True):
    """A code under its SHA-256 and what it stands for; once used it keeps the session that it gave."""

    __tablename__ = "authorization_codes"

    code_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field(nullable=False)
    app_id: str = Field(sa_column=Column(Text, nullable=False))
    user_id: UUID = Field(nullable=False)
    parent_id: UUID = Field(nullable=False)
    scope: str = Field(sa_column=Column(Text, nullable=False))
    audience: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    nonce: str = Field(sa_column=Column(Text, nullable=False))
    requested_claims: str = Field(sa_column=Column(Text, nullable=False))
    redirect_uri: str = Field(sa_column=Column(Text, nullable=False))
    code_challenge: str = Field(sa_column=Column(Text, nullable=False))
    dpop_jkt: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))
    session_id: UUID | None = Field(default=None)


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a user, logged in with the session `parent_id`, granted an app.

    `scope` is words parted by spaces; an empty `audience` is the tenant itself; `requested_claims` is the
    `claims` parameter, or empty.
    """

    client_id: UUID
    app_id: str
    user_id: UUID
    parent_id: UUID
    scope: str
    audience: tuple[str, ...]
    nonce: str
    requested_claims: str

    @property
    def scopes(self) -> tuple[str, ...]:
        """The words of `scope`."""
        return tuple(self.scope.split(" ")) if self.scope else ()


@dataclass(frozen=True, slots=True)
class CodeBinding:
    """What a code is bound to beside its app; each empty when it is not."""

    redirect_uri: str
    code_challenge: str
    dpop_jkt: str


@dataclass(frozen=True, slots=True)
class StoredCode:
    """A code as stored; `session_id` is what it gave when it was used."""

    authorization: Authorization
    binding: CodeBinding
    expires_at: datetime
    session_id: UUID | None


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A grant that is to be opened; one without a refresh token's hash lives as long as its login."""

    id: UUID
    authorization: Authorization
    jkt: str | None
    ip: str
    user_agent: str
    now: datetime
    expires_at: datetime
    absolute_expires_at: datetime
    token_hash: bytes | None
