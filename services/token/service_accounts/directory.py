"""Service accounts as the token endpoint asks for them: by id, of any tenant, remembered for seconds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from prometheus_client import Counter

from chassis.batching import Batcher
from chassis.bus import Bus
from chassis.clock import Clock
from chassis.database import Database
from chassis.ids import hash_of
from services.token.service_accounts import store
from services.token.service_accounts.models import KeyStatus, ServiceAccount, ServiceAccountKey

INVALIDATE = "invalidate.service-account"
"""Plain subject; the text is the id of the account that changed."""

_FRESH_SECONDS = 30.0
_MAX_ENTRIES = 10_000

LOOKUPS = Counter("service_account_lookups_total", "Look-ups of service accounts.", ["result"])


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """An account and its secrets that are not revoked, by hash."""

    account: ServiceAccount
    keys: dict[bytes, ServiceAccountKey]


class ServiceAccountDirectory:
    """Finds accounts. What it remembers is dropped at once when an account changes."""

    def __init__(self, db: Database, bus: Bus, clock: Clock) -> None:
        """Take where accounts are, and the bus that tells of changes."""
        self._db = db
        self._clock = clock
        self._known: OrderedDict[UUID, tuple[KnownAccount | None, float]] = OrderedDict()
        self._generation = 0
        self._reads: Batcher[UUID, KnownAccount | None] = Batcher(self._read)
        bus.on(INVALIDATE, self._drop)

    async def find(self, account_id: UUID) -> KnownAccount | None:
        """Return an account, disabled or not; None when there is none.

        Raises:
            DatabaseUnavailable: it is not remembered and PostgreSQL is away.
        """
        entry = self._known.get(account_id)
        if entry is not None and time.monotonic() - entry[1] < _FRESH_SECONDS:
            LOOKUPS.labels("hit").inc()
            return entry[0]
        LOOKUPS.labels("miss").inc()
        generation = self._generation
        found = await self._reads.submit(account_id)
        # What was read before a change is older than the change: use it, but do not keep it.
        if generation == self._generation:
            self._known[account_id] = found, time.monotonic()
            self._known.move_to_end(account_id)
            if len(self._known) > _MAX_ENTRIES:
                self._known.popitem(last=False)
        return found

    def live_key(self, known: KnownAccount, secret: str) -> ServiceAccountKey | None:
        """Return the account's live secret that this text is; None when it is none.

        Looked up by hash: how much of a guess is right changes no time.
        """
        key = known.keys.get(hash_of(secret))
        return key if key and key.status(self._clock.now()) is KeyStatus.ACTIVE else None

    async def _read(self, account_ids: Sequence[UUID]) -> Sequence[KnownAccount | None]:
        async with self._db.platform() as tx:
            rows = [await store.resolve(tx, account_id) for account_id in account_ids]
        return [KnownAccount(*row) if row else None for row in rows]

    async def _drop(self, text: str) -> None:
        self._generation += 1
        if text:
            self._known.pop(UUID(text), None)
        else:
            self._known.clear()
