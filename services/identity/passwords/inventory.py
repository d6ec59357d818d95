"""Which schemes the stored hashes have, so that hashing knows what every miss must cost."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from chassis.bus import Bus
from chassis.database import Database
from chassis.errors import Unavailable
from services.identity.passwords import store
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.schemes import SCHEMES, Scheme

log = structlog.get_logger()

# Nobody waits for it: until it is known, and a while longer, a miss costs too much and tells nothing. The
# table may be long, and is read to its end for a scheme that no hash has.
_LOOK_SECONDS = 600.0
_NOTED = "invalidate.password_schemes"


class SchemeInventory:
    """Tells the hasher which schemes are in use.

    New hashes have the configured one, so others only go, but by an import: `note` then says so to every
    process.
    """

    def __init__(self, db: Database, bus: Bus, hasher: PasswordHasher) -> None:
        """Take where hashes are stored, how processes hear of imports, and whom to tell."""
        self._db = db
        self._bus = bus
        self._hasher = hasher
        self._noted: set[Scheme] = set()
        bus.on(_NOTED, self._heard)

    async def note(self, schemes: set[Scheme]) -> None:
        """Have every process know that hashes of these schemes are about to be stored."""
        if not schemes <= set(self._hasher.stored_schemes):
            await self._bus.tell_all(_NOTED, ",".join(sorted(schemes)))
            self._add(schemes)

    async def _heard(self, text: str) -> None:
        # "" after a reconnect, when some may have been missed: all, until somebody has looked.
        heard = set(text.split(","))
        self._add([scheme for scheme in SCHEMES if not text or scheme in heard])

    def _add(self, schemes: Collection[Scheme]) -> None:
        self._noted.update(schemes)
        self._hasher.stored_schemes = {*self._hasher.stored_schemes, *schemes}

    async def run(self) -> None:
        """Look for ever; a job of the service."""
        while True:
            try:
                await self.look()
            except Unavailable:
                log.warning("stored password schemes cannot be read")
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once; what is noted meanwhile stays."""
        self._noted = set()
        async with self._db.platform() as tx:
            found = await store.stored_schemes(tx)
        self._hasher.stored_schemes = found | self._noted
