"""What identity owes the token service: the table, and one duty as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Integer, Text, text
from sqlmodel import Field

from chassis.context import Access
from services.identity.tables import Base


class DutyKind(StrEnum):
    """What has to be done; to put a user that was deleted meanwhile is to let it be forgotten."""

    END_SESSIONS = "end_sessions"
    PUT_USER = "put_user"


class SessionDutyRow(Base, table=True):
    """A call to the token service that a committed change of a user requires; `access`: whose deed it is."""

    __tablename__ = "session_duties"
    __table_args__ = (CheckConstraint("kind IN ('end_sessions', 'put_user')", name="kind"),)

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    user_id: UUID = Field()
    kind: str = Field(sa_column=Column(Text, nullable=False))
    except_session_id: UUID | None = Field(default=None)
    reason: str = Field(sa_column=Column(Text, nullable=False))
    request_id: str = Field(sa_column=Column(Text, nullable=False))
    access: str = Field(sa_column=Column(Text, nullable=False, server_default=text("'user'")))
    admin_id: UUID | None = Field(default=None)
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))


@dataclass(frozen=True, slots=True)
class Duty:
    """One call that is owed, for a deed of the user itself or, by `access`, of an admin."""

    id: UUID
    client_id: UUID
    user_id: UUID
    kind: DutyKind
    reason: str
    request_id: str
    access: Access = Access.USER
    admin_id: UUID | None = None
    except_session_id: UUID | None = None
    attempts: int = 0
