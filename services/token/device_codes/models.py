"""The table of device codes, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from services.token.grants.models import Authorization
from services.token.tables import Base


class DeviceCodeStatus(StrEnum):
    """What has become of a device's request."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    REDEEMED = "redeemed"


class DeviceCodeRow(Base, table=True):
    """A device's request under the SHA-256 of its code, and of the code that its user types."""

    __tablename__ = "device_codes"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("status IN ('waiting', 'approved', 'refused', 'redeemed')", name="status"),
        Index("uq_device_codes_user_code_hash", "user_code_hash", unique=True),
        Index("ix_device_codes_expires_at", "expires_at"),
    )

    code_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    user_code_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    client_id: UUID = Field(nullable=False)
    app_id: str = Field(sa_column=Column(Text, nullable=False))
    scope: str = Field(sa_column=Column(Text, nullable=False))
    audience: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    ip: str = Field(sa_column=Column(Text, nullable=False))
    user_agent: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    interval_seconds: int = Field(sa_column=Column(Integer, nullable=False))
    polled_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    status: str = Field(sa_column=Column(Text, nullable=False))
    user_id: UUID | None = Field(default=None)
    parent_id: UUID | None = Field(default=None)
    session_id: UUID | None = Field(default=None)


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What a device asks for, and from where it asked."""

    client_id: UUID
    app_id: str
    scope: str
    audience: tuple[str, ...]
    ip: str
    user_agent: str
    expires_at: datetime

    @property
    def scopes(self) -> tuple[str, ...]:
        """The words of `scope`."""
        return tuple(self.scope.split(" ")) if self.scope else ()


@dataclass(frozen=True, slots=True)
class NewDeviceCode:
    """A fresh request: the code that the device keeps, and the one that its user types."""

    device_code: str
    user_code: str


@dataclass(frozen=True, slots=True)
class Poll:
    """What a device's question found; `authorization` only for the one that gets the tokens."""

    status: DeviceCodeStatus
    is_expired: bool
    is_too_soon: bool
    authorization: Authorization | None
