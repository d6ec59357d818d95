"""When keys were last used: noted in memory, written together, so that resolving a key never writes."""

from __future__ import annotations

import asyncio
from datetime import datetime
from uuid import UUID

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from services.orgs.api_keys import store

_FLUSH_SECONDS = 60.0


class KeyUsage:
    """Remembers uses and writes each key's newest once a minute.

    Other processes cache a key for some thirty seconds and ask again only then, so `last_used_at` is exact to
    a minute or two. A process that is killed loses its last minute.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        """Take where uses are written and the clock that dates them."""
        self._db = db
        self._clock = clock
        self._uses: dict[UUID, datetime] = {}

    def note(self, key_id: UUID) -> None:
        """Remember that a key was used now."""
        self._uses[key_id] = self._clock.now()

    async def flush(self) -> None:
        """Write what is remembered.

        What cannot be written stays remembered.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot serve now.
        """
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            async with self._db.platform() as tx:
                await store.note_uses(tx, uses)
        except Exception:
            self._uses = uses | self._uses
            raise

    async def run(self) -> None:
        """Write once a minute, for ever; a job of the service."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()

    async def start(self) -> None:
        """Nothing to begin."""

    async def stop(self) -> None:
        """Write what is remembered before the pools close."""
        try:
            await self.flush()
        except Unavailable:
            self._uses.clear()
