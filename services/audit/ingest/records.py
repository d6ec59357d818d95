"""From an event's envelope to the record that is stored.

An attacker chooses a user agent or a name, and must not be able to choose one that keeps the event out of the
log: text that PostgreSQL cannot hold is replaced, and indexed text is cut to what an index can hold.
Everything else stays as it came; it is escaped where it is shown.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from uuid import UUID

from chassis.events import Event
from services.audit.ingest.models import PLATFORM, Record

FIRST_MOMENT = datetime(2020, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(2100, 1, 1, tzinfo=UTC)
"""Outside these an event is a fault, and no partition is made for it."""

_MAX_INDEXED = 512
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def record_of(event: Event, now: datetime) -> Record:
    """Return the record of an event that is stored at `now`.

    Raises:
        ValueError: a member has the wrong type, or the time is out of all sense.
    """
    _check(event)
    return Record(
        client_id=event.client_id or PLATFORM,
        event_id=event.id,
        type=_indexed(event.type),
        service=_text(event.service),
        occurred_at=event.occurred_at,
        recorded_at=now,
        actor_type=_text(event.actor_type),
        actor_id=_optional(event.actor_id),
        target_type=_optional(event.target_type),
        target_id=_optional(event.target_id),
        session_id=event.session_id,
        ip=_text(event.ip),
        user_agent=_text(event.user_agent),
        request_id=_indexed(event.request_id),
        data=_json(event.data),
    )


def _check(event: Event) -> None:
    required = (event.type, event.service, event.actor_type, event.ip, event.user_agent, event.request_id)
    optional = (event.actor_id, event.target_type, event.target_id)
    if not all(isinstance(text, str) for text in required):
        raise ValueError("a member is not text")
    is_text = all(text is None or isinstance(text, str) for text in optional)
    if not (is_text and isinstance(event.data, dict)):
        raise ValueError("a member is not text, or data no object")
    if event.occurred_at.tzinfo is None or not FIRST_MOMENT <= event.occurred_at < LAST_MOMENT:
        raise ValueError("occurred_at is out of range or without a zone")
    if not all(isinstance(value, UUID | None) for value in (event.client_id, event.session_id)):
        raise ValueError("an id is not one")
    if event.client_id == PLATFORM:
        raise ValueError("client_id is the platform's own")


def _text(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


def _indexed(text: str) -> str:
    return _text(text[:_MAX_INDEXED])


def _optional(text: str | None) -> str | None:
    return None if text is None else _indexed(text)


def _json(data: dict[str, object]) -> str:
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    # In a JSON text a NUL is always escaped, a lone surrogate (it came escaped) is not.
    if "\\u0000" in text or _UNSTORABLE.search(text):
        text = json.dumps(_storable(data), separators=(",", ":"), ensure_ascii=False)
    return text


def _storable(value: object) -> object:
    match value:
        case str():
            return _text(value)
        case dict():
            return {_text(str(key)): _storable(item) for key, item in value.items()}
        case list():
            return [_storable(item) for item in value]
        case _:
            return value
