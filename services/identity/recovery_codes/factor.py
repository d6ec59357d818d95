"""Recovery codes as a second factor: beside another one only, each good once."""

from __future__ import annotations

from uuid import UUID

from chassis.clock import Clock
from chassis.database import Tx
from services.identity.logins.models import Factor
from services.identity.recovery_codes import store
from services.identity.recovery_codes.codes import CodeHasher, new_codes
from services.identity.recovery_codes.models import CodesLeft
from services.identity.users.models import User


class RecoveryCodeFactor:
    """Knows the codes; counts no attempts, which is `SecondFactors`' part."""

    def __init__(self, hasher: CodeHasher, clock: Clock) -> None:
        """Take how codes are hashed."""
        self._hasher = hasher
        self._clock = clock

    async def factors(self, tx: Tx, user: User) -> list[Factor]:
        """Return the recovery code while the user has one left, and the factor that it stands in for."""
        if not user.mfa_enabled:
            return []
        return [Factor.RECOVERY_CODE] if (await self.left(tx, user.id)).remaining else []

    async def consume(self, tx: Tx, user_id: UUID, code: str) -> bool:
        """Use up a user's code; false for one that it has not, or has not any more."""
        return await store.use(tx, user_id, self._hasher.candidates(user_id, code), self._clock.now())

    async def left(self, tx: Tx, user_id: UUID) -> CodesLeft:
        """Return how many codes a user has left."""
        return await store.left(tx, user_id)

    async def replace(self, tx: Tx, user_id: UUID) -> list[str]:
        """Give a user ten new codes, which nobody can read again; the earlier ones are void.

        The caller has locked the user's row, so that two who replace them do not both leave ten.
        """
        codes = new_codes()
        await store.delete(tx, user_id)
        hashes = [self._hasher.hash(user_id, code) for code in codes]
        await store.insert(tx, user_id, hashes, self._hasher.key_id, self._clock.now())
        return codes

    async def remove(self, tx: Tx, user_id: UUID) -> None:
        """Take a user's codes away."""
        await store.delete(tx, user_id)
