"""Reading the log page by page."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Database
from chassis.paging import Cursors
from services.audit.errors import RangeReversed
from services.audit.query import store
from services.audit.query.models import Entries, Filters, Place


class QueryService:
    """Answers what happened. Who may ask what is decided by the caller's route."""

    def __init__(self, db: Database, cursors: Cursors) -> None:
        """Take the log."""
        self._db = db
        self._cursors = cursors

    async def page(self, filters: Filters, limit: int, cursor: str | None) -> Entries:
        """Return the newest entries that match, or those behind a cursor.

        Raises:
            RangeReversed: `until` is before `since`.
            InvalidCursor: the cursor is not of this list with these filters.
        """
        if filters.since and filters.until and filters.until < filters.since:
            raise RangeReversed
        scope = f"audit-events:{filters}"
        after = self._place(cursor, scope) if cursor else None
        async with self._db.platform() as tx:
            found = await store.newest(tx, filters, after, limit + 1)
        if len(found) <= limit:
            return Entries(found, None)
        last = found[limit - 1].record
        place: list[str | int] = [last.occurred_at.isoformat(), str(last.event_id)]
        return Entries(found[:limit], self._cursors.make(place, scope))

    def _place(self, cursor: str, scope: str) -> Place:
        occurred_at, event_id = self._cursors.read(cursor, scope)
        return Place(datetime.fromisoformat(str(occurred_at)), UUID(str(event_id)))
