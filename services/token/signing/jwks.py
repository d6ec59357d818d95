"""The published keys (RFC 7517), kept in memory for a second: validators all over the world ask for them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from contracts.clients import ClientDirectory, TokenMode
from services.token.errors import ClientIdRequired
from services.token.signing import store
from services.token.signing.keyring import INVALIDATE, Keyring

log = structlog.get_logger()

MAX_AGE = timedelta(minutes=5)
"""For how long a validator may keep the set; a key is published at least as long before it signs."""

_FRESH_SECONDS = 1.0
_STALE_SECONDS = 3600.0
_MAX_SETS = 10_000


@dataclass(frozen=True, slots=True)
class KeySet:
    """A JWK set as served, and its strong entity tag."""

    body: bytes
    etag: str


class Jwks:
    """Serves the key set of a client, or of the whole issuer.

    While PostgreSQL is away the last set is served for up to an hour.
    """

    def __init__(
        self,
        db: Database,
        bus: Bus,
        clock: Clock,
        clients: ClientDirectory,
        keyring: Keyring,
        *,
        max_clients: int,
    ) -> None:
        """Take where keys are stored, the bus that tells of rotations, and the most clients of one set."""
        self._db = db
        self._clock = clock
        self._clients = clients
        self._keyring = keyring
        self._max_clients = max_clients
        self._too_many_until = 0.0
        self._sets: OrderedDict[UUID | None, tuple[KeySet, float]] = OrderedDict()
        self._reading: dict[UUID | None, asyncio.Task[KeySet]] = {}
        self._generation = 0
        bus.on(INVALIDATE, self._on_change)

    def at_hand(self, client_id: UUID | None) -> KeySet | None:
        """Return the set when it is in memory and fresh."""
        kept = self._sets.get(client_id)
        return kept[0] if kept is not None and time.monotonic() - kept[1] < _FRESH_SECONDS else None

    async def of(self, client_id: UUID | None) -> KeySet:
        """Return the set of a client; of all clients for None, which is for small installations.

        Raises:
            ClientNotFound: there is no such client.
            ClientIdRequired: there are more clients than one set may have.
            Unavailable: PostgreSQL is away and the set is not at hand.
        """
        fresh = self.at_hand(client_id)
        if fresh is not None:
            return fresh
        if client_id is None and time.monotonic() < self._too_many_until:
            raise ClientIdRequired
        try:
            return await self._read_once(client_id)
        except Unavailable:
            kept = self._sets.get(client_id)
            if kept is None or time.monotonic() - kept[1] > _STALE_SECONDS:
                raise
            log.warning("key set served stale", age_seconds=int(time.monotonic() - kept[1]))
            return kept[0]

    async def _read_once(self, client_id: UUID | None) -> KeySet:
        task = self._reading.get(client_id)
        if task is None:
            # Without the context of whoever asks first: its deadline is not the others'.
            task = asyncio.create_task(self._read(client_id), context=Context())
            self._reading[client_id] = task
            task.add_done_callback(lambda _: self._reading.pop(client_id, None))
        return await asyncio.shield(task)

    async def _read(self, client_id: UUID | None) -> KeySet:
        generation = self._generation
        if client_id is not None:
            client = await self._clients.get(client_id)
            if client.token_mode is not TokenMode.HS256:
                # The signer makes the keys of a client that has none yet, and remembers that it has.
                await self._keyring.signer(client)
        async with self._db.platform() as tx:
            if client_id is None and await store.has_more_clients(tx, self._max_clients):
                self._sets.pop(None, None)
                self._too_many_until = time.monotonic() + _FRESH_SECONDS
                raise ClientIdRequired
            keys = await store.published_jwks(tx, client_id, self._clock.now())
        body = b'{"keys":[' + ",".join(keys).encode() + b"]}"
        found = KeySet(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
        if generation == self._generation:
            self._sets[client_id] = found, time.monotonic()
            self._sets.move_to_end(client_id)
            if len(self._sets) > _MAX_SETS:
                self._sets.popitem(last=False)
        return found

    async def _on_change(self, text: str) -> None:
        # Aged, not dropped: should PostgreSQL be away right now, an old set is better than none.
        self._generation += 1
        changed: list[UUID | None] = [UUID(text), None] if text else list(self._sets)
        for client_id in changed:
            if client_id in self._sets:
                kept, at = self._sets[client_id]
                self._sets[client_id] = kept, min(at, time.monotonic() - _FRESH_SECONDS)
