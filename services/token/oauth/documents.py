"""Of which tenant a client id metadata document is asked for: that of the code or token that it presents."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from chassis.database import Database
from services.token.oauth import store

_MAX_LENGTH: Final = 128
_PREFIXES: Final = ("ac_", "dc_", "rt_")


class DocumentTenants:
    """Looks codes and refresh tokens up by hash, of all tenants; says nothing of whether they are good."""

    def __init__(self, db: Database) -> None:
        """Take where they are."""
        self._db = db

    async def tenant_of(self, shown: Sequence[str]) -> UUID | None:
        """Return the tenant of what a request presents; None when that names none.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        ours = [each for each in shown if each.startswith(_PREFIXES) and len(each) <= _MAX_LENGTH]
        if len(ours) != 1:
            return None
        digest = hashlib.sha256(ours[0].encode("utf-8", "surrogatepass")).digest()
        async with self._db.platform() as tx:
            return await store.tenant_of(tx, digest)
