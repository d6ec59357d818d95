"""The published keys (RFC 7517), kept in memory for a second: validators all over the world ask for them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.database import Database, Tx
from chassis.errors import Unavailable
from contracts.clients import ClientDirectory, TokenMode
from services.token.signing import store
from services.token.signing.keyring import INVALIDATE, ISSUER_ALGORITHMS, Keyring
from services.token.signing.models import ISSUER_ID

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


_Wanted = tuple[UUID | None, bool]
"""Whose keys, of all clients for None; and whether with the issuer's."""


class Jwks:
    """Serves the key set of a client, or of the whole issuer.

    The public sets have the issuer's own keys too, which no access token is signed with. While PostgreSQL is
    away the last set is served for up to an hour.
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
        self._sets: OrderedDict[_Wanted, tuple[KeySet, float]] = OrderedDict()
        self._reading: dict[_Wanted, asyncio.Task[KeySet]] = {}
        self._generation = 0
        bus.on(INVALIDATE, self._on_change)

    def at_hand(self, client_id: UUID | None) -> KeySet | None:
        """Return the public set when it is in memory and fresh."""
        return self._fresh((client_id, True))

    async def of(self, client_id: UUID | None) -> KeySet:
        """Return the public set of a client, or of all clients for None: of none where there are too many.

        `ISSUER_ID` stands for the issuer's keys alone.

        Raises:
            ClientNotFound: there is no such client.
            Unavailable: PostgreSQL is away and the set is not at hand.
        """
        return await self._get((client_id, True))

    async def of_access_tokens(self, client_id: UUID) -> KeySet:
        """Return what a client's access tokens are verified with, and no key beside; raises as `of`."""
        return await self._get((client_id, False))

    def _fresh(self, wanted: _Wanted) -> KeySet | None:
        kept = self._sets.get(wanted)
        return kept[0] if kept is not None and time.monotonic() - kept[1] < _FRESH_SECONDS else None

    async def _get(self, wanted: _Wanted) -> KeySet:
        fresh = self._fresh(wanted)
        if fresh is not None:
            return fresh
        try:
            return await self._read_once(wanted)
        except Unavailable:
            kept = self._sets.get(wanted)
            if kept is None or time.monotonic() - kept[1] > _STALE_SECONDS:
                raise
            log.warning("key set served stale", age_seconds=int(time.monotonic() - kept[1]))
            return kept[0]

    async def _read_once(self, wanted: _Wanted) -> KeySet:
        task = self._reading.get(wanted)
        if task is None:
            # Without the context of whoever asks first: its deadline is not the others'.
            task = asyncio.create_task(self._read(wanted), context=Context())
            self._reading[wanted] = task
            task.add_done_callback(lambda _: self._reading.pop(wanted, None))
        return await asyncio.shield(task)

    async def _read(self, wanted: _Wanted) -> KeySet:
        generation = self._generation
        await self._make_missing(*wanted)
        async with self._db.platform() as tx:
            keys = await store.published_jwks(tx, await self._owners(tx, *wanted), self._clock.now())
        body = b'{"keys":[' + ",".join(keys).encode() + b"]}"
        found = KeySet(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
        if generation == self._generation:
            self._sets[wanted] = found, time.monotonic()
            self._sets.move_to_end(wanted)
            if len(self._sets) > _MAX_SETS:
                self._sets.popitem(last=False)
        return found

    async def _make_missing(self, client_id: UUID | None, with_issuer: bool) -> None:
        """Make the keys of who has none yet, so that each is published before its first signature.

        The signer does it, and remembers that it has.
        """
        if client_id not in (None, ISSUER_ID):
            client = await self._clients.get(client_id)
            if client.token_mode is not TokenMode.HS256:
                await self._keyring.signer(client)
        if with_issuer:
            for algorithm in ISSUER_ALGORITHMS:
                await self._keyring.issuer_signer(algorithm)

    async def _owners(self, tx: Tx, client_id: UUID | None, with_issuer: bool) -> Sequence[UUID] | None:
        """Return whose keys the set has; None for everybody's."""
        if client_id is None:
            # The issuer is one of the owners, as its keys have just been made.
            return [ISSUER_ID] if await store.has_more_owners(tx, self._max_clients + 1) else None
        return [client_id, ISSUER_ID] if with_issuer else [client_id]

    async def _on_change(self, text: str) -> None:
        # Aged, not dropped: should PostgreSQL be away right now, an old set is better than none.
        self._generation += 1
        changed: list[_Wanted] = list(self._sets)
        if text not in ("", str(ISSUER_ID)):
            client_id = UUID(text)
            changed = [(client_id, True), (client_id, False), (None, True)]
        for wanted in changed:
            if wanted in self._sets:
                kept, at = self._sets[wanted]
                self._sets[wanted] = kept, min(at, time.monotonic() - _FRESH_SECONDS)
