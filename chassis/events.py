"""What happened: the domain event, its envelope, and the actor it names."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import ClassVar, Self
from uuid import UUID

from chassis.clock import rfc3339
from chassis.context import Access, CallerContext
from chassis.ids import new_id

_MAX_USER_AGENT = 512


class ActorType:
    """Who did it."""

    USER = "user"
    CLIENT = "client"
    SERVICE_ACCOUNT = "service_account"
    ADMIN = "admin"
    ADMIN_KEY = "admin_key"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Actor:
    """The one who did it: a type of `ActorType` and, where it has one, an id."""

    type: str
    id: str | None = None


SYSTEM = Actor(ActorType.SYSTEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """Base of the catalogue: a subclass names its `type`, and its fields become the event's `data`.

    `target_id` names what it happened to, of the kind `target_type`. Fields hold nothing secret and no
    personal data beyond ids; `before` and `after` of an admin's change are masked by who builds them.
    """

    type: ClassVar[str]
    target_type: ClassVar[str | None] = None

    target_id: UUID | str | None = None

    def data(self) -> dict[str, object]:
        """The fields of the subclass, as JSON values."""
        own = (field.name for field in fields(self) if field.name != "target_id")
        values = ((name, getattr(self, name)) for name in own)
        return {name: _json_value(value) for name, value in values if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKeyUsed(DomainEvent):
    """The break-glass admin key was used; every use is recorded, by the service that answers it."""

    type: ClassVar[str] = "admin_key_used"
    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRefused(DomainEvent):
    """An admin, or who acts in a user's name, asked for what is not theirs; `reason` is the error code."""

    type: ClassVar[str] = "access_refused"
    reason: str
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Event:
    """The envelope: what is stored, relayed and audited."""

    id: UUID
    type: str
    service: str
    occurred_at: datetime
    client_id: UUID | None
    actor_type: str
    actor_id: str | None
    target_type: str | None
    target_id: str | None
    session_id: UUID | None
    ip: str
    user_agent: str
    request_id: str
    data: dict[str, object]

    @property
    def subject(self) -> str:
        """The NATS subject."""
        return f"events.{self.service}.{self.type}"

    def encode(self) -> bytes:
        """Write the envelope as JSON."""
        members: dict[str, object] = {
            field.name: _json_value(getattr(self, field.name)) for field in fields(self)
        }
        return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, payload: bytes | str) -> Self:
        """Read what `encode` wrote.

        Raises:
            ValueError: it is not an envelope.
        """
        try:
            members = json.loads(payload)
            for name in ("client_id", "session_id"):
                members[name] = UUID(members[name]) if members[name] else None
            members["id"] = UUID(members["id"])
            members["occurred_at"] = datetime.fromisoformat(members["occurred_at"])
            return cls(**members)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not an event: {error}") from error


def envelope(
    event: DomainEvent,
    *,
    service: str,
    now: datetime,
    caller: CallerContext | None,
    actor: Actor | None = None,
    client_id: UUID | None = None,
) -> Event:
    """Wrap a domain event.

    `actor` is given when the caller's credential does not name the one who did it (a login is the user's
    deed, though the request carries an API key). `client_id` is given when the caller has none (an admin's
    request).
    """
    who = actor or actor_of(caller)
    return Event(
        id=new_id(),
        type=event.type,
        service=service,
        occurred_at=now,
        client_id=client_id or (caller.client_id if caller else None),
        actor_type=who.type,
        actor_id=who.id,
        target_type=event.target_type,
        target_id=str(event.target_id) if event.target_id is not None else None,
        session_id=caller.session_id if caller else None,
        ip=caller.ip if caller else "",
        user_agent=caller.user_agent[:_MAX_USER_AGENT] if caller else "",
        request_id=caller.request_id if caller else "",
        data=_data(event, caller),
    )


def _data(event: DomainEvent, caller: CallerContext | None) -> dict[str, object]:
    """The event's data; what was done in a user's name says by whom, whichever event it is."""
    if caller is None or caller.impersonator_id is None:
        return event.data()
    return {**event.data(), "impersonator_id": caller.impersonator_id}


def actor_of(caller: CallerContext | None) -> Actor:
    """Name the actor a caller's credential stands for."""
    if caller is None:
        return SYSTEM
    match caller.access:
        case Access.USER:
            return Actor(ActorType.USER, str(caller.user_id))
        case Access.ADMIN if caller.is_break_glass:
            return Actor(ActorType.ADMIN_KEY)
        case Access.ADMIN:
            return Actor(ActorType.ADMIN, str(caller.admin_id))
        case Access.PUBLIC:
            return Actor(ActorType.ANONYMOUS)
        case _:
            return Actor(ActorType.CLIENT, str(caller.client_id))


def _json_value(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return rfc3339(value)
        case tuple() | list() | set() | frozenset():
            return [_json_value(item) for item in value]
        case dict():
            return {str(key): _json_value(item) for key, item in value.items()}
        case _:
            return value
