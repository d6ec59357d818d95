"""What must be shown to change the factors of an account: not a session alone, which may be stolen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.context import CallerContext
from services.identity.errors import MfaAlreadyEnabled, ReauthenticationRequired
from services.identity.logins.service import LoginGate
from services.identity.passwords.service import PasswordService
from services.identity.second_factors.service import SecondFactors
from services.identity.users.models import User

FRESH = timedelta(minutes=15)
"""How long after a login a user without a second factor may set one up without the password."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows beside its session."""

    password: str | None = None
    code: str | None = None


class FreshProof:
    """Asks for what fits the account: a code where there is a second factor, else the password or a login."""

    def __init__(
        self, clock: Clock, gate: LoginGate, passwords: PasswordService, factors: SecondFactors
    ) -> None:
        """Take who knows what a user has, and who checks either."""
        self._clock = clock
        self._gate = gate
        self._passwords = passwords
        self._factors = factors

    async def check(self, caller: CallerContext, user: User, shown: Shown) -> None:
        """Accept the proof, using up a code.

        A token for the set-up of a first factor is proof of it, and of nothing once there is one: it was
        given for the password alone.

        Raises:
            ReauthenticationRequired: nothing that fits was shown.
            MfaAlreadyEnabled: the token is for a first factor, and there is one.
            WrongCode, WrongPassword, AccountLocked: what was shown is wrong.
        """
        if caller.is_enrolling:
            await self.check_enrolling(user)
        elif user.mfa_enabled:
            if shown.code is None:
                raise ReauthenticationRequired
            await self._factors.show_any(caller, user, shown.code)
        elif shown.password is not None:
            await self._passwords.confirm(caller, shown.password)
        elif not self._is_fresh(caller):
            raise ReauthenticationRequired

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
