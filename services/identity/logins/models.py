"""A login's values: the proof so far, what the browser carries, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, Double, ForeignKey, Index, Text
from sqlmodel import Field

from chassis.database import Tx
from contracts.gen.internal.token.v1 import sessions_pb2
from services.identity.tables import Base
from services.identity.users.models import User


class LoginHistoryRow(Base, table=True):
    """A login of a user: what the next ones are compared with, and what support is shown."""

    __tablename__ = "login_history"
    __table_args__ = (
        Index("ix_login_history_user_id_at", "user_id", "at"),
        Index("ix_login_history_at", "at", postgresql_using="brin"),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    user_id: UUID = Field(sa_column=Column(ForeignKey("users.id", ondelete="CASCADE"), nullable=False))
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    method: str = Field(sa_column=Column(Text, nullable=False))
    session_id: UUID = Field()
    device_id: UUID | None = Field(default=None)
    network: str = Field(sa_column=Column(Text, nullable=False))
    user_agent: str = Field(sa_column=Column(Text, nullable=False))
    country: str | None = Field(sa_column=Column(Text))
    latitude: float | None = Field(sa_column=Column(Double))
    longitude: float | None = Field(sa_column=Column(Double))
    risk_level: str = Field(sa_column=Column(Text, nullable=False))
    signals: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))


class Method(StrEnum):
    """The way in; a label of metrics and events."""

    PASSWORD = "password"  # noqa: S105 - a method's name
    SIGNUP = "signup"
    MAGIC_LINK = "magic_link"
    PASSKEY = "passkey"
    ENROLLMENT = "enrollment"


class Factor(StrEnum):
    """A second factor, as clients name it."""

    TOTP = "totp"
    RECOVERY_CODE = "recovery_code"
    PASSKEY = "passkey"


@dataclass(frozen=True, slots=True)
class Proof:
    """How a user has proven who it is: the way in, and what was shown (`amr`, RFC 8176).

    `is_mfa` says that it is two factors by itself, as a user-verified passkey is.
    """

    method: Method
    amr: tuple[str, ...]
    is_mfa: bool = False


@dataclass(frozen=True, slots=True)
class Browser:
    """What a login request carries of the device it comes from.

    Routes make it by `devices.cookie.browser_of`. `device_token` is empty where the browser has none yet, and
    None for callers that keep no cookies (gRPC). `remember` asks that the device be trusted,
    which counts once a second factor was shown. `takes_tokens` is False for the hosted login page, whose
    session gives out none by itself; `demands_two_factors` there for an app that accepts nothing less.
    """

    device_token: str | None = None
    remember: bool = False
    takes_tokens: bool = True
    demands_two_factors: bool = False


NO_BROWSER = Browser()
"""Of callers that keep no cookies."""


@dataclass(frozen=True, slots=True)
class Risk:
    """How risky a login looks and why; `explanation` is what support and the audit log are shown."""

    level: str = "low"
    signals: tuple[str, ...] = ()
    explanation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session; `device_token` is to be kept by the browser when there is one."""

    session: sessions_pb2.OpenedSession
    device_token: str | None = None


@dataclass(frozen=True, slots=True)
class Challenged:
    """A second factor is needed; `mfa_token` stands for the login so far, `expires_in` is in seconds."""

    mfa_token: str
    expires_in: int
    factors: tuple[Factor, ...]
    risk: Risk


@dataclass(frozen=True, slots=True)
class EnrollmentDue:
    """A second factor must be set up first; the token opens nothing else. `expires_in` is in seconds."""

    enrollment_token: str
    expires_in: int
    factors: tuple[Factor, ...]
    risk: Risk


Outcome = Opened | Challenged | EnrollmentDue


@dataclass(frozen=True, slots=True)
class Pending:
    """A login that waits for its second factor, as Redis keeps it."""

    client_id: UUID
    user_id: UUID
    auth_epoch: int
    proof: Proof
    factors: tuple[Factor, ...]
    risk: Risk

    def encode(self) -> dict[str, Any]:
        """Return the JSON object that is kept."""
        return {**asdict(self), "client_id": str(self.client_id), "user_id": str(self.user_id)}

    @classmethod
    def decode(cls, members: Mapping[str, Any]) -> Pending:
        """Read what `encode` made."""
        proof, risk = members["proof"], members["risk"]
        return cls(
            client_id=UUID(members["client_id"]),
            user_id=UUID(members["user_id"]),
            auth_epoch=members["auth_epoch"],
            proof=Proof(Method(proof["method"]), tuple(proof["amr"]), proof["is_mfa"]),
            factors=tuple(map(Factor, members["factors"])),
            risk=Risk(risk["level"], tuple(risk["signals"]), risk["explanation"]),
        )


Settled = Callable[[Tx], Awaitable[None]]
"""What a proof that was accepted changes, in the transaction that records the login or its challenge."""


async def nothing_to_settle(_tx: Tx) -> None:
    """For a proof that leaves nothing behind."""


class FactorSource(Protocol):
    """A slice that keeps second factors of users."""

    async def factors(self, tx: Tx, user: User) -> list[Factor]:
        """Return those of its factors that the user could show now."""
        ...
