"""When things were last used: noted in memory, written together, so that using one never writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from uuid import UUID

from chassis.clock import Clock
from chassis.database import Database, Tx
from chassis.errors import Unavailable

_FLUSH_SECONDS = 60.0

Write = Callable[[Tx, Mapping[UUID, datetime]], Awaitable[None]]


class LastUsed:
    """Remembers uses and writes the newest of each thing once a minute.

    What is written is exact to a minute or two, since some who use a thing remember it themselves for a
    while. A process that is killed loses its last minute.
    """

    def __init__(self, db: Database, clock: Clock, write: Write) -> None:
        """Take how uses are written, in a transaction that spans tenants, and the clock that dates them."""
        self._db = db
        self._clock = clock
        self._write = write
        self._uses: dict[UUID, datetime] = {}

    def note(self, used: UUID) -> None:
        """Remember that something was used now."""
        self._uses[used] = self._clock.now()

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
                await self._write(tx, uses)
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
