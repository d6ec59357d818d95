"""The table of revocations, and a revocation as the slice's value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from authservice_validator import RevocationKind
from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Index, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from services.token.tables import Base


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
