"""The tables of service accounts and their secrets, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from chassis.ids import hash_of, new_id, new_secret, shown_part
from services.token.tables import Base

SECRET_PREFIX = "sas_"  # noqa: S105 - what every secret begins with


class ServiceAccountStatus(StrEnum):
    """Whether an account may have tokens."""

    ACTIVE = "active"
    DISABLED = "disabled"


class ServiceAccountRow(Base, table=True):
    """A machine of a tenant."""

    __tablename__ = "service_accounts"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("status IN ('active', 'disabled')", name="status"),
        Index("ix_service_accounts_client_id_id", "client_id", "id"),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    name: str = Field(sa_column=Column(Text, nullable=False))
    description: str = Field(sa_column=Column(Text, nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False))
    jwks: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    deleted_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class ServiceAccountKeyRow(Base, table=True):
    """A secret of an account, known by its hash only."""

    __tablename__ = "service_account_keys"
    __table_args__: ClassVar[Any] = (
        Index("ix_service_account_keys_service_account_id", "service_account_id"),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    service_account_id: UUID = Field(
        sa_column=Column(ForeignKey("service_accounts.id", ondelete="CASCADE"), nullable=False)
    )
    name: str = Field(sa_column=Column(Text, nullable=False))
    prefix: str = Field(sa_column=Column(Text, nullable=False))
    secret_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    revoked_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    last_used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A machine of a tenant. `jwks_json` holds the public keys of `private_key_jwt`, None without."""

    id: UUID
    client_id: UUID
    name: str
    description: str
    scopes: tuple[str, ...]
    status: ServiceAccountStatus
    jwks_json: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_active(self) -> bool:
        """False for a disabled account, whose secrets and tokens open nothing."""
        return self.status is ServiceAccountStatus.ACTIVE


class KeyStatus(StrEnum):
    """What has become of a secret."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ServiceAccountKey:
    """A secret without what makes it one."""

    id: UUID
    client_id: UUID
    service_account_id: UUID
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def status(self, now: datetime) -> KeyStatus:
        """Return what has become of it."""
        if self.revoked_at is not None:
            return KeyStatus.REVOKED
        is_over = self.expires_at is not None and self.expires_at <= now
        return KeyStatus.EXPIRED if is_over else KeyStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new secret, and the text that is shown once."""

    key: ServiceAccountKey
    raw: str

    @property
    def sha256(self) -> bytes:
        """What is stored of it."""
        return hash_of(self.raw)


def draw_key(account: ServiceAccount, name: str, now: datetime, expires_at: datetime | None = None) -> NewKey:
    """Draw a secret of 256 bits for an account."""
    raw = new_secret(SECRET_PREFIX)
    key = ServiceAccountKey(
        id=new_id(),
        client_id=account.client_id,
        service_account_id=account.id,
        name=name,
        prefix=shown_part(raw),
        created_at=now,
        expires_at=expires_at,
    )
    return NewKey(key, raw)
