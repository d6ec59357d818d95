"""The end of what users granted to an app that an admin has disabled or deleted."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chassis.clock import Clock
from chassis.context import Access, CallerContext
from chassis.database import Database
from chassis.events import SYSTEM, Event
from services.token.grants import store
from services.token.revocations.service import Revocations
from services.token.sessions.models import EndReason
from services.token.sessions.service import SessionService

_ROWS = 500
_DISABLED = "disabled"


class EndedApps:
    """Ends grants and tokens of apps, also for those who validate tokens by themselves.

    The token endpoint and introspection refuse such an app from the moment that it is disabled; this takes
    its refresh tokens away for good.
    """

    def __init__(
        self, db: Database, clock: Clock, sessions: SessionService, revocations: Revocations
    ) -> None:
        """Take where grants are, and what ends them."""
        self._db = db
        self._clock = clock
        self._sessions = sessions
        self._revocations = revocations

    async def on_apps_updated(self, updated: Sequence[Event]) -> None:
        """End what was granted to apps that were disabled; an event that comes again ends nothing more."""
        for event in updated:
            after = event.data.get("after")
            if isinstance(after, dict) and after.get("status") == _DISABLED:
                await self._end(event)

    async def on_apps_deleted(self, deleted: Sequence[Event]) -> None:
        """End what was granted to apps that were deleted."""
        for event in deleted:
            await self._end(event)

    async def _end(self, event: Event) -> None:
        if event.client_id is None or event.target_id is None:
            return
        caller = CallerContext(access=Access.API_KEY, request_id=event.request_id, client_id=event.client_id)
        while await self._end_some(caller, event.client_id, event.target_id, event):
            continue
        await self._revocations.announce()

    async def _end_some(self, caller: CallerContext, client_id: UUID, app_id: str, event: Event) -> bool:
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            ended = await store.end_grants_of_app(
                tx, app_id, EndReason.APP_ENDED, event.occurred_at, now, _ROWS
            )
            await self._sessions.record_ended(tx, caller, ended, EndReason.APP_ENDED, now, actor=SYSTEM)
            if len(ended) < _ROWS:
                # Its own tokens, of which it is the subject.
                await self._revocations.machine(tx, client_id, app_id, event.occurred_at, for_good=False)
        return len(ended) == _ROWS
