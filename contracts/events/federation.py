"""What `federation` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chassis.events import DomainEvent
from contracts.events.targets import AppEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationGranted(DomainEvent):
    """A user let an app have a code; `session_id` is of the login at the issuer."""

    type: ClassVar[str] = "authorization_granted"
    target_type: ClassVar[str | None] = "app"
    session_id: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRefused(DomainEvent):
    """An app was sent no answer, as its request asked for one at an address that is not the app's."""

    type: ClassVar[str] = "authorization_refused"
    target_type: ClassVar[str | None] = "app"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEvent(DomainEvent):
    """Something that happened to what a user agreed to at an app."""

    target_type: ClassVar[str | None] = "consent"
    app_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentGranted(ConsentEvent):
    """A user agreed to what an app asked for."""

    type: ClassVar[str] = "consent_granted"
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRefused(ConsentEvent):
    """A user did not agree to what an app asked for."""

    type: ClassVar[str] = "consent_refused"
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentWithdrawn(ConsentEvent):
    """A user took back what it had agreed to; what the app was granted has ended."""

    type: ClassVar[str] = "consent_withdrawn"
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutDelivered(AppEvent):
    """An app was told, by back-channel, that the login `login_session_id` has ended."""

    type: ClassVar[str] = "logout_delivered"
    user_id: str
    login_session_id: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutDeliveryFailed(AppEvent):
    """An app could not be told that a login has ended: it refused, or did not answer for a day."""

    type: ClassVar[str] = "logout_delivery_failed"
    user_id: str
    login_session_id: str
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutRefused(AppEvent):
    """A logout that an app asked for was not believed; `reason` says why. Nothing has ended."""

    type: ClassVar[str] = "logout_refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequested(AppEvent):
    """A device asked for access and shows a code."""

    type: ClassVar[str] = "device_requested"
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCodesGuessed(DomainEvent):
    """An address typed so many codes that no device shows that it may type no more for a while."""

    type: ClassVar[str] = "device_codes_guessed"
