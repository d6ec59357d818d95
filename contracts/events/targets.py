"""What events are about: the bases of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chassis.events import DomainEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent(DomainEvent):
    """Something that happened to a user."""

    target_type: ClassVar[str | None] = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent(DomainEvent):
    """Something that happened to a session."""

    target_type: ClassVar[str | None] = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEvent(DomainEvent):
    """Something that happened to a client (tenant)."""

    target_type: ClassVar[str | None] = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEvent(DomainEvent):
    """Something that happened to an OAuth app, or between a user and an app."""

    target_type: ClassVar[str | None] = "app"
