"""An admin's answer to a challenge: a code of the app, used up, for the proof that a guarded action needs."""

from __future__ import annotations

from chassis.context import CallerContext
from chassis.database import Database
from chassis.outbox import Outbox
from contracts import events
from services.identity.admins import store
from services.identity.admins.factors import AdminTotp
from services.identity.errors import InvalidChallenge, InvalidMfaCode, WrongCode
from services.identity.step_up.models import Granted, StepUpFactor
from services.identity.step_up.service import StepUpService


class AdminStepUp:
    """Takes the codes of admins."""

    def __init__(self, db: Database, outbox: Outbox, guard: StepUpService, totp: AdminTotp) -> None:
        """Take who made the challenge, and who checks codes."""
        self._db = db
        self._outbox = outbox
        self._guard = guard
        self._totp = totp

    async def verify(self, caller: CallerContext, challenge_token: str, code: str) -> Granted:
        """Give the proof for a challenge of this admin.

        Raises:
            InvalidChallenge: no such challenge of this admin waits.
            WrongCode: the code is wrong or was used; another may be shown, five times a challenge.
            AccountLocked: too many were wrong.
            FeatureUnavailable: Redis is away.
        """
        challenge = await self._guard.claim(caller, challenge_token)
        async with self._db.platform() as tx:
            admin = await store.find(tx, caller.admin_id) if caller.admin_id else None
            if admin is None or not admin.is_active or admin.token_epoch != challenge.epoch:
                raise InvalidChallenge
            refusal = await self._totp.refusal(tx, admin, code)
            if refusal is not None:
                refused = events.AdminFactorRefused(target_id=admin.id, reason=refusal.code)
                await self._outbox.emit(tx, refused, caller)
        if isinstance(refusal, InvalidMfaCode):
            raise WrongCode
        if refusal is not None:
            raise refusal
        return await self._guard.grant(caller, challenge_token, StepUpFactor.TOTP)
