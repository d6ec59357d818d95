"""What must be shown to change the factors of an account: not a session alone, which may be stolen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.context import CallerContext
from contracts.actions import Action
from services.identity.errors import MfaAlreadyEnabled
from services.identity.logins.service import LoginGate
from services.identity.passwords.service import PasswordService
from services.identity.second_factors.service import SecondFactors
from services.identity.step_up.service import StepUpService
from services.identity.users.models import User

FRESH = timedelta(minutes=15)
"""How long after a login a user without a second factor may set one up without the password."""

_MFA = "mfa"  # RFC 8176 §2


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows beside its session."""

    password: str | None = None
    code: str | None = None
    step_up_token: str | None = None


class FreshProof:
    """Asks for what fits the account: a second factor where there is one, else the password or a login.

    A code, or the password, may come with the request itself; whatever else goes by the step-up guard, which
    also has the client's policy for the action.
    """

    def __init__(
        self,
        clock: Clock,
        gate: LoginGate,
        passwords: PasswordService,
        factors: SecondFactors,
        guard: StepUpService,
    ) -> None:
        """Take who knows what a user has, and who checks either."""
        self._guard = guard
        self._clock = clock
        self._gate = gate
        self._passwords = passwords
        self._factors = factors

    async def check(self, caller: CallerContext, user: User, shown: Shown, action: Action) -> None:
        """Accept the proof for an action on the factors, using up a code or a step-up token.

        A token for the set-up of a first factor is proof of it, and of nothing once there is one: it was
        given for the password alone.

        Raises:
            StepUpRequired: nothing that fits was shown.
            ActionBlocked: the client's policy forbids the action.
            MfaAlreadyEnabled: the token is for a first factor, and there is one.
            WrongCode, WrongPassword, AccountLocked: what was shown is wrong.
        """
        if caller.is_enrolling:
            await self.check_enrolling(user)
            return
        is_proven = await self._is_proven(caller, user, shown)
        await self._guard.check(caller, action, token=shown.step_up_token, is_proven=is_proven)

    async def _is_proven(self, caller: CallerContext, user: User, shown: Shown) -> bool:
        """Whether the request itself has what is needed: less than a factor is nothing where there is one."""
        if user.mfa_enabled:
            if shown.code is None:
                return False
            await self._factors.show_any(caller, user, shown.code)
            return True
        if await self._gate.has_factor(user):
            return self._is_fresh(caller) and _MFA in caller.amr
        if shown.password is not None:
            await self._passwords.confirm(caller, shown.password)
            return True
        return self._is_fresh(caller)

    async def check_enrolling(self, user: User) -> None:
        """Check that a user who comes with a token for the set-up of a first factor has none.

        Raises:
            MfaAlreadyEnabled: it has one.
        """
        if user.mfa_enabled or await self._gate.has_factor(user):
            raise MfaAlreadyEnabled

    def _is_fresh(self, caller: CallerContext) -> bool:
        if caller.auth_time is None:
            return False
        return self._clock.now().timestamp() - caller.auth_time <= FRESH.total_seconds()
