"""Changes of addresses: the table, and a change as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlmodel import Field

from services.identity.tables import Base


class EmailChangeRow(Base, table=True):
    """A change that somebody asked for, under the SHA-256 of the way back, which the old address was sent.

    It is changed once the new address is confirmed, and over once it was taken back, or another one of before
    it was. The old address is kept from strangers until `way_back_until`.
    """

    __tablename__ = "email_changes"
    __table_args__ = (
        Index("ix_email_changes_user_id", "user_id"),
        Index("ix_email_changes_old_email", "client_id", "old_email_normalized"),
        Index("ix_email_changes_way_back_until", "way_back_until"),
    )

    way_back_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field()
    user_id: UUID = Field(sa_column=Column(ForeignKey("users.id", ondelete="CASCADE"), nullable=False))
    old_email: str = Field(sa_column=Column(Text, nullable=False))
    old_email_normalized: str = Field(sa_column=Column(Text, nullable=False))
    old_email_verified: bool = Field(sa_column=Column(Boolean, nullable=False))
    requested_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    way_back_until: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    changed_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    over_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A change that was taken back just now; `was_changed` says whether the address had changed already."""

    user_id: UUID
    was_changed: bool
