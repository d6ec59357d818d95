"""Admins: the table, an admin as a value, and what becomes of a login."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from chassis.tables import sealed_column
from contracts.admin_roles import Role
from services.identity.tables import Base


class AdminStatus(StrEnum):
    """Whether an admin may log in, and its tokens open anything."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class AdminUserRow(Base, table=True):
    """An admin, of no tenant: only the jobs role, which spans tenants, sees it.

    Every TOTP code of a step up to `totp_last_step` has been used, and every assertion
    issued up to `sso_last_issued_at`. Tokens and waiting logins are of one `token_epoch`, and dead when that
    has grown.
    """

    __tablename__ = "admin_users"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended')", name="status"),
        CheckConstraint("cardinality(roles) > 0 AND cardinality(scopes) > 0", name="rights"),
        CheckConstraint("(sso_issuer IS NULL) = (sso_subject IS NULL)", name="sso"),
        Index("uq_admin_users_sso", "sso_issuer", "sso_subject", unique=True),
    )

    id: UUID = Field(primary_key=True)
    email: str = Field(sa_column=Column(Text, nullable=False))
    email_normalized: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    display_name: str = Field(sa_column=Column(Text, nullable=False))
    password_hash: str | None = Field(sa_column=Column(Text))
    roles: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False))
    mfa_required: bool = Field(sa_column=Column(Boolean, nullable=False))
    totp_secret: bytes | None = Field(sa_column=sealed_column("admin-totp:{id}", nullable=True))
    totp_pending: bytes | None = Field(sa_column=sealed_column("admin-totp:{id}", nullable=True))
    totp_last_step: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    sso_issuer: str | None = Field(sa_column=Column(Text))
    sso_subject: str | None = Field(sa_column=Column(Text))
    sso_last_issued_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    token_epoch: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    last_login_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class SsoIdentity:
    """Who an admin is at an identity provider."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Admin:
    """An admin as stored; `totp_secret` is sealed."""

    id: UUID
    email: str
    email_normalized: str
    display_name: str
    password_hash: str | None
    roles: tuple[Role, ...]
    scopes: tuple[str, ...]
    status: AdminStatus
    mfa_required: bool
    totp_secret: bytes | None
    totp_pending: bytes | None
    sso: SsoIdentity | None
    token_epoch: int
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None

    @property
    def is_active(self) -> bool:
        """False for a suspended admin."""
        return self.status is AdminStatus.ACTIVE

    def for_audit(self) -> dict[str, Any]:
        """What an event may show of it: rights and state, neither address nor secrets."""
        return {
            "roles": list(self.roles),
            "scopes": list(self.scopes),
            "status": self.status,
            "mfa_required": self.mfa_required,
            "mfa_enabled": self.totp_secret is not None,
            "has_password": self.password_hash is not None,
            "has_sso_identity": self.sso is not None,
        }


@dataclass(frozen=True, slots=True)
class Granted:
    """A login that is done: the token, and the seconds it lives."""

    access_token: str
    expires_in: int
    admin: Admin


@dataclass(frozen=True, slots=True)
class Waiting:
    """A login that waits for a code, or, `to_enroll`, for the set-up of an authenticator app first."""

    mfa_token: str
    expires_in: int
    to_enroll: bool


@dataclass(frozen=True, slots=True)
class Setup:
    """What an admin sees once to set up an authenticator app."""

    secret: str
    otpauth_url: str
    qr_svg: str
