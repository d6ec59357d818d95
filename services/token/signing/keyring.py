"""The keys that sign, loaded once and kept: a signature must never wait for a key to be parsed."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.database import Database
from chassis.ids import new_secret
from chassis.sealing import Sealer
from contracts.clients import Client
from services.token.signing import store
from services.token.signing.algorithms import Algorithm, Signer, algorithm_of, generate, load_signer, new_kid
from services.token.signing.models import ISSUER_ID, SealedKey
from services.token.signing.seal_check import SealCheck

log = structlog.get_logger()

INVALIDATE = "invalidate.keys"
"""Plain subject; the text is the id of the client whose keys changed, or `ISSUER_ID`."""

ISSUER_ALGORITHMS = (Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA)
"""What the issuer has keys for; an app says which its ID tokens are signed with."""

FRESH_SECONDS = 30.0
"""For how long a process that heard nothing goes on signing with a key that has been rotated away."""

_MAX_SIGNERS = 20_000


class Keyring:
    """Hands out each client's signer, and makes what a client lacks.

    A key is made outside any transaction and stored by one `INSERT … ON CONFLICT DO NOTHING`, so processes
    that race end with the same key.
    """

    def __init__(self, db: Database, sealer: Sealer, bus: Bus, clock: Clock, check: SealCheck) -> None:
        """Take where keys are stored, what opens them, and the bus that tells of rotations."""
        self._db = db
        self._sealer = sealer
        self._clock = clock
        self._check = check
        self._signers: OrderedDict[tuple[UUID, Algorithm], tuple[Signer, float]] = OrderedDict()
        self._loading: dict[tuple[UUID, Algorithm], asyncio.Task[Signer]] = {}
        self._generation = 0
        # As many as can run at once: more would only take turns with the event loop.
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sign")
        bus.on(INVALIDATE, self._on_change)

    async def signer(self, client: Client) -> Signer:
        """Return what signs the client's access tokens now.

        Raises:
            DatabaseUnavailable: the key is not at hand and PostgreSQL is away.
        """
        return await self._signer(client.id, algorithm_of(client.token_mode))

    async def issuer_signer(self, algorithm: Algorithm) -> Signer:
        """Return what signs for the issuer itself: ID tokens, logout tokens, everything but access tokens.

        Raises:
            ValueError: the issuer has no secret.
            DatabaseUnavailable: the key is not at hand and PostgreSQL is away.
        """
        if algorithm not in ISSUER_ALGORITHMS:
            raise ValueError(f"the issuer does not sign with {algorithm}")
        return await self._signer(ISSUER_ID, algorithm)

    async def _signer(self, owner: UUID, algorithm: Algorithm) -> Signer:
        key = owner, algorithm
        known = self._signers.get(key)
        if known is not None and time.monotonic() - known[1] < FRESH_SECONDS:
            return known[0]
        return await self._load_once(key)

    async def ensure(self, client: Client) -> None:
        """Make the keys that the client's token mode needs and does not have yet."""
        await self._make(client.id, algorithm_of(client.token_mode))

    async def ensure_keys(self, owner: UUID, algorithm: Algorithm) -> None:
        """Make the active and the next key of a client or the issuer where they are missing."""
        await self._make(owner, algorithm)

    async def draw_secret(self) -> tuple[SealedKey, str]:
        """Draw a JWT secret: sealed for its row, and in the clear. Its UTF-8 bytes are the HMAC key."""
        await self._check.passes()
        kid, secret = new_kid(), new_secret("jwt_")
        return SealedKey(kid, self._sealer.seal(secret.encode(), row_of(Algorithm.HS256, kid))), secret

    def drop(self, client_id: UUID) -> None:
        """Forget a client's signers now."""
        self._generation += 1
        for algorithm in Algorithm:
            self._signers.pop((client_id, algorithm), None)

    async def _on_change(self, text: str) -> None:
        if text:
            self.drop(UUID(text))
        else:
            self._generation += 1
            self._signers.clear()

    async def _load_once(self, key: tuple[UUID, Algorithm]) -> Signer:
        task = self._loading.get(key)
        if task is None:
            # Without the context of whoever asks first: its deadline is not the others'.
            task = asyncio.create_task(self._load(*key), context=Context())
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def _load(self, client_id: UUID, algorithm: Algorithm) -> Signer:
        await self._check.passes()
        generation = self._generation
        stored = await self._stored(client_id, algorithm)
        if stored is None:
            make = (
                self._make_secret(client_id)
                if algorithm is Algorithm.HS256
                else self._make_keys(client_id, algorithm)
            )
            await make
            stored = await self._stored(client_id, algorithm)
        if stored is None:
            raise LookupError("a client's keys vanished while they were made")
        private = self._sealer.open(stored.sealed, row_of(algorithm, stored.kid))
        signer = load_signer(
            algorithm, stored.kid, private, is_issuer=client_id == ISSUER_ID, threads=self._threads
        )
        # What was read before a rotation is used once and not kept.
        if generation == self._generation:
            self._signers[client_id, algorithm] = signer, time.monotonic()
            self._signers.move_to_end((client_id, algorithm))
            if len(self._signers) > _MAX_SIGNERS:
                self._signers.popitem(last=False)
        return signer

    async def _stored(self, client_id: UUID, algorithm: Algorithm) -> SealedKey | None:
        async with self._db.tenant(client_id) as tx:
            if algorithm is Algorithm.HS256:
                return await store.active_secret(tx)
            return await store.active_key(tx, algorithm)

    async def _make(self, client_id: UUID, algorithm: Algorithm) -> None:
        await self._check.passes()
        if algorithm is Algorithm.HS256:
            await self._make_secret(client_id)
        else:
            await self._make_keys(client_id, algorithm)

    async def _make_keys(self, client_id: UUID, algorithm: Algorithm) -> None:
        async with self._db.tenant(client_id) as tx:
            missing = await store.missing_keys(tx, algorithm)
        for status in missing:
            pair = await asyncio.to_thread(generate, algorithm, of_issuer=client_id == ISSUER_ID)
            sealed = self._sealer.seal(pair.private, row_of(algorithm, pair.kid))
            async with self._db.tenant(client_id) as tx:
                await store.lock_client(tx)
                made = await store.insert_key(tx, algorithm, status, pair, sealed, self._clock.now())
            if made:
                log.info("signing key made", client_id=str(client_id), kid=pair.kid, status=str(status))

    async def _make_secret(self, client_id: UUID) -> None:
        secret, _ = await self.draw_secret()
        async with self._db.tenant(client_id) as tx:
            await store.lock_client(tx)
            await store.insert_secret(tx, secret, self._clock.now())


def row_of(algorithm: Algorithm, kid: str) -> str:
    """Return the identity of the row that a sealed key belongs to."""
    return f"{'jwt_secret' if algorithm is Algorithm.HS256 else 'signing_key'}:{kid}"
