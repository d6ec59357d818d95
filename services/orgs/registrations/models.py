"""The table of initial access tokens, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlmodel import Field

from chassis.ids import hash_of, new_id, new_secret, shown_part
from services.orgs.apps.models import StoredApp
from services.orgs.tables import Base

INITIAL_PREFIX = "iat_"
REGISTRATION_PREFIX = "rat_"


class InitialAccessTokenRow(Base, table=True):
    """What lets apps register. It is looked up before the tenant is known: jobs role only."""

    __tablename__ = "initial_access_tokens"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("uses BETWEEN 0 AND max_uses", name="uses"),
        Index("ix_initial_access_tokens_client_id_id", "client_id", "id"),
        {"info": {"tenant_role": ""}},
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field(sa_column=Column(ForeignKey("clients.id"), nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    prefix: str = Field(sa_column=Column(Text, nullable=False))
    token_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    max_uses: int = Field()
    uses: int = Field()
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    revoked_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    last_used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class TokenStatus(StrEnum):
    """What has become of an initial access token."""

    ACTIVE = "active"
    USED_UP = "used_up"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class InitialAccessToken:
    """A token without what makes it one."""

    id: UUID
    client_id: UUID
    name: str
    prefix: str
    max_uses: int
    uses: int
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def status(self, now: datetime) -> TokenStatus:
        """Return what has become of it."""
        if self.revoked_at is not None:
            return TokenStatus.REVOKED
        if self.uses >= self.max_uses:
            return TokenStatus.USED_UP
        return TokenStatus.EXPIRED if self.expires_at <= now else TokenStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class NewInitialAccessToken:
    """A new token, and the text that is shown once."""

    token: InitialAccessToken
    raw: str

    @property
    def sha256(self) -> bytes:
        """What is stored of it."""
        return hash_of(self.raw)


@dataclass(frozen=True, slots=True)
class Registered:
    """An app that registered itself, and what it is shown once: its secret, the token to change itself by."""

    app: StoredApp
    scopes: tuple[str, ...]
    client_secret: str | None = None
    registration_access_token: str | None = None


def draw_initial_token(
    client_id: UUID, name: str, *, max_uses: int, now: datetime, expires_at: datetime
) -> NewInitialAccessToken:
    """Draw an initial access token of 256 bits."""
    raw = new_secret(INITIAL_PREFIX)
    token = InitialAccessToken(
        id=new_id(),
        client_id=client_id,
        name=name,
        prefix=shown_part(raw),
        max_uses=max_uses,
        uses=0,
        created_at=now,
        expires_at=expires_at,
    )
    return NewInitialAccessToken(token, raw)
