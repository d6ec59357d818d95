"""What `identity` says of admins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from chassis.events import DomainEvent


class AdminEvent(DomainEvent):
    """Something that happened to an admin."""

    target_type: ClassVar[str | None] = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminCreated(AdminEvent):
    """An admin was added."""

    type: ClassVar[str] = "admin_created"
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminUpdated(AdminEvent):
    """An admin was changed; of passwords and secrets only that they were."""

    type: ClassVar[str] = "admin_updated"
    changed: tuple[str, ...]
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminDeleted(AdminEvent):
    """An admin was removed; its tokens are dead."""

    type: ClassVar[str] = "admin_deleted"
    before: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminMfaEnabled(AdminEvent):
    """An admin set up an authenticator app."""

    type: ClassVar[str] = "admin_mfa_enabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLoginSucceeded(AdminEvent):
    """An admin logged in and got a token; `amr` says by what."""

    type: ClassVar[str] = "admin_login_succeeded"
    amr: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminFactorRefused(AdminEvent):
    """A code that an admin showed for a challenge was refused; `reason` is the error code."""

    type: ClassVar[str] = "admin_factor_refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLoginFailed(AdminEvent):
    """An admin's login failed; `target_id` is set when there is one, `locks` when it was one too many."""

    type: ClassVar[str] = "admin_login_failed"
    reason: str
    email_hash: str
    locks: bool
