"""The stages of a signing key: published as next, signing as active, published as retiring, forgotten.

The one place where a key changes its stage, whoever asks: an admin, or the schedule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

from prometheus_client import Counter

from chassis.bus import Bus
from chassis.clock import MAX_CLOCK_DIFFERENCE, Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from contracts import events
from services.token.errors import RotationTooSoon, SigningKeyNotFound
from services.token.revocations.service import Revocations
from services.token.signing import store
from services.token.signing.algorithms import Algorithm, KeyPair, generate
from services.token.signing.jwks import MAX_AGE
from services.token.signing.keyring import FRESH_SECONDS, INVALIDATE, Keyring, row_of
from services.token.signing.models import ISSUER_ID, KeyStatus, NextKey, RevokedKey, Rotation

LEAD_TIME: Final = MAX_AGE + MAX_CLOCK_DIFFERENCE + timedelta(seconds=10)
"""For how long a key is published before it signs.

Until then a validator may hold a set without it: one that was served a second before the key was there, by a
process that had not heard of it yet, is kept for `MAX_AGE`, and the process that rotates may be early.
"""

# Beside a token's life: a process that heard of the rotation late and whose clock is early, and a validator
# whose clock is late.
_LATE = timedelta(seconds=FRESH_SECONDS + 60) + MAX_CLOCK_DIFFERENCE

ROTATED = Counter("signing_keys_rotated_total", "Signing keys that the next took over from.", ["by"])
REVOKED = Counter("signing_keys_revoked_total", "Signing keys revoked in an emergency.", ["status"])


class KeyStages:
    """Moves the keys of one owner, a client or the issuer, from stage to stage."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        clock: Clock,
        sealer: Sealer,
        keyring: Keyring,
        revocations: Revocations,
        *,
        access_ttl: timedelta,
        issuer_ttl: timedelta,
    ) -> None:
        """Take where keys are stored, and for how long a client's and the issuer's signatures count."""
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._sealer = sealer
        self._keyring = keyring
        self._revocations = revocations
        self._access_ttl = access_ttl
        self._issuer_ttl = issuer_ttl

    async def check_lead(self, owner: UUID, algorithms: Iterable[Algorithm]) -> None:
        """Check that every validator can know the next key of each algorithm.

        Raises:
            RotationTooSoon: one was published too recently.
        """
        async with self._db.tenant(owner) as tx:
            for algorithm in algorithms:
                found = await store.next_key(tx, algorithm)
                if found is not None:
                    self._check_lead(found)

    async def rotate(
        self,
        caller: CallerContext | None,
        owner: UUID,
        algorithm: Algorithm,
        *,
        force: bool = False,
        instead_of: str | None = None,
    ) -> Rotation | None:
        """Let the next key sign, publish a new next one, and keep the old one published while tokens live.

        With `instead_of` only while that key is the active one; None when another process was first.

        Raises:
            RotationTooSoon: the next key has been published for less than `LEAD_TIME`; `force` skips this.
        """
        await self._keyring.ensure_keys(owner, algorithm)
        pair = await asyncio.to_thread(generate, algorithm, of_issuer=owner == ISSUER_ID)
        now = self._clock.now()
        async with self._db.tenant(owner) as tx:
            await store.lock_client(tx)
            if instead_of is not None and not await store.is_active(tx, instead_of):
                return None
            promoted = await store.next_key(tx, algorithm)
            if promoted is None:
                raise LookupError("who has an active key has a next one")
            if not force:
                self._check_lead(promoted)
            retiring = await store.retire_active(tx, algorithm, now + self._kept_for(owner))
            await store.activate(tx, promoted.kid, now)
            await self._insert(tx, algorithm, KeyStatus.NEXT, pair)
            rotation = Rotation(algorithm, promoted.kid, pair.kid, retiring)
            event = events.SigningKeyRotated(
                target_id=_client(owner),
                alg=algorithm,
                active_kid=rotation.active_kid,
                next_kid=rotation.next_kid,
                retiring_kid=rotation.retiring_kid,
            )
            await self._outbox.emit(tx, event, caller, client_id=_client(owner))
        ROTATED.labels("schedule" if caller is None else "admin").inc()
        await self._tell(owner)
        return rotation

    async def revoke(self, caller: CallerContext, owner: UUID, kid: str) -> RevokedKey:
        """Destroy a key in an emergency: it signs nothing more, is not published, and all its tokens die.

        The next key takes the place of an active one at once, however young it is, and a new next one is
        made. All processes have heard of it, or cannot hear now, when this returns.

        Raises:
            SigningKeyNotFound: the owner has no such key, or not any more.
        """
        async with self._db.tenant(owner) as tx:
            algorithm = await store.algorithm_of_key(tx, kid)
        if algorithm is None:
            raise SigningKeyNotFound
        pair = await asyncio.to_thread(generate, algorithm, of_issuer=owner == ISSUER_ID)
        now = self._clock.now()
        async with self._db.tenant(owner) as tx:
            await store.lock_client(tx)
            status = await store.delete_key(tx, kid)
            if status is None:
                raise SigningKeyNotFound
            await self._revocations.key(tx, owner, kid, now)
            active, following = await self._fill(tx, algorithm, status, pair)
            revoked = RevokedKey(kid, algorithm, status, active, following)
            event = events.SigningKeyRevoked(
                target_id=_client(owner),
                alg=algorithm,
                kid=kid,
                status=status,
                active_kid=active,
                next_kid=following,
            )
            await self._outbox.emit(tx, event, caller, client_id=_client(owner))
        REVOKED.labels(status).inc()
        await self._revocations.announce()
        await self._tell(owner, and_wait=True)
        # Should there have been no next key: the place of the one that took over.
        if status is not KeyStatus.RETIRING:
            await self._keyring.ensure_keys(owner, algorithm)
        return revoked

    async def retire(self, owner: UUID, algorithm: Algorithm, kid: str) -> bool:
        """Retire the keys of an algorithm that the owner signs with no longer; false when it has changed."""
        async with self._db.tenant(owner) as tx:
            await store.lock_client(tx)
            if not await store.is_active(tx, kid):
                return False
            await store.retire_active(tx, algorithm, self._clock.now() + self._kept_for(owner))
            await store.delete_next(tx, algorithm)
        await self._tell(owner)
        return True

    def _check_lead(self, following: NextKey) -> None:
        wait = following.created_at + LEAD_TIME - self._clock.now()
        if wait > timedelta(0):
            raise RotationTooSoon(retry_after=int(wait.total_seconds()) + 1)

    def _kept_for(self, owner: UUID) -> timedelta:
        return (self._issuer_ttl if owner == ISSUER_ID else self._access_ttl) + _LATE

    async def _fill(
        self, tx: Tx, algorithm: Algorithm, freed: KeyStatus, pair: KeyPair
    ) -> tuple[str | None, str | None]:
        """Fill the place that a revoked key had; return the names of the active and the next key."""
        following = await store.next_key(tx, algorithm)
        if freed is KeyStatus.ACTIVE:
            if following is None:
                await self._insert(tx, algorithm, KeyStatus.ACTIVE, pair)
            else:
                await store.activate(tx, following.kid, self._clock.now())
                await self._insert(tx, algorithm, KeyStatus.NEXT, pair)
        elif freed is KeyStatus.NEXT:
            await self._insert(tx, algorithm, KeyStatus.NEXT, pair)
        return await store.names(tx, algorithm)

    async def _insert(self, tx: Tx, algorithm: Algorithm, status: KeyStatus, pair: KeyPair) -> None:
        sealed = self._sealer.seal(pair.private, row_of(algorithm, pair.kid))
        await store.insert_key(tx, algorithm, status, pair, sealed, self._clock.now())

    async def _tell(self, owner: UUID, *, and_wait: bool = False) -> None:
        self._keyring.drop(owner)
        await (self._bus.tell_all if and_wait else self._bus.tell)(INVALIDATE, str(owner))


def _client(owner: UUID) -> UUID | None:
    """Return the client that events are of; the issuer is none."""
    return None if owner == ISSUER_ID else owner
