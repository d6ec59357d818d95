"""Attempts at passwords: the counters, and what became of one attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Column, DateTime, Integer, LargeBinary, Text
from sqlmodel import Field

from services.identity.tables import Base

ANYWHERE = "*"
"""The source that counts an address from all networks together."""


class LoginAttemptsRow(Base, table=True):
    """Attempts on one address from one source in the running window, with or without an account."""

    __tablename__ = "login_attempts"

    client_id: UUID = Field(primary_key=True)
    email_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    source: str = Field(sa_column=Column(Text, primary_key=True))
    attempts: int = Field(sa_column=Column(Integer, nullable=False))
    locks: int = Field(sa_column=Column(Integer, nullable=False))
    window_started_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    locked_until: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))


@dataclass(frozen=True, slots=True)
class LockoutRules:
    """How many attempts in a window lock an address, and for how long."""

    threshold: int
    account_threshold: int
    window: timedelta
    shortest: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True)
class Counted:
    """One counted attempt; `locked_until` is set when it was the last one allowed."""

    source: str
    number: int
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A reserved attempt at the password of an address: to be evaluated, and then settled or released.

    From a known device only what that device tries is counted: `anywhere` is None.
    """

    email_hash: bytes
    here: Counted
    anywhere: Counted | None

    @property
    def counted(self) -> tuple[Counted, ...]:
        """Where it was counted."""
        return (self.here,) if self.anywhere is None else (self.here, self.anywhere)

    @property
    def locked_until(self) -> datetime | None:
        """Until when the address is locked if this attempt fails; None unless it is the last one."""
        return max(
            (counted.locked_until for counted in self.counted if counted.locked_until is not None),
            default=None,
        )
