"""Which schemes the stored hashes have, so that hashing knows what every miss must cost."""

from __future__ import annotations

import asyncio

import structlog

from chassis.database import Database
from chassis.errors import Unavailable
from services.identity.passwords import store
from services.identity.passwords.hasher import PasswordHasher

log = structlog.get_logger()

# Nobody waits for it: until it is known, and a while longer, a miss costs too much and tells nothing. The
# table may be long, and is read to its end for a scheme that no hash has.
_LOOK_SECONDS = 600.0


class SchemeInventory:
    """Tells the hasher which schemes are in use. New hashes have the configured one, so others only go."""

    def __init__(self, db: Database, hasher: PasswordHasher) -> None:
        """Take where hashes are stored, and whom to tell."""
        self._db = db
        self._hasher = hasher

    async def run(self) -> None:
        """Look for ever; a job of the service."""
        while True:
            try:
                await self.look()
            except Unavailable:
                log.warning("stored password schemes cannot be read")
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once."""
        async with self._db.platform() as tx:
            self._hasher.stored_schemes = await store.stored_schemes(tx)
