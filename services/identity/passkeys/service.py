"""A user's passkeys: the list, their names, their end; and passkeys as a second factor of logins."""

from __future__ import annotations

from uuid import UUID

from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import Unauthenticated
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from contracts.clients import ClientDirectory
from contracts.security_policy import MfaMode, SecurityPolicy
from services.identity.errors import MfaRequiredByPolicy, PasskeyNotFound
from services.identity.logins.models import Factor
from services.identity.passkeys import store
from services.identity.passkeys.models import Passkey
from services.identity.second_factors.fresh_proof import FreshProof, Shown
from services.identity.users import store as users
from services.identity.users.models import User


class PasskeyFactors:
    """Passkeys as a second factor (a `FactorSource`): those that have verified their user."""

    async def factors(self, tx: Tx, user: User) -> list[Factor]:
        """Return the factor when the user has such a passkey."""
        return [Factor.PASSKEY] if await store.has_factor(tx, user.id) else []


class PasskeyService:
    """What users do with passkeys they have."""

    def __init__(self, db: Database, outbox: Outbox, clients: ClientDirectory, proofs: FreshProof) -> None:
        """Take where passkeys are kept, who knows the clients' rules, and who asks for proofs."""
        self._db = db
        self._outbox = outbox
        self._clients = clients
        self._proofs = proofs

    async def list(self, caller: CallerContext) -> list[Passkey]:
        """Return the calling user's passkeys, the oldest first."""
        async with self._db.tenant(caller.require_client()) as tx:
            return await store.of_user(tx, caller.require_user())

    async def rename(self, caller: CallerContext, passkey_id: UUID, name: str) -> Passkey:
        """Name a passkey of the calling user.

        Raises:
            PasskeyNotFound: the user has none with this id.
        """
        async with self._db.tenant(caller.require_client()) as tx:
            passkey = await store.rename(tx, caller.require_user(), passkey_id, name)
            if passkey is None:
                raise PasskeyNotFound
            renamed = events.PasskeyRenamed(target_id=caller.require_user(), passkey_id=str(passkey_id))
            await self._outbox.emit(tx, renamed, caller)
        return passkey

    async def remove(self, caller: CallerContext, passkey_id: UUID, shown: Shown) -> None:
        """Remove a passkey of the calling user, who proves afresh to be here; sessions go on.

        Raises:
            PasskeyNotFound: the user has none with this id.
            StepUpRequired, ActionBlocked, WrongCode, WrongPassword, AccountLocked: see `FreshProof`.
            MfaRequiredByPolicy: the client demands a second factor, and the user would have none left.
        """
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
            ids = {passkey.id for passkey in await store.of_user(tx, caller.require_user())}
        if user is None or not user.is_active:
            raise Unauthenticated
        if passkey_id not in ids:
            raise PasskeyNotFound
        await self._proofs.check(caller, user, shown, Action.PASSKEY_REMOVE)
        policy = SecurityPolicy.of((await self._clients.get(caller.require_client())).settings)
        async with self._db.tenant(caller.require_client()) as tx:
            # Locked, so that two removals cannot each take the other's passkey for the one that stays.
            user = await store.lock_user(tx, caller.require_user())
            if user is None or not user.is_active:
                raise Unauthenticated
            own = {passkey.id: passkey for passkey in await store.of_user(tx, user.id)}
            if passkey_id not in own:
                raise PasskeyNotFound
            removed = own.pop(passkey_id)
            has_another = user.mfa_enabled or any(passkey.user_verified for passkey in own.values())
            if _demands_factor(policy) and removed.user_verified and not has_another:
                raise MfaRequiredByPolicy
            await store.delete(tx, passkey_id)
            # Whoever had the key may be half way through a login, or at a device trusted for its sake.
            await users.void_proofs(tx, user.id)
            event = events.PasskeyRemoved(target_id=user.id, passkey_id=str(passkey_id))
            await self._outbox.emit(tx, event, caller)


def _demands_factor(policy: SecurityPolicy) -> bool:
    """Whether every user of the client must have a second factor."""
    return policy.mfa.mode is MfaMode.REQUIRED or policy.mfa.enrollment_required
