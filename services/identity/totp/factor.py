"""TOTP as a second factor: whether a user has it, and the check of a code, which uses the code up."""

from __future__ import annotations

from uuid import UUID

from chassis.clock import Clock
from chassis.database import Tx
from chassis.sealing import Sealer
from services.identity.logins.models import Factor
from services.identity.totp import store
from services.identity.totp.codes import matching_step
from services.identity.users.models import User


class TotpFactor:
    """Knows the secrets; counts no attempts, which is `SecondFactors`' part."""

    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        """Take what the secrets are sealed with."""
        self._sealer = sealer
        self._clock = clock

    async def factors(self, _tx: Tx, user: User) -> list[Factor]:
        """Return TOTP when the user has set it up."""
        return [Factor.TOTP] if user.mfa_enabled else []

    async def consume(self, tx: Tx, user_id: UUID, code: str) -> bool:
        """Use up a user's code; false for a wrong one and for a used one (RFC 6238 §5.2)."""
        active = await store.find_active(tx, user_id)
        if active is None:
            return False
        step = matching_step(self.open(active, user_id), code, self._clock.now())
        return step is not None and await store.use(tx, user_id, active, step)

    def seal(self, secret: str, user_id: UUID) -> bytes:
        """Encrypt a secret for its user's row."""
        return self._sealer.seal(secret.encode(), _row(user_id))

    def open(self, sealed: bytes, user_id: UUID) -> str:
        """Decrypt a secret of a user.

        Raises:
            SealBroken: it is another user's, or was changed.
        """
        return self._sealer.open(sealed, _row(user_id)).decode()


def _row(user_id: UUID) -> str:
    return f"totp:{user_id}"
