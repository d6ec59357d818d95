"""What `token` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from chassis.events import DomainEvent
from contracts.events.targets import AppEvent, ClientEvent, SessionEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(SessionEvent):
    """A session began; `impersonator_id` says who acts in the user's name.

    With an `app_id` it is a grant: what the user, logged in with the session `parent_id`, allowed an app.
    """

    type: ClassVar[str] = "session_opened"
    user_id: str
    amr: tuple[str, ...]
    impersonator_id: str | None = None
    app_id: str | None = None
    parent_id: str | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefreshed(SessionEvent):
    """A refresh token was rotated."""

    type: ClassVar[str] = "session_refreshed"
    user_id: str
    app_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRevoked(SessionEvent):
    """A session ended before its time, for a `reason` such as `logout` or `password_changed`.

    With an `app_id` it was a grant to an app, made when the user was logged in with the session `parent_id`.
    Otherwise `kept_app_ids` are the apps that were let in with it and keep their access (`offline_access`).
    """

    type: ClassVar[str] = "session_revoked"
    user_id: str
    reason: str
    app_id: str | None = None
    parent_id: str | None = None
    kept_app_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshTokenReuseDetected(SessionEvent):
    """A used refresh token came back: the session and all its tokens are dead."""

    type: ClassVar[str] = "refresh_token_reuse_detected"
    user_id: str
    app_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSecretRotated(ClientEvent):
    """The client's JWT secret was replaced; its HS256 tokens are dead."""

    type: ClassVar[str] = "jwt_secret_rotated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTokensRevoked(ClientEvent):
    """An admin revoked all access tokens that the client's users and service accounts held."""

    type: ClassVar[str] = "client_tokens_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRotated(ClientEvent):
    """The next signing key became active: a client's, or without a client the issuer's own."""

    type: ClassVar[str] = "signing_key_rotated"
    alg: str
    active_kid: str
    next_kid: str
    retiring_kid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRevoked(ClientEvent):
    """A signing key was revoked in an emergency, and its tokens are dead: a client's, or the issuer's own.

    `status` is where it stood; the other keys are those of its owner since then.
    """

    type: ClassVar[str] = "signing_key_revoked"
    alg: str
    kid: str
    status: str
    active_kid: str | None
    next_kid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountEvent(DomainEvent):
    """Something that happened to a service account."""

    target_type: ClassVar[str | None] = "service_account"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountCreated(ServiceAccountEvent):
    """A service account was created."""

    type: ClassVar[str] = "service_account_created"
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountUpdated(ServiceAccountEvent):
    """A service account changed; disabled, its tokens are dead."""

    type: ClassVar[str] = "service_account_updated"
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountDeleted(ServiceAccountEvent):
    """A service account was deleted, and its tokens with it."""

    type: ClassVar[str] = "service_account_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountKeyCreated(ServiceAccountEvent):
    """A service account got another secret."""

    type: ClassVar[str] = "service_account_key_created"
    key_id: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountKeyRotated(ServiceAccountEvent):
    """A secret was replaced; the old one works for `grace_seconds` more."""

    type: ClassVar[str] = "service_account_key_rotated"
    key_id: str
    new_key_id: str
    prefix: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountKeyRevoked(ServiceAccountEvent):
    """A secret was revoked, and with it the tokens that were got with it."""

    type: ClassVar[str] = "service_account_key_revoked"
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTokenIssued(ServiceAccountEvent):
    """A service account got an access token (RFC 6749 §4.4)."""

    type: ClassVar[str] = "machine_token_issued"
    scope: str
    key_id: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTokenRefused(ServiceAccountEvent):
    """A service account, or who says to be one, was refused at the token endpoint."""

    type: ClassVar[str] = "machine_token_refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRefused(AppEvent):
    """An app, or who says to be one, was refused at an OAuth endpoint; `reason` is the error code."""

    type: ClassVar[str] = "app_refused"
    reason: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTokenIssued(AppEvent):
    """An app got an access token of its own, for no user (RFC 6749 §4.4)."""

    type: ClassVar[str] = "app_token_issued"
    scope: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchanged(AppEvent):
    """An app exchanged the token `token_id` for one of its own (RFC 8693); `actor` acts for `subject`."""

    type: ClassVar[str] = "token_exchanged"
    subject: str
    actor: str
    scope: str
    token_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked(DomainEvent):
    """An access token was revoked by the app or service account that got it (RFC 7009)."""

    type: ClassVar[str] = "token_revoked"
    target_type: ClassVar[str | None] = "token"
    subject: str
    app_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAnswered(AppEvent):
    """A user answered the request of a device (RFC 8628)."""

    type: ClassVar[str] = "device_answered"
    is_approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReuseDetected(SessionEvent):
    """A used authorization code came back: the grant that it gave is over."""

    type: ClassVar[str] = "code_reuse_detected"
    user_id: str
    app_id: str
