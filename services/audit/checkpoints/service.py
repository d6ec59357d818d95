"""Making checkpoints, and listing them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.paging import Cursors
from chassis.sealing import Sealer
from services.audit.checkpoints import store
from services.audit.checkpoints.models import Checkpoint, DueHead
from services.audit.checkpoints.signing import CheckpointKey
from services.audit.ingest.chain import Chains
from services.audit.ingest.models import Head
from services.audit.ingest.service import BROKEN

log = structlog.get_logger()

_POLL_SECONDS = 2.0
_AT_ONCE = 100

MADE = Counter("audit_checkpoints_total", "Checkpoints signed.")


class Checkpoints:
    """Signs where the chains stand, every so many events or seconds."""

    def __init__(
        self, db: Database, sealer: Sealer, chains: Chains, clock: Clock, *, every: int, interval: timedelta
    ) -> None:
        """Take the log, and after how many events or what time a chain with news is signed."""
        self._db = db
        self._sealer = sealer
        self._chains = chains
        self._clock = clock
        self._every = every
        self._interval = interval
        self._cursors = Cursors(sealer)
        self._key: CheckpointKey | None = None

    async def run(self) -> None:
        """Make the checkpoints that are due, for ever; a job of the service."""
        while True:
            try:
                while await self.make_due():
                    pass
            except Unavailable as error:
                log.warning("checkpoints wait", error=type(error).__name__)
            await asyncio.sleep(_POLL_SECONDS)

    async def make_due(self) -> int:
        """Make checkpoints of the chains that want one and return how many were looked at.

        Signing takes 60 µs each and is done under the lock: a statement must be about what is locked.
        """
        key = await self.key()
        now = self._clock.now()
        async with self._db.platform() as tx:
            due = await store.lock_due(
                tx,
                news_before=now - self._interval,
                every=self._every,
                # The others are for processes that can tell whether they are as they were written.
                key_ids=self._chains.key_ids,
                limit=_AT_ONCE,
            )
            made = [key.sign(one.head, now, one.last_signed) for one in due if self._chains.proves(one.head)]
            await store.add_checkpoints(tx, made)
            await store.settle_heads(tx, [self._settled(one) for one in due])
        MADE.inc(len(made))
        return len(due)

    async def key(self) -> CheckpointKey:
        """Return the signing key, made at the first call ever.

        Raises:
            SealBroken: there is one, and it was not sealed by us: never replaced silently.
        """
        if self._key is None:
            self._key = await self._load_key()
        return self._key

    async def page(
        self, within: Collection[UUID] | None, limit: int, cursor: str | None
    ) -> tuple[list[Checkpoint], str | None]:
        """Return checkpoints of some chains (None: of all), newest first, and the cursor of the next page.

        Raises:
            InvalidCursor: the cursor is not of this list.
        """
        scope = f"checkpoints:{None if within is None else sorted(map(str, within))}"
        after = self._place(cursor, scope) if cursor else None
        async with self._db.platform() as tx:
            found = await store.newest(tx, within, after, limit + 1)
        if len(found) <= limit:
            return found, None
        last = found[limit - 1]
        place: list[str | int] = [last.created_at.isoformat(), str(last.client_id), last.position]
        return found[:limit], self._cursors.make(place, scope)

    def _place(self, cursor: str, scope: str) -> tuple[datetime, UUID, int]:
        created_at, client_id, position = self._cursors.read(cursor, scope)
        return datetime.fromisoformat(str(created_at)), UUID(str(client_id)), int(position)

    def _settled(self, due: DueHead) -> Head:
        head = due.head
        if self._chains.proves(head):
            return self._chains.seal(replace(head, checkpoint_position=head.position))
        # Signing it would vouch for what somebody else wrote.
        BROKEN.inc()
        log.error("audit chain is broken", client_id=str(head.client_id), position=head.position + 1)
        return self._chains.seal(replace(head, broken_position=head.position + 1))

    async def _load_key(self) -> CheckpointKey:
        async with self._db.platform() as tx:
            found = await store.read_key(tx)
        while found is None:
            fresh = CheckpointKey.of(Ed25519PrivateKey.generate())
            sealed = self._sealer.seal(fresh.private.private_bytes_raw(), _row(fresh.kid))
            async with self._db.platform() as tx:
                await store.add_key(tx, fresh.kid, sealed, self._clock.now())
                found = await store.read_key(tx)
        kid, sealed_key = found
        private = Ed25519PrivateKey.from_private_bytes(self._sealer.open(sealed_key, _row(kid)))
        return CheckpointKey.of(private)


def _row(kid: str) -> str:
    return f"checkpoint_key:{kid}"
