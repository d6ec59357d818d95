"""Killing the places in the status lists of sessions that outlive their tokens, however many there are.

A revocation of all tokens of a client, or of a key, is written in one transaction and is in force with it;
what it means for each session's place follows in batches. Each batch is one transaction: sessions leave their
places for new ones, the places are written down as dead, and the sweep moves on, or nothing of it happens. So
any process can go on where another was stopped, and any number may be at different sweeps.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from services.token.revocations import store
from services.token.revocations.models import START
from services.token.revocations.service import LEEWAY, Revocations

log = structlog.get_logger()

BATCH: Final = 500
"""Sessions that one transaction looks through."""

_POLL_SECONDS: Final = 1.0

PENDING = Gauge(
    "status_sweeps_pending",
    "Revocations that the status lists do not show in full yet.",
    multiprocess_mode="max",
)
OLDEST = Gauge(
    "status_sweep_oldest_age_seconds",
    "Age of the oldest revocation that the status lists do not show in full yet.",
    multiprocess_mode="max",
)
KILLED = Counter("status_places_swept_total", "Places in the status lists killed by sweeps.")


class StatusSweeps:
    """Works off the sweeps that `Revocations` leaves, until each has found nobody more."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        revocations: Revocations,
        access_ttl: timedelta,
        *,
        batch: int = BATCH,
    ) -> None:
        """Take where sessions are, what tells of news, and how long a token may live at most."""
        self._db = db
        self._clock = clock
        self._revocations = revocations
        self._access_ttl = access_ttl
        self._batch = batch

    async def run(self) -> None:
        """Sweep for ever; a job of the service."""
        while True:
            self._revocations.has_sweep.clear()
            try:
                await self.sweep()
                await self._measure()
            except Unavailable:
                log.warning("status lists wait for the database to show revocations")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._revocations.has_sweep.wait()

    async def sweep(self) -> None:
        """Finish every sweep that no other process is at, but those that passed over a locked session.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot serve now; what was done so far stays done.
        """
        after: int | None = 0
        while after is not None:
            after = await self.step(after)

    async def step(self, after: int = 0) -> int | None:
        """Do the next batch of a sweep with a number above `after`, and return above which to go on.

        None when there is no such sweep. One that has passed somebody over is to wait: it is gone on above.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot serve now; nothing of the batch was done.
        """
        now = self._clock.now()
        async with self._db.platform() as tx:
            sweep = await store.lock_sweep(tx, after)
            if sweep is None:
                return None
            if sweep.revocation.expires_at <= now:
                # The tokens have expired; there is nothing that the lists could say of them.
                await store.delete_sweep(tx, sweep.number)
                return after
            swept = await store.move_sessions(tx, sweep, self._batch)
            if swept.places:
                # Until now, a place may have been named in a token. It is dead for as long as that one lives:
                # there may be a later revocation that finds the session in its new place.
                expires_at = max(sweep.revocation.expires_at, now + self._access_ttl + LEEWAY)
                await store.insert_places(tx, sweep.revocation, swept.places, expires_at)
            is_incomplete = sweep.is_incomplete or swept.passed_over
            if swept.last is not None:
                await store.put_sweep(tx, sweep.number, swept.last, is_incomplete=is_incomplete)
            elif is_incomplete:
                await store.put_sweep(tx, sweep.number, START, is_incomplete=False)
            else:
                await store.delete_sweep(tx, sweep.number)
        KILLED.inc(len(swept.places))
        if swept.places:
            await self._revocations.announce()
        return sweep.number if swept.last is None and is_incomplete else after

    async def _measure(self) -> None:
        async with self._db.platform() as tx:
            pending, age = await store.pending_sweeps(tx)
        PENDING.set(pending)
        OLDEST.set(age)
