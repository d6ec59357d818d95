"""What risk is judged by, and the judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Text
from sqlmodel import Field

from chassis.geo import Place
from contracts.security_policy import RiskLevel
from services.identity.tables import Base


class RiskMarkRow(Base, table=True):
    """Something suspicious that happened to a user elsewhere, keyed by the event that told of it."""

    __tablename__ = "risk_marks"
    __table_args__ = (Index("ix_risk_marks_user_id_at", "user_id", "at"),)

    event_id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    user_id: UUID = Field()
    kind: str = Field(sa_column=Column(Text, nullable=False))
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class SignalName(StrEnum):
    """What can be noticed of a login; the names are the contract's."""

    NEW_IP = "new_ip"
    NEW_DEVICE = "new_device"
    IMPOSSIBLE_TRAVEL = "impossible_travel"
    BLOCKED_IP = "blocked_ip"
    HIGH_RISK_ASN = "high_risk_asn"
    FAILED_VELOCITY = "failed_velocity"
    REFRESH_TOKEN_REUSE = "refresh_token_reuse"  # noqa: S105 - a signal's name
    TOR = "tor"
    VPN = "vpn"
    PROXY = "proxy"
    BOT = "bot"
    PROVIDER = "provider"
    TRUSTED_NETWORK = "trusted_network"


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that was noticed, how much it weighs, and a sentence for people."""

    name: str
    level: RiskLevel
    detail: str


@dataclass(frozen=True, slots=True)
class PastLogin:
    """An earlier login of the user."""

    at: datetime
    network: str
    user_agent: str
    place: Place


@dataclass(frozen=True, slots=True)
class Background:
    """What is known of a user before a login: its latest logins, recent failures, recent suspicions."""

    logins: tuple[PastLogin, ...] = ()
    failures: int = 0
    reuses: int = 0


@dataclass(frozen=True, slots=True)
class Visit:
    """What a login request shows of itself; `is_known_device` is None where no cookies are kept."""

    ip: str
    network: str
    user_agent: str
    place: Place
    asn: int | None
    is_known_device: bool | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Assessment:
    """The judgement: the level is that of the heaviest signal."""

    level: RiskLevel = RiskLevel.LOW
    signals: tuple[Signal, ...] = ()
    visit: Visit | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The signals' names."""
        return tuple(signal.name for signal in self.signals)

    def explain(self, decision: str, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Return the one explanation that audit, support and logs show."""
        return {
            "level": str(self.level),
            "decision": decision,
            "signals": [
                {"name": signal.name, "level": str(signal.level), "detail": signal.detail}
                for signal in self.signals
            ],
            "policy": dict(policy),
        }


@dataclass(frozen=True, slots=True)
class ProviderVerdict:
    """What a risk provider said; nothing of it counts that it did not say."""

    level: RiskLevel | None = None
    flags: tuple[str, ...] = ()
    signals: tuple[str, ...] = field(default_factory=tuple)
