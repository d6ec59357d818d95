"""The end of a suspended client's tokens, also for those who validate them by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import DeadlineExceeded, Unavailable
from chassis.events import Event
from contracts.clients import ClientDirectory, ClientNotFound
from services.token.revocations.service import Revocations

_SUSPENDED = "suspended"


class Suspensions:
    """Revokes the tokens of clients that `orgs` has suspended; they stay dead when the client comes back."""

    def __init__(
        self, db: Database, clock: Clock, clients: ClientDirectory, revocations: Revocations
    ) -> None:
        """Take where revocations are stored, and the way to ask whether a client is suspended still."""
        self._db = db
        self._clock = clock
        self._clients = clients
        self._revocations = revocations

    async def on_clients_updated(self, updated: Sequence[Event]) -> None:
        """Revoke what clients that became suspended have issued.

        An event may come late or again: of a client that is active by now, only what was issued up to the
        suspension dies.
        """
        suspended = {event.client_id: event.occurred_at for event in updated if _suspends(event)}
        for client_id, since in suspended.items():
            if client_id is not None:
                await self._revoke(client_id, since)
        if suspended:
            await self._revocations.announce()

    async def _revoke(self, client_id: UUID, since: datetime) -> None:
        # A process that had not heard of the suspension yet may have signed since; while it lasts, nothing
        # signed up to now is good. The time is read first: what follows the suspension's end is later.
        now = self._clock.now()
        not_after = now if await self._is_suspended(client_id) else since
        async with self._db.tenant(client_id) as tx:
            await self._revocations.client(tx, client_id, not_after)

    async def _is_suspended(self, client_id: UUID) -> bool:
        self._clients.drop(client_id)  # the event may be faster than the word that drops it
        try:
            return not (await self._clients.get(client_id)).is_active
        except ClientNotFound:
            return True
        except (Unavailable, DeadlineExceeded):
            return False  # what the event itself tells must not wait for `orgs`


def _suspends(event: Event) -> bool:
    """Whether the status is among what changed, and is `suspended` now."""
    after = event.data.get("after")
    return isinstance(after, dict) and after.get("status") == _SUSPENDED
