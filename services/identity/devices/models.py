"""The table of devices, and a device as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlmodel import Field

from services.identity.tables import Base


class DeviceRow(Base, table=True):
    """A browser of a user, known by a token that names it and changes at each login.

    Trust is bound to the user's `auth_epoch`, so that whatever voids the user's proofs voids it too.
    """

    __tablename__ = "devices"
    __table_args__ = (Index("ix_devices_user_id_last_seen_at", "user_id", "last_seen_at"),)

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    user_id: UUID = Field(sa_column=Column(ForeignKey("users.id", ondelete="CASCADE"), nullable=False))
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    name: str | None = Field(sa_column=Column(Text))
    user_agent: str = Field(sa_column=Column(Text, nullable=False))
    ip: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    last_seen_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    trusted_until: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    trusted_epoch: int | None = Field(sa_column=Column(BigInteger))
    session_id: UUID | None = Field(default=None)


@dataclass(frozen=True, slots=True)
class Device:
    """A remembered device, with the session of its last login; `trusted_until` is set while trust is good."""

    id: UUID
    name: str | None
    user_agent: str
    ip: str
    created_at: datetime
    last_seen_at: datetime
    trusted_until: datetime | None
    session_id: UUID | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a login leaves at the device: its new token, and until when it is to be trusted, if at all."""

    device_id: UUID
    token_hash: bytes
    user_agent: str
    ip: str
    session_id: UUID
    now: datetime
    trusted_until: datetime | None
