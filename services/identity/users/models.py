"""Users: the table, and a user as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Text,
    UniqueConstraint,
    column,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from services.identity.tables import Base

UserId = NewType("UserId", UUID)


class UserStatus(StrEnum):
    """Whether a user may use what it has."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class UserRow(Base, table=True):
    """A user of a client. `version` grows with each change, so that news which arrive late never win.

    `auth_epoch` grows when what proved the user before must open nothing any more: a changed password or
    address, a suspension. A login that began in an older one cannot be completed.
    """

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("client_id", "email_normalized"),
        CheckConstraint("status IN ('active', 'suspended')", name="status"),
        Index("ix_users_client_id_id", "client_id", "id"),
        # Beginnings of addresses and names, whatever the collation of the database.
        Index(
            "ix_users_email_prefix",
            "client_id",
            "email_normalized",
            postgresql_ops={"email_normalized": "text_pattern_ops"},
        ),
        Index(
            "ix_users_name_prefix",
            "client_id",
            func.lower(column("display_name")).label("name"),
            postgresql_ops={"name": "text_pattern_ops"},
        ),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    email: str = Field(sa_column=Column(Text, nullable=False))
    email_normalized: str = Field(sa_column=Column(Text, nullable=False))
    email_verified: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    display_name: str = Field(sa_column=Column(Text, nullable=False, server_default=text("''")))
    role: str = Field(sa_column=Column(Text, nullable=False, server_default=text("'user'")))
    status: str = Field(sa_column=Column(Text, nullable=False, server_default=text("'active'")))
    mfa_enabled: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    # `metadata` is SQLModel's own name.
    profile_metadata: dict[str, Any] = Field(
        sa_column=Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb"))
    )
    locale: str | None = Field(sa_column=Column(Text))
    phone: str | None = Field(sa_column=Column(Text))
    auth_epoch: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("1")))
    version: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("1")))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    last_login_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class User:
    """A user as the store reads it; `metadata_json` stays text, because nobody here looks inside."""

    id: UserId
    client_id: UUID
    email: str
    email_normalized: str
    email_verified: bool
    display_name: str
    role: str
    status: UserStatus
    mfa_enabled: bool
    metadata_json: str
    locale: str | None
    phone: str | None
    auth_epoch: int
    version: int
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None

    @property
    def is_active(self) -> bool:
        """False for a suspended user, who may neither log in nor use a session."""
        return self.status is UserStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class NewUser:
    """What a new user starts with."""

    id: UserId
    email: str
    email_normalized: str
    display_name: str
    metadata_json: str
    now: datetime


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """A change of the own profile: the columns named in `fields` take these values, the others stay."""

    fields: frozenset[str]
    display_name: str | None = None
    metadata_json: str | None = None
    locale: str | None = None
    phone: str | None = None
