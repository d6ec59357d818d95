"""The table of revocations, and a revocation as the slice's value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from authservice_validator import RevocationKind
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from services.token.tables import Base

START = (UUID(int=0), UUID(int=0))
"""Where a walk through sessions begins: before every user and id."""


class RevocationRow(Base, table=True):
    """What kills access tokens: everything that `ref` names and that was issued at or before `not_after`."""

    __tablename__ = "revocations"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("kind IN ('session', 'user', 'client', 'token', 'key')", name="kind"),
        Index("ix_revocations_ref", "ref"),
        Index("ix_revocations_created_at", "created_at"),
        Index("ix_revocations_expires_at", "expires_at"),
        {"info": {"tenant_role": "INSERT"}},
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    client_id: UUID = Field(nullable=False)
    kind: str = Field(sa_column=Column(Text, nullable=False))
    ref: str = Field(sa_column=Column(Text, nullable=False))
    not_after: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    created_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    status_indices: list[int] | None = Field(sa_column=Column(ARRAY(BigInteger)))


class StatusSweepRow(Base, table=True):
    """A revocation of many sessions' tokens whose places in the status lists are not all dead yet.

    Walks through the client's sessions by user and id, and has come to `after_user_id` and `after_id`. Those
    with a place above `last_index` were opened, or given it, after the revocation. `is_incomplete` says that
    this walk passed somebody over, so that another must follow.
    """

    __tablename__ = "status_sweeps"
    __table_args__: ClassVar[Any] = ({"info": {"tenant_role": "INSERT"}},)

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    client_id: UUID = Field(nullable=False)
    kind: str = Field(sa_column=Column(Text, nullable=False))
    ref: str = Field(sa_column=Column(Text, nullable=False))
    not_after: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    since: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    last_index: int = Field(sa_column=Column(BigInteger, nullable=False))
    after_user_id: UUID = Field(sa_column=Column(Uuid, nullable=False, server_default=str(START[0])))
    after_id: UUID = Field(sa_column=Column(Uuid, nullable=False, server_default=str(START[1])))
    is_incomplete: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    created_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )


@dataclass(frozen=True, slots=True)
class Revocation:
    """Kills every token that `ref` names and that was issued at or before `not_after`.

    From `expires_at` on, the last token it could name has expired by itself.
    """

    client_id: UUID
    kind: RevocationKind
    ref: str
    not_after: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NumberedRevocation:
    """A revocation as stored; numbers are given in order of writing, which is not the order of commits.

    `status_indices` are the places in the status lists that it kills.
    """

    number: int
    revocation: Revocation
    created_at: datetime
    status_indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A revocation whose places in the status lists are being killed: see `StatusSweepRow`."""

    number: int
    revocation: Revocation
    since: datetime
    last_index: int
    after: tuple[UUID, UUID]
    is_incomplete: bool


@dataclass(frozen=True, slots=True)
class SweptSessions:
    """A part of a sweep: the places that were left, and where to go on, None at the end of the walk."""

    places: list[int]
    passed_over: bool
    last: tuple[UUID, UUID] | None
