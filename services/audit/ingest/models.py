"""The log and the heads of its chains, and their values.

The log is append-only: no role of the service may change or delete a row. What changes later, or is decided
later, lives beside it: a legal hold is a row of its own, retention follows from `occurred_at` and the
client's settings, and a purge leaves position and hash of what it took, so that the chain stays verifiable
across it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlmodel import Field

from chassis.tables import Keyed, keyed_column
from services.audit.tables import Base

PLATFORM = UUID(int=0)
"""The chain of events that belong to no client; no client ever has this id."""

GENESIS = bytes(32)
"""The hash before a chain's first."""


class AuditEventRow(Base, table=True):
    """One event, as it happened; partitioned by the month it happened in.

    `data` is `json`, not `jsonb`: the hash covers its exact text. The partitions live in a schema of their
    own, to which no role of the service has access but through this table.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        PrimaryKeyConstraint("client_id", "position", "occurred_at"),
        # Leads with the time: it also serves the newest events of the whole platform.
        UniqueConstraint("occurred_at", "event_id"),
        Index("ix_audit_events_client", "client_id", "occurred_at", "event_id"),
        Index("ix_audit_events_client_type", "client_id", "type", "occurred_at", "event_id"),
        Index("ix_audit_events_type", "type", "occurred_at", "event_id"),
        Index("ix_audit_events_actor", "actor_id", "occurred_at", "event_id"),
        Index("ix_audit_events_target", "target_id", "occurred_at", "event_id"),
        Index("ix_audit_events_request", "request_id", "occurred_at", "event_id"),
        {
            "postgresql_partition_by": "RANGE (occurred_at)",
            "info": {"tenant_role": "SELECT", "jobs_role": "SELECT, INSERT"},
        },
    )

    client_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    occurred_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    event_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    type: str = Field(sa_column=Column(Text, nullable=False))
    service: str = Field(sa_column=Column(Text, nullable=False))
    actor_type: str = Field(sa_column=Column(Text, nullable=False))
    actor_id: str | None = Field(sa_column=Column(Text))
    target_type: str | None = Field(sa_column=Column(Text))
    target_id: str | None = Field(sa_column=Column(Text))
    session_id: UUID | None = Field(sa_column=Column(Uuid))
    ip: str = Field(sa_column=Column(Text, nullable=False))
    user_agent: str = Field(sa_column=Column(Text, nullable=False))
    request_id: str = Field(sa_column=Column(Text, nullable=False))
    data: str = Field(sa_column=Column(JSON, nullable=False))
    key_id: bytes = Field(
        sa_column=keyed_column(
            Keyed("Events are verified under the key they were written under: keep it as long as them.")
        )
    )
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class ChainHeadRow(Base, table=True):
    """Where a chain ends; locked while it grows, so that it never forks.

    `mac` covers position, hash and `checkpoint_position`. `broken_position` is set when an append found the
    head not to be what was written: the log goes on recording, and the head never counts as proven again.
    """

    __tablename__ = "chain_heads"
    __table_args__ = (
        Index("ix_chain_heads_news", "news_since", postgresql_where=text("news_since IS NOT NULL")),
        {"info": {"tenant_role": "", "jobs_role": "SELECT, INSERT, UPDATE"}},
    )

    client_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    checkpoint_position: int = Field(sa_column=Column(BigInteger, nullable=False))
    key_id: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    mac: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    broken_position: int | None = Field(sa_column=Column(BigInteger))
    news_since: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class Record:
    """One event as the log keeps it: everything the chain covers. `data` is the JSON text that is stored."""

    client_id: UUID
    event_id: UUID
    type: str
    service: str
    occurred_at: datetime
    recorded_at: datetime
    actor_type: str
    actor_id: str | None
    target_type: str | None
    target_id: str | None
    session_id: UUID | None
    ip: str
    user_agent: str
    request_id: str
    data: str


@dataclass(frozen=True, slots=True)
class Link:
    """A record at its place in its chain."""

    record: Record
    position: int
    key_id: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends, with the proof of it."""

    client_id: UUID
    position: int
    hash: bytes
    checkpoint_position: int
    key_id: bytes
    mac: bytes
    broken_position: int | None
