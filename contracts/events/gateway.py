"""What the gateway says, by way of `audit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chassis.events import DomainEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKeyRefused(DomainEvent):
    """A wrong admin key was presented."""

    type: ClassVar[str] = "admin_key_refused"
    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRefused(DomainEvent):
    """A bad API key or access token was presented; `reason` is the error code."""

    type: ClassVar[str] = "credential_refused"
    reason: str
    method: str
    path: str
