"""Support's values: what a search asks for, a change of a user, and a session in a user's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contracts.gen.internal.token.v1 import sessions_pb2
from services.identity.logins.models import Factor
from services.identity.users.models import User, UserStatus

AUDITED = ("status", "email_verified", "role")
"""What an event shows of a user before and after a change; the rest is personal data and only named."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a list is narrowed to: the beginning of an address or of a name, or an id; and a status."""

    text: str | None
    status: UserStatus | None


@dataclass(frozen=True, slots=True)
class UserChange:
    """A change by an admin: the columns named in `fields` take these values, the others stay."""

    fields: frozenset[str]
    status: UserStatus | None = None
    email_verified: bool | None = None
    role: str | None = None
    display_name: str | None = None
    metadata_json: str | None = None
    locale: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class UserDetails:
    """A user, and what support needs to know beside the profile; no secret is among it."""

    user: User
    has_password: bool
    factors: tuple[Factor, ...]
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class Impersonation:
    """A session in a user's name, and who acts in it."""

    opened: sessions_pb2.OpenedSession
    actor_id: str


@dataclass(frozen=True, slots=True)
class SessionList:
    """One page of sessions; `following` is the last one's id when there are more."""

    sessions: Sequence[sessions_pb2.ListedSession]
    following: UUID | None
