"""Whether MASTER_KEY is the one that this database was sealed with; asked before anything is sealed.

Without it a wrong key would go unnoticed: new keys would be made beside ones that cannot be opened any more.
"""

from __future__ import annotations

import sys

import asyncpg
import structlog

from chassis.database import Database
from chassis.errors import Unavailable
from chassis.sealing import SealBroken, Sealer
from services.token.signing import store

log = structlog.get_logger()

_ROW = "seal_check:1"
_VALUE = b"authservice"


class SealCheck:
    """A resource that refuses to start under a wrong MASTER_KEY; without PostgreSQL, checks at first use."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        """Take the database and what seals it."""
        self._db = db
        self._sealer = sealer
        self._passed = False

    async def start(self) -> None:
        """Check now if possible.

        Raises:
            SystemExit: MASTER_KEY does not open what is stored.
        """
        try:
            await self.passes()
        except (Unavailable, asyncpg.UndefinedTableError) as error:
            log.warning("master key is checked at first use", reason=type(error).__name__)
        except SealBroken:
            sys.stderr.write(
                "token refuses to start: MASTER_KEY does not open what its database holds. "
                "Set the key that was used before, or name that one in MASTER_KEY_PREVIOUS.\n"
            )
            raise SystemExit(2) from None

    async def stop(self) -> None:
        """Nothing to end."""

    async def passes(self) -> None:
        """Check once.

        Raises:
            SealBroken: MASTER_KEY is another one.
            DatabaseUnavailable: it cannot be told now.
        """
        if self._passed:
            return
        fresh = self._sealer.seal(_VALUE, _ROW)
        async with self._db.platform() as tx:
            sealed = await store.seal_check(tx, fresh)
        self._sealer.open(sealed, _ROW)
        self._passed = True
