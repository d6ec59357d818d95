"""The table of logout deliveries, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Integer, Text, UniqueConstraint, text
from sqlmodel import Field

from services.federation.tables import Base


class DeliveryStatus(StrEnum):
    """Where a delivery is; the last two are final, until the same app logs in by the same session again."""

    QUEUED = "queued"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


class LogoutDeliveryRow(Base, table=True):
    """That an app is to be told, or was told, of the end of a login; `session_id` is the issuer session.

    `due_at` is when it is to be tried (again): who claims a delivery moves it past its lease, so that the
    delivery of a process that died becomes due by itself.
    """

    __tablename__ = "logout_deliveries"
    __table_args__ = (
        UniqueConstraint("session_id", "app_id"),
        CheckConstraint("status IN ('queued', 'sending', 'delivered', 'failed')", name="status"),
        Index(
            "ix_logout_deliveries_due_at", "due_at", postgresql_where=text("status IN ('queued', 'sending')")
        ),
        Index("ix_logout_deliveries_created_at", "created_at", postgresql_using="brin"),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    app_id: str = Field(sa_column=Column(Text, nullable=False))
    user_id: UUID = Field()
    session_id: UUID = Field()
    status: str = Field(sa_column=Column(Text, nullable=False, server_default=text("'queued'")))
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    finished_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class EndedLogin:
    """That a login which an app relied on ended, at a time."""

    client_id: UUID
    app_id: str
    user_id: UUID
    session_id: UUID
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that this process has claimed; `attempts` counts this one."""

    id: UUID
    client_id: UUID
    app_id: str
    user_id: UUID
    session_id: UUID
    attempts: int
    created_at: datetime
