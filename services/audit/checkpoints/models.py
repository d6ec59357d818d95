"""Checkpoints, the key they are signed with, and their values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, SmallInteger, Text, Uuid
from sqlmodel import Field

from chassis.tables import sealed_column
from services.audit.ingest.models import Head
from services.audit.tables import Base


class CheckpointRow(Base, table=True):
    """A signed statement that a chain had a hash at a position; append-only, as the log is."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        Index("ix_checkpoints_created_at", "created_at", "client_id"),
        {"info": {"tenant_role": "SELECT", "jobs_role": "SELECT, INSERT"}},
    )

    client_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    kid: str = Field(sa_column=Column(Text, nullable=False))
    signed: str = Field(sa_column=Column(Text, nullable=False))


class CheckpointKeyRow(Base, table=True):
    """The one signing key, sealed; `slot` is always 1, so that two processes cannot make two."""

    __tablename__ = "checkpoint_keys"
    __table_args__ = ({"info": {"jobs_role": "SELECT, INSERT, UPDATE (sealed_key)"}},)

    slot: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    kid: str = Field(sa_column=Column(Text, nullable=False))
    sealed_key: bytes = Field(sa_column=sealed_column("checkpoint_key:{kid}"))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement; `signed` is a JWS of chain, position, hash, time and predecessor."""

    client_id: UUID
    position: int
    hash: bytes
    created_at: datetime
    kid: str
    signed: str


@dataclass(frozen=True, slots=True)
class DueHead:
    """A locked head that wants a checkpoint, and the signed text of its last one."""

    head: Head
    last_signed: str | None
