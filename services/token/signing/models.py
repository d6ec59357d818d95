"""The tables of signing keys and JWT secrets, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    SmallInteger,
    Text,
    text,
)
from sqlmodel import Field

from chassis.tables import sealed_column
from services.token.signing.algorithms import Algorithm
from services.token.tables import Base

ISSUER_ID: Final = UUID(int=0)
"""Owner of the issuer's own keys, which sign what is not an access token; no client has this id."""


class KeyStatus(StrEnum):
    """Where a signing key stands: published, signing, or published only for the tokens it has signed."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"


class SigningKeyRow(Base, table=True):
    """A client's key pair; the private half is sealed for `signing_key:<kid>`, destroyed on retiring."""

    __tablename__ = "signing_keys"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("status IN ('next', 'active', 'retiring')", name="status"),
        Index(
            "uq_signing_keys_next", "client_id", "alg", unique=True, postgresql_where=text("status = 'next'")
        ),
        Index(
            "uq_signing_keys_active",
            "client_id",
            "alg",
            unique=True,
            postgresql_where=text("status = 'active'"),
        ),
        Index("ix_signing_keys_client_id", "client_id"),
    )

    kid: str = Field(sa_column=Column(Text, primary_key=True))
    client_id: UUID = Field(nullable=False)
    alg: str = Field(sa_column=Column(Text, nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False))
    public_jwk: str = Field(sa_column=Column(Text, nullable=False))
    sealed: bytes | None = Field(sa_column=sealed_column("signing_key:{kid}", nullable=True))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    activated_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    retires_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    claimed_until: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class KeyRotationPeriodRow(Base, table=True):
    """A client's own period of rotation in seconds, 0 for never; without a row the installation's counts."""

    __tablename__ = "key_rotation_periods"
    __table_args__ = (CheckConstraint("seconds >= 0", name="seconds"),)

    client_id: UUID = Field(primary_key=True)
    seconds: int = Field(sa_column=Column(BigInteger, nullable=False))


class JwtSecretRow(Base, table=True):
    """A client's HS256 secret, sealed for `jwt_secret:<kid>`; a revoked one is kept without its value."""

    __tablename__ = "jwt_secrets"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("status IN ('active', 'revoked')", name="status"),
        Index("uq_jwt_secrets_active", "client_id", unique=True, postgresql_where=text("status = 'active'")),
    )

    kid: str = Field(sa_column=Column(Text, primary_key=True))
    client_id: UUID = Field(nullable=False)
    status: str = Field(sa_column=Column(Text, nullable=False))
    sealed: bytes | None = Field(sa_column=sealed_column("jwt_secret:{kid}", nullable=True))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    revoked_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class SealCheckRow(Base, table=True):
    """One sealed value that tells at start whether MASTER_KEY opens what this database holds."""

    __tablename__ = "seal_check"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    sealed: bytes = Field(sa_column=sealed_column("seal_check:{id}"))


@dataclass(frozen=True, slots=True)
class SealedKey:
    """What signs, as stored: opened by `Keyring` only."""

    kid: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class NextKey:
    """The published key that takes over at the next rotation."""

    kid: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A signing key as an admin sees it; `due_at` is when the schedule rotates an active one."""

    kid: str
    alg: str
    status: KeyStatus
    created_at: datetime
    activated_at: datetime | None
    due_at: datetime | None
    retires_at: datetime | None


@dataclass(frozen=True, slots=True)
class DueKey:
    """An active key that the schedule has claimed."""

    kid: str
    owner: UUID
    algorithm: Algorithm


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A key revoked in an emergency, where it stood, and what its owner's keys are now."""

    kid: str
    algorithm: Algorithm
    status: KeyStatus
    active_kid: str | None
    next_kid: str | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """The keys after a rotation, by name."""

    algorithm: Algorithm
    active_kid: str
    next_kid: str
    retiring_kid: str | None
