"""Whether this process has the master keys that the heads of the chains are proven under.

Without one of them it could append nothing to those chains, and say of none whether it is whole.
"""

from __future__ import annotations

import sys

import asyncpg
import structlog

from chassis.database import Database
from chassis.errors import Unavailable
from services.audit.ingest import store
from services.audit.ingest.chain import Chains

log = structlog.get_logger()


class KeyCheck:
    """A resource that refuses to start without a key; without PostgreSQL, each append checks its own."""

    def __init__(self, db: Database, chains: Chains) -> None:
        """Take the heads, and what proves them."""
        self._db = db
        self._chains = chains

    async def start(self) -> None:
        """Check now if possible.

        Raises:
            SystemExit: the head of a chain needs a master key that is not configured.
        """
        try:
            async with self._db.platform() as tx:
                missing = await store.missing_keys(tx, self._chains.key_ids)
        except (Unavailable, asyncpg.UndefinedTableError) as error:
            log.warning("master keys are checked at each append", reason=type(error).__name__)
            return
        if missing:
            found = ", ".join(f"{name} ({chains} chains)" for name, chains in missing.items())
            sys.stderr.write(
                "audit refuses to start: chains end under a master key that is neither MASTER_KEY nor in "
                f"MASTER_KEY_PREVIOUS. Add the key named {found}; see docs/keys.md.\n"
            )
            raise SystemExit(2)

    async def stop(self) -> None:
        """Nothing to end."""
