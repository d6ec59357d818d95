"""The table of codes, and a code's content as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, LargeBinary
from sqlmodel import Field

from chassis.tables import sealed_column
from services.token.tables import Base


class ExchangeCodeRow(Base, table=True):
    """A code under its SHA-256, and the sealed outcome that it stands for; exchanged, it is gone."""

    __tablename__ = "exchange_codes"

    code_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field()
    session_id: UUID | None = Field(default=None)
    sealed: bytes = Field(sa_column=sealed_column("exchange_code:{code_hash}"))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))


@dataclass(frozen=True, slots=True)
class Kept:
    """What a code stood for."""

    sealed: bytes
    session_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """The session behind a code that nobody exchanged in time."""

    client_id: UUID
    session_id: UUID
