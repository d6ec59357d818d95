"""TOTP secrets: the table, and one as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Uuid, text
from sqlmodel import Field

from chassis.tables import sealed_column
from services.identity.logins.models import Opened
from services.identity.tables import Base


class TotpSecretRow(Base, table=True):
    """The secrets of a user, sealed for the user's id: the active one, and one that is being set up.

    Every code of a step up to `last_used_step` has been used. `pending_beside_factor` says whether the user
    had an active factor when the pending secret was allowed: if that has changed since, it is void.
    """

    __tablename__ = "totp_secrets"

    user_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    )
    client_id: UUID = Field()
    active: bytes | None = Field(sa_column=sealed_column("totp:{user_id}", nullable=True))
    last_used_step: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    enabled_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    pending: bytes | None = Field(sa_column=sealed_column("totp:{user_id}", nullable=True))
    pending_since: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    pending_beside_factor: bool = Field(
        sa_column=Column(Boolean, nullable=False, server_default=text("false"))
    )


@dataclass(frozen=True, slots=True)
class PendingSecret:
    """A secret that is being set up; `sealed` names it, as no two seals are alike."""

    sealed: bytes
    beside_factor: bool


@dataclass(frozen=True, slots=True)
class Setup:
    """What a user sees once to set up an authenticator app."""

    secret: str
    otpauth_url: str
    qr_svg: str


@dataclass(frozen=True, slots=True)
class Enabled:
    """What turning the app on gives: codes that are shown once, and a session to who enrolled."""

    recovery_codes: list[str]
    opened: Opened | None
