"""What `orgs` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from chassis.events import DomainEvent
from contracts.events.targets import AppEvent, ClientEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCreated(ClientEvent):
    """A client was created."""

    type: ClassVar[str] = "client_created"
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientUpdated(ClientEvent):
    """A client's settings changed; secrets in `before` and `after` are masked."""

    type: ClassVar[str] = "client_updated"
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyCreated(DomainEvent):
    """An API key was added."""

    type: ClassVar[str] = "api_key_created"
    target_type: ClassVar[str | None] = "api_key"
    kind: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRevoked(DomainEvent):
    """An API key was revoked, or will be after `grace_seconds`."""

    type: ClassVar[str] = "api_key_revoked"
    target_type: ClassVar[str | None] = "api_key"
    kind: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRotated(ClientEvent):
    """The client's secret keys were replaced by a new one."""

    type: ClassVar[str] = "api_key_rotated"
    prefix: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppCreated(AppEvent):
    """An app was created by an admin, or registered itself (`method` is `registration`)."""

    type: ClassVar[str] = "app_created"
    method: str
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppUpdated(AppEvent):
    """An app changed; `before` and `after` hold what did."""

    type: ClassVar[str] = "app_updated"
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDeleted(AppEvent):
    """An app was deleted, with all its secrets."""

    type: ClassVar[str] = "app_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSecretCreated(AppEvent):
    """An app got another secret."""

    type: ClassVar[str] = "app_secret_created"
    secret_id: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSecretRotated(AppEvent):
    """A secret of an app was replaced; the old one works for `grace_seconds` more."""

    type: ClassVar[str] = "app_secret_rotated"
    secret_id: str
    new_secret_id: str
    prefix: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSecretRevoked(AppEvent):
    """A secret of an app was revoked."""

    type: ClassVar[str] = "app_secret_revoked"
    secret_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdDocumentRefused(ClientEvent):
    """An app that describes itself at a URL was refused; `reason` says what is wrong with the document."""

    type: ClassVar[str] = "client_id_document_refused"
    host: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialAccessTokenEvent(DomainEvent):
    """Something that happened to what lets apps register."""

    target_type: ClassVar[str | None] = "initial_access_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialAccessTokenCreated(InitialAccessTokenEvent):
    """An admin lets apps register, as many as `max_uses`."""

    type: ClassVar[str] = "initial_access_token_created"
    prefix: str
    max_uses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialAccessTokenRevoked(InitialAccessTokenEvent):
    """What let apps register was revoked."""

    type: ClassVar[str] = "initial_access_token_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRegistrationRefused(InitialAccessTokenEvent):
    """An app with a good initial access token could not register; `reason` is the error code."""

    type: ClassVar[str] = "app_registration_refused"
    reason: str
