"""The table of deleted accounts, and what an export holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, LargeBinary
from sqlmodel import Field

from contracts.gen.internal.token.v1 import sessions_pb2
from services.identity.devices.models import Device
from services.identity.passkeys.models import Passkey
from services.identity.recovery_codes.models import CodesLeft
from services.identity.tables import Base
from services.identity.users.models import User


class DeletedUserRow(Base, table=True):
    """What stays of a deleted user: that the id was used, and a keyed hash of the address."""

    __tablename__ = "deleted_users"
    __table_args__ = ({"info": {"tenant_role": "SELECT, INSERT"}},)

    user_id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    deleted_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    email_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


@dataclass(frozen=True, slots=True)
class PastLogin:
    """A login of the history."""

    at: datetime
    method: str
    network: str
    user_agent: str
    country: str | None
    risk_level: str
    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What identity itself holds on a user."""

    user: User
    password_changed_at: datetime | None
    totp_enabled_at: datetime | None
    recovery_codes: CodesLeft
    passkeys: Sequence[Passkey]
    devices: Sequence[Device]
    logins: Sequence[PastLogin]


@dataclass(frozen=True, slots=True)
class Export:
    """Everything that is held on a user."""

    made_at: datetime
    holdings: Holdings
    sessions: Sequence[sessions_pb2.ListedSession]
