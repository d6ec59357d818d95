"""Forgets sessions that are over, slowly and for ever."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from services.token.sessions import store

log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_ROWS = 5000
_KEPT = timedelta(days=1)
_START = UUID(int=0)


class Pruning:
    """Walks through the sessions by id, some thousand rows a minute, to need no index on times."""

    def __init__(self, db: Database, clock: Clock) -> None:
        """Take the database."""
        self._db = db
        self._clock = clock

    async def run(self) -> None:
        """Prune for ever; a job of the service."""
        after = _START
        while True:
            try:
                after = await self.step(after)
            except Unavailable:
                log.warning("pruning waits for the database")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def step(self, after: UUID = _START) -> UUID:
        """Look through the next rows and return where to go on."""
        now = self._clock.now()
        async with self._db.platform() as tx:
            seen = await store.prune(tx, after, now - _KEPT, now, _ROWS)
        return seen or _START
