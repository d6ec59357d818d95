"""What can be asked of the log, and what one of its entries is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.audit.ingest.models import Link


@dataclass(frozen=True, slots=True)
class Filters:
    """What an entry must match; None matches everything. `since` is included in the time, `until` is not.

    `within` are the clients that the asker may see, in order.
    """

    within: tuple[UUID, ...] | None = None
    client_id: UUID | None = None
    user_id: UUID | None = None
    types: tuple[str, ...] = ()
    actor_type: str | None = None
    actor_id: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended in the order of the log: newest first, by time and id."""

    occurred_at: datetime
    event_id: UUID


@dataclass(frozen=True, slots=True)
class Entries:
    """One page of the log."""

    links: list[Link]
    next_cursor: str | None
