"""A user's recovery codes: how many are left, and new ones. Knows no HTTP and no SQL."""

from __future__ import annotations

from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import Unauthenticated
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from services.identity.errors import MfaNotEnabled
from services.identity.recovery_codes.factor import RecoveryCodeFactor
from services.identity.recovery_codes.models import CodesLeft
from services.identity.second_factors.fresh_proof import FreshProof, Shown
from services.identity.users import store as users


class RecoveryCodeService:
    """The rules of recovery codes."""

    def __init__(self, db: Database, outbox: Outbox, codes: RecoveryCodeFactor, proofs: FreshProof) -> None:
        """Take who keeps the codes, and who checks what is shown for new ones."""
        self._db = db
        self._outbox = outbox
        self._codes = codes
        self._proofs = proofs

    async def left(self, caller: CallerContext) -> CodesLeft:
        """Return how many codes the calling user has left."""
        async with self._db.tenant(caller.require_client()) as tx:
            return await self._codes.left(tx, caller.require_user())

    async def replace(self, caller: CallerContext, shown: Shown) -> list[str]:
        """Give the calling user ten new codes, for a fresh proof; the earlier ones are void.

        Raises:
            MfaNotEnabled: there is no factor that they could stand in for.
            StepUpRequired, ActionBlocked, WrongCode, AccountLocked: see `FreshProof`.
        """
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
        if user is None or not user.is_active:
            raise Unauthenticated
        if not user.mfa_enabled:
            raise MfaNotEnabled
        await self._proofs.check(caller, user, shown, Action.RECOVERY_CODES_ROTATE)
        async with self._db.tenant(user.client_id) as tx:
            locked = await users.lock(tx, user.id)
            if locked is None or not locked.mfa_enabled:
                raise MfaNotEnabled
            codes = await self._codes.replace(tx, user.id)
            await self._outbox.emit(tx, events.RecoveryCodesReplaced(target_id=user.id), caller)
        return codes
