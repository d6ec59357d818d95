"""Set-up, activation and removal of an authenticator app. Knows no HTTP and no SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError, Unauthenticated
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from contracts.clients import Client, ClientDirectory
from contracts.security_policy import MfaMode, SecurityPolicy
from services.identity.errors import (
    MfaNotEnabled,
    MfaRequiredByPolicy,
    NoPendingSetup,
)
from services.identity.logins.models import Browser, Factor, Opened
from services.identity.logins.service import LoginGate
from services.identity.recovery_codes.factor import RecoveryCodeFactor
from services.identity.second_factors.fresh_proof import FreshProof, Shown
from services.identity.second_factors.service import AMR, SecondFactors
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import Duty, DutyKind
from services.identity.totp import store
from services.identity.totp.codes import matching_step, new_secret, otpauth_url, qr_svg
from services.identity.totp.factor import TotpFactor
from services.identity.totp.models import Enabled, PendingSecret, Setup
from services.identity.users import store as users
from services.identity.users.models import User

log = structlog.get_logger()

_PENDING_TTL = timedelta(minutes=15)
_MAX_BRAND = 40
"""Characters; keeps the URL within what a QR code holds, however much of it must be encoded."""


class TotpService:
    """The rules of the authenticator app of a user."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        totp: TotpFactor,
        recovery_codes: RecoveryCodeFactor,
        factors: SecondFactors,
        proofs: FreshProof,
        gate: LoginGate,
        duties: SessionDuties,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._totp = totp
        self._recovery_codes = recovery_codes
        self._factors = factors
        self._proofs = proofs
        self._gate = gate
        self._duties = duties

    async def set_up(self, caller: CallerContext, shown: Shown) -> Setup:
        """Make a secret that `enable` will make the active one; until then the active one stays as it is.

        Raises:
            StepUpRequired, ActionBlocked, MfaAlreadyEnabled, WrongCode, WrongPassword, AccountLocked: see
                `FreshProof`.
        """
        user = await self._user(caller)
        await self._proofs.check(caller, user, shown, Action.MFA_SETUP)
        client = await self._clients.get(user.client_id)
        secret = new_secret()
        url = otpauth_url(secret, issuer=_brand(client), account=user.email)
        svg = await asyncio.to_thread(qr_svg, url)
        sealed = self._totp.seal(secret, user.id)
        async with self._db.tenant(user.client_id) as tx:
            await store.put_pending(tx, user.id, sealed, self._clock.now(), beside_factor=user.mfa_enabled)
        return Setup(secret, url, svg)

    async def enable(self, caller: CallerContext, code: str, browser: Browser) -> Enabled:
        """Make the secret that was set up the active one, by a code of it; gives new recovery codes.

        A caller with an enrollment token gets its session; when that cannot be opened the codes, which are
        shown once, come without it.

        Raises:
            NoPendingSetup: nothing is being set up, or another request was first.
            WrongCode, AccountLocked: see `SecondFactors`.
            MfaAlreadyEnabled: the token is for a first factor, and there is one.
        """
        user = await self._user(caller)
        if caller.is_enrolling:
            await self._proofs.check_enrolling(user)
        async with self._db.tenant(user.client_id) as tx:
            pending = await store.find_pending(tx, user.id, self._clock.now() - _PENDING_TTL)
        if pending is None or pending.beside_factor is not user.mfa_enabled:
            raise NoPendingSetup
        step = await self._matched(caller, user, pending, code)
        changed, codes = await self._activate(caller, user, pending, step)
        if not caller.is_enrolling:
            return Enabled(codes, None)
        return Enabled(codes, await self._session_after_enrollment(caller, changed, browser))

    async def disable(self, caller: CallerContext, shown: Shown) -> None:
        """Remove the authenticator app and the recovery codes; sessions go on.

        Raises:
            MfaNotEnabled: there is none.
            MfaRequiredByPolicy: the client demands a second factor of everybody.
            StepUpRequired, ActionBlocked, WrongCode, AccountLocked: see `FreshProof`.
        """
        user = await self._user(caller)
        if not user.mfa_enabled:
            raise MfaNotEnabled
        policy = SecurityPolicy.of((await self._clients.get(user.client_id)).settings).mfa
        if policy.mode is MfaMode.REQUIRED or policy.enrollment_required:
            raise MfaRequiredByPolicy
        await self._proofs.check(caller, user, shown, Action.MFA_DISABLE)
        async with self._db.tenant(user.client_id) as tx:
            now = self._clock.now()
            if await users.set_mfa_enabled(tx, user.id, now, before=True, after=False) is None:
                raise MfaNotEnabled
            await store.delete(tx, user.id)
            await self._recovery_codes.remove(tx, user.id)
            # Logins that wait for the app can wait no longer, and no device is trusted for its sake.
            await users.void_proofs(tx, user.id)
            await self._outbox.emit(tx, events.TotpDisabled(target_id=user.id), caller)
            duty = await self._duties.owe(tx, DutyKind.PUT_USER, caller)
        await self._tell(duty, caller)

    async def _matched(self, caller: CallerContext, user: User, pending: PendingSecret, code: str) -> int:
        """Return the time step of a code of the pending secret, counting the attempt."""
        secret = self._totp.open(pending.sealed, user.id)

        async def step(_tx: Tx) -> int:
            return matching_step(secret, code, self._clock.now()) or 0

        return await self._factors.count(caller, user, Factor.TOTP, step)

    async def _activate(
        self, caller: CallerContext, user: User, pending: PendingSecret, step: int
    ) -> tuple[User, list[str]]:
        """Make the pending secret the active one, unless another request was first."""
        async with self._db.tenant(user.client_id) as tx:
            now = self._clock.now()
            # First, because it locks the user: of all who change its factors at once, one goes on.
            changed = await users.set_mfa_enabled(tx, user.id, now, before=pending.beside_factor, after=True)
            if changed is None or not await store.activate(tx, user.id, pending, step, now):
                raise NoPendingSetup
            codes = await self._recovery_codes.replace(tx, user.id)
            enabled = events.TotpEnabled(target_id=user.id, replaced=pending.beside_factor)
            await self._outbox.emit(tx, enabled, caller)
            duty = await self._duties.owe(tx, DutyKind.PUT_USER, caller)
        await self._tell(duty, caller)
        return changed, codes

    async def _session_after_enrollment(
        self, caller: CallerContext, user: User, browser: Browser
    ) -> Opened | None:
        try:
            return await self._gate.complete_enrollment(caller, user, Factor.TOTP, AMR[Factor.TOTP], browser)
        except AppError as error:
            log.warning("no session after enrollment", code=error.code, user_id=str(user.id))
            return None

    async def _user(self, caller: CallerContext) -> User:
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
        if user is None or not user.is_active:
            raise Unauthenticated
        return user

    async def _tell(self, duty: Duty, caller: CallerContext) -> None:
        """Let the token service know; when it is away a job tells it later."""
        try:
            await self._duties.fulfil(duty, caller)
        except AppError as error:
            log.warning("token service not told of changed factors", code=error.code)


def _brand(client: Client) -> str:
    """Return what an app shows above the code: the client's brand, else its name."""
    page = client.settings.get("auth_ui")
    brand = page.get("brand_name") if isinstance(page, Mapping) else None
    return (brand if isinstance(brand, str) and brand.strip() else client.name)[:_MAX_BRAND]
