"""Revoking: the record in the transaction that revokes, the news to every process before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from authservice_validator import RevocationKind
from prometheus_client import Counter

from chassis.bus import Bus
from chassis.clock import MAX_CLOCK_DIFFERENCE, Clock
from chassis.database import Database, Tx
from chassis.errors import Unavailable
from services.token.revocations import store
from services.token.revocations.models import Revocation

log = structlog.get_logger()

WRITTEN = Counter("revocations_total", "Revocations written, by what they name.", ["kind"])

INVALIDATE = "invalidate.revocations"
"""Plain subject without text: there is news in the table."""

LEEWAY = timedelta(seconds=60) + MAX_CLOCK_DIFFERENCE
"""A token is accepted for up to a minute past its end, which another process set by a clock of its own.

Were the revocation forgotten before, the token would live again.
"""

_HOUSEKEEPING_SECONDS = 60.0


class Revocations:
    """Writes revocations. Who writes one must call `announce` after the commit and before answering.

    `has_sweep` is set when one was written whose places in the status lists are for `StatusSweeps` to kill.
    """

    def __init__(self, db: Database, bus: Bus, clock: Clock, access_ttl: timedelta) -> None:
        """Take where they are stored, the bus, and how long a token may live at most."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._access_ttl = access_ttl
        self.has_sweep = asyncio.Event()

    async def sessions(self, tx: Tx, client_id: UUID, session_ids: Iterable[UUID], now: datetime) -> None:
        """Kill every token of sessions that have ended, also one that is being signed at this moment."""
        expires_at = now + self._access_ttl + LEEWAY
        # A session id never comes back, so its tokens are dead whenever they were issued.
        found = [
            Revocation(client_id, RevocationKind.SESSION, str(session_id), expires_at, expires_at)
            for session_id in session_ids
        ]
        if found:
            await store.insert(tx, found)
            WRITTEN.labels(str(RevocationKind.SESSION)).inc(len(found))

    async def user(self, tx: Tx, client_id: UUID, user_id: str, now: datetime) -> None:
        """Kill a user's tokens up to now.

        The caller also ends the sessions, which covers the present second: a user who is let in again
        within it must not get a token that is dead from birth, since `iat` counts whole seconds.
        """
        expires_at = now + self._access_ttl + LEEWAY
        before = now - timedelta(seconds=1)
        await store.insert(tx, [Revocation(client_id, RevocationKind.USER, user_id, before, expires_at)])
        WRITTEN.labels(str(RevocationKind.USER)).inc()

    async def machine(self, tx: Tx, client_id: UUID, subject: str, now: datetime, *, for_good: bool) -> None:
        """Kill the own tokens of a service account or app: up to now, its whole second, or `for_good`.

        No session ends with it, so this alone says that the tokens of the present second are dead. What one
        that is enabled again gets within it is dead, too, and what it gets after is not.
        """
        expires_at = now + self._access_ttl + LEEWAY
        not_after = expires_at if for_good else now
        found = Revocation(client_id, RevocationKind.USER, subject, not_after, expires_at)
        await store.insert(tx, [found])
        WRITTEN.labels(str(RevocationKind.USER)).inc()

    async def client(self, tx: Tx, client_id: UUID, not_after: datetime) -> None:
        """Kill a client's tokens that were issued up to `not_after`, the whole of its second included."""
        expires_at = not_after + self._access_ttl + LEEWAY
        found = Revocation(client_id, RevocationKind.CLIENT, str(client_id), not_after, expires_at)
        await self._write_wide(tx, found, not_after)

    async def key(self, tx: Tx, client_id: UUID, kid: str, now: datetime) -> None:
        """Kill every token that a key or secret has signed or will sign."""
        expires_at = now + self._access_ttl + LEEWAY
        found = Revocation(client_id, RevocationKind.KEY, kid, expires_at, expires_at)
        await self._write_wide(tx, found, now)

    async def token(
        self, tx: Tx, client_id: UUID, jti: str, now: datetime, *, session_id: UUID | None = None
    ) -> None:
        """Kill one access token, also one of a service account; its session lives on.

        This is for `/revoke` (RFC 7009): the caller has checked whose token it is. `session_id` is its `sid`,
        or None for a service account's. Its elder siblings live on, but for validators that go by status
        lists: these have one bit for the tokens that a session has given out.
        """
        expires_at = now + self._access_ttl + LEEWAY
        # An id never comes back, so it is dead whenever it was issued.
        found = Revocation(client_id, RevocationKind.TOKEN, jti, expires_at, expires_at)
        await store.insert_token(tx, found, session_id)
        WRITTEN.labels(str(RevocationKind.TOKEN)).inc()

    async def _write_wide(self, tx: Tx, found: Revocation, until: datetime) -> None:
        await store.insert_wide(tx, found, until - self._access_ttl - LEEWAY)
        tx.after_commit(self.has_sweep.set)
        WRITTEN.labels(str(found.kind)).inc()

    async def announce(self) -> None:
        """Tell every process that there is news; without NATS they find it by polling."""
        await self._bus.tell(INVALIDATE, "")

    async def housekeeping(self) -> None:
        """Forget what has expired, for ever; a job of the service."""
        while True:
            try:
                async with self._db.platform() as tx:
                    await store.delete_expired(tx, self._clock.now())
            except Unavailable:
                log.warning("expired revocations wait for the database")
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
