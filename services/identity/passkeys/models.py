"""Passkeys: the table, a passkey as values, and the ceremonies that wait in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from services.identity.tables import Base
from services.identity.users.models import User

NOBODY = UUID(int=0)
"""Stands for the user of an address without one: no passkey is ever theirs."""


class PasskeyRow(Base, table=True):
    """A credential record (WebAuthn Level 3 §4). `user_verified` says that it has ever verified its user."""

    __tablename__ = "passkeys"
    __table_args__ = (UniqueConstraint("client_id", "credential_id"),)

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    user_id: UUID = Field(
        sa_column=Column(ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True)
    )
    credential_id: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    public_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sign_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    aaguid: UUID = Field()
    transports: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    attestation_format: str = Field(sa_column=Column(Text, nullable=False))
    backup_eligible: bool = Field(sa_column=Column(Boolean, nullable=False))
    backed_up: bool = Field(sa_column=Column(Boolean, nullable=False))
    user_verified: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    last_used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    clone_suspected_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey as the store reads it."""

    id: UUID
    user_id: UUID
    credential_id: bytes
    public_key: bytes
    sign_count: int
    name: str
    aaguid: UUID
    transports: tuple[str, ...]
    attestation_format: str
    backup_eligible: bool
    backed_up: bool
    user_verified: bool
    created_at: datetime
    last_used_at: datetime | None
    clone_suspected_at: datetime | None


@dataclass(frozen=True, slots=True)
class Registered:
    """What a verified registration says of the new credential."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    aaguid: UUID
    attestation_format: str
    backup_eligible: bool
    backed_up: bool
    user_verified: bool


@dataclass(frozen=True, slots=True)
class Asserted:
    """A user, proven by a passkey."""

    user: User
    passkey: Passkey
    user_verified: bool

    @property
    def amr(self) -> tuple[str, ...]:
        """What was shown (RFC 8176 §2): a key in hardware unless it may be copied between devices."""
        key = "swk" if self.passkey.backup_eligible else "hwk"
        return (key, "user", "mfa") if self.user_verified else (key, "user")


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration that waits for the authenticator; it is of one user in one session."""

    session_id: str
    client_id: UUID
    user_id: UUID
    login_session_id: UUID | None
    auth_epoch: int

    def encode(self) -> dict[str, Any]:
        """Return the JSON object that is kept."""
        login = str(self.login_session_id) if self.login_session_id else None
        return {
            "session_id": self.session_id,
            "client_id": str(self.client_id),
            "user_id": str(self.user_id),
            "login_session_id": login,
            "auth_epoch": self.auth_epoch,
        }

    @classmethod
    def decode(cls, members: Mapping[str, Any]) -> Self:
        """Read what `encode` made."""
        login = members["login_session_id"]
        return cls(
            session_id=members["session_id"],
            client_id=UUID(members["client_id"]),
            user_id=UUID(members["user_id"]),
            login_session_id=UUID(login) if login else None,
            auth_epoch=members["auth_epoch"],
        )


@dataclass(frozen=True, slots=True)
class Assertion:
    """A login that waits for the authenticator.

    `user_id` is None when any user may answer (discoverable). `mfa_token` names the login whose second factor
    this is.
    """

    client_id: UUID
    challenge: str
    user_id: UUID | None
    needs_user_verification: bool
    mfa_token: str | None = None

    def encode(self) -> dict[str, Any]:
        """Return the JSON object that is kept."""
        return {
            "client_id": str(self.client_id),
            "challenge": self.challenge,
            "user_id": str(self.user_id) if self.user_id else None,
            "needs_user_verification": self.needs_user_verification,
            "mfa_token": self.mfa_token,
        }

    @classmethod
    def decode(cls, members: Mapping[str, Any]) -> Self:
        """Read what `encode` made."""
        return cls(
            client_id=UUID(members["client_id"]),
            challenge=members["challenge"],
            user_id=UUID(members["user_id"]) if members["user_id"] else None,
            needs_user_verification=members["needs_user_verification"],
            mfa_token=members["mfa_token"],
        )
