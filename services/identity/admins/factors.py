"""The authenticator app of an admin: its secret at rest, and the check of a code, which uses the code up."""

from __future__ import annotations

from uuid import UUID

from chassis.clock import Clock
from chassis.database import Database, Tx
from chassis.errors import AppError
from chassis.sealing import Sealer
from services.identity.admins import store
from services.identity.admins.models import Admin
from services.identity.errors import AccountLocked, InvalidMfaCode, InvalidMfaToken
from services.identity.lockouts import store as counters
from services.identity.lockouts.models import Counted, LockoutRules
from services.identity.step_up.models import StepUpFactor
from services.identity.totp.codes import matching_step

_SOURCE = "second_factor"


class AdminTotp:
    """Knows the secrets of admins' apps, and counts attempts at them over all logins and challenges."""

    def __init__(self, db: Database, clock: Clock, sealer: Sealer, rules: LockoutRules) -> None:
        """Take what the secrets are sealed with, and how many wrong codes lock an admin's app."""
        self._db = db
        self._clock = clock
        self._sealer = sealer
        self._rules = rules

    async def factors(self, admin_id: UUID) -> tuple[tuple[str, ...], int]:
        """Return what an active admin could show, and the epoch of its logins."""
        async with self._db.platform() as tx:
            admin = await store.find(tx, admin_id)
        if admin is None or not admin.is_active:
            return (), 0
        return (StepUpFactor.TOTP,) if admin.totp_secret else (), admin.token_epoch

    async def refusal(self, tx: Tx, admin: Admin, code: str) -> AppError | None:
        """Count an attempt and use a code up; return why it is not good, None when it is.

        The caller commits in either case, and raises after.
        """
        if admin.totp_secret is None:
            return InvalidMfaToken()
        await store.enter_platform(tx)
        now, subject = self._clock.now(), admin.id.bytes
        counted = await counters.count(tx, subject, _SOURCE, self._rules.account_threshold, self._rules, now)
        if not isinstance(counted, Counted):
            return AccountLocked(retry_after=max(1, int((counted - now).total_seconds())))
        step = self.step(admin, admin.totp_secret, code)
        if step is None or not await store.use_step(tx, admin.id, admin.totp_secret, step):
            return InvalidMfaCode()
        await counters.clear(tx, subject, _SOURCE)
        return None

    def step(self, admin: Admin, sealed: bytes, code: str) -> int | None:
        """Return the time step whose code this is; uses nothing up."""
        secret = self._sealer.open(sealed, _row(admin.id)).decode()
        return matching_step(secret, code, self._clock.now())

    def seal(self, admin: Admin, secret: str) -> bytes:
        """Encrypt a secret for its admin's row."""
        return self._sealer.seal(secret.encode(), _row(admin.id))


def _row(admin_id: UUID) -> str:
    return f"admin-totp:{admin_id}"
