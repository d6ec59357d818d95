"""What identity owes the token service: the table, and one duty as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Integer, Text, text
from sqlmodel import Field

from services.identity.tables import Base


class DutyKind(StrEnum):
    """What has to be done."""

    END_SESSIONS = "end_sessions"
    PUT_USER = "put_user"


class SessionDutyRow(Base, table=True):
    """A call to the token service that a committed change of a user requires."""

    __tablename__ = "session_duties"
    __table_args__ = (CheckConstraint("kind IN ('end_sessions', 'put_user')", name="kind"),)

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    user_id: UUID = Field()
    kind: str = Field(sa_column=Column(Text, nullable=False))
    except_session_id: UUID | None = Field(default=None)
    reason: str = Field(sa_column=Column(Text, nullable=False))
    request_id: str = Field(sa_column=Column(Text, nullable=False))
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))


@dataclass(frozen=True, slots=True)
class Duty:
    """One call that is owed."""

    id: UUID
    client_id: UUID
    user_id: UUID
    kind: DutyKind
    reason: str
    request_id: str
    except_session_id: UUID | None = None
    attempts: int = 0
