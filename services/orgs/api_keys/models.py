"""The table of API keys, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlmodel import Field

from chassis.context import KeyKind
from chassis.ids import hash_of, new_id, new_secret, shown_part
from services.orgs.clients.models import Client
from services.orgs.tables import Base

_PREFIXES = {KeyKind.SECRET: "ask_", KeyKind.PUBLISHABLE: "apk_"}


class ApiKeyRow(Base, table=True):
    """An API key, known by its hash only. Keys are looked up before the tenant is known: jobs role only."""

    __tablename__ = "api_keys"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("kind IN ('secret', 'publishable')", name="kind"),
        Index("ix_api_keys_client_id_id", "client_id", "id"),
        {"info": {"tenant_role": ""}},
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field(sa_column=Column(ForeignKey("clients.id"), nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    prefix: str = Field(sa_column=Column(Text, nullable=False))
    key_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    revoked_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    last_used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class KeyStatus(StrEnum):
    """What has become of a key."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored. A revoked one is dead whatever the clock says; a grace ends at `expires_at`."""

    id: UUID
    client_id: UUID
    kind: KeyKind
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def status(self, now: datetime) -> KeyStatus:
        """Return what has become of the key."""
        if self.revoked_at is not None:
            return KeyStatus.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return KeyStatus.EXPIRED
        return KeyStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class ResolvedKey:
    """What a presented key stands for; `client` may be suspended."""

    id: UUID
    kind: KeyKind
    expires_at: datetime | None
    client: Client


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just drawn: `raw` is shown once and then known to its holder only."""

    key: ApiKey
    raw: str

    @property
    def key_sha256(self) -> bytes:
        """What is stored of it."""
        return hash_of(self.raw)


def draw_key(
    client_id: UUID, kind: KeyKind, name: str, now: datetime, expires_at: datetime | None = None
) -> NewApiKey:
    """Draw a key for a client; storing it is up to the caller."""
    raw = new_secret(_PREFIXES[kind])
    key = ApiKey(
        id=new_id(),
        client_id=client_id,
        kind=kind,
        name=name,
        prefix=shown_part(raw),
        created_at=now,
        expires_at=expires_at,
    )
    return NewApiKey(key, raw)
