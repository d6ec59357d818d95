"""The user's answer to a challenge: a factor is shown, and used up, for the proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import FieldError, Unauthenticated, UnprocessableRequest
from services.identity.errors import (
    FactorNotOffered,
    InvalidChallenge,
    InvalidPasskey,
    InvalidPasskeySession,
    WrongPasskey,
)
from services.identity.logins.models import Factor
from services.identity.passkeys.credentials import ShownCredential
from services.identity.passkeys.logins import PasskeyLogins
from services.identity.passwords.service import PasswordService
from services.identity.second_factors.service import SecondFactors
from services.identity.step_up.models import Granted, StepUpFactor
from services.identity.step_up.service import StepUpService
from services.identity.users import store as users
from services.identity.users.models import User


@dataclass(frozen=True, slots=True)
class Answered:
    """What a user shows: the one member that fits the factor."""

    factor: StepUpFactor
    code: str | None = None
    password: str | None = None
    session_id: str | None = None
    credential: ShownCredential | None = None


class StepUpVerification:
    """Takes the factors of users."""

    def __init__(
        self,
        db: Database,
        guard: StepUpService,
        factors: SecondFactors,
        passwords: PasswordService,
        passkeys: PasskeyLogins,
    ) -> None:
        """Take who made the challenge, and who checks factors."""
        self._db = db
        self._guard = guard
        self._factors = factors
        self._passwords = passwords
        self._passkeys = passkeys

    async def verify(self, caller: CallerContext, challenge_token: str, answered: Answered) -> Granted:
        """Give the proof for a challenge that a factor answers.

        Raises:
            InvalidChallenge: no such challenge of this user and session waits.
            FactorNotOffered: it does not take this factor.
            WrongCode, WrongPassword, WrongPasskey: another may be shown, five times a challenge.
            AccountLocked: too many were wrong.
            UnprocessableRequest: the member that the factor needs is missing.
            FeatureUnavailable: Redis is away.
        """
        challenge = await self._guard.claim(caller, challenge_token)
        user = await self._user(caller)
        if user.auth_epoch != challenge.epoch:
            raise InvalidChallenge
        if answered.factor not in challenge.factors:
            raise FactorNotOffered
        await self._show(caller, user, answered)
        return await self._guard.grant(caller, challenge_token, answered.factor)

    async def _show(self, caller: CallerContext, user: User, answered: Answered) -> None:
        match answered.factor:
            case StepUpFactor.PASSWORD:
                await self._passwords.confirm(caller, _required(answered.password, "password"))
            case StepUpFactor.TOTP | StepUpFactor.RECOVERY_CODE:
                code = _required(answered.code, "code")
                await self._factors.show(caller, user, Factor(answered.factor), code)
            case StepUpFactor.PASSKEY:
                session_id = _required(answered.session_id, "session_id")
                credential = _required(answered.credential, "credential")
                try:
                    await self._passkeys.prove(caller, session_id, credential, user_id=user.id)
                except (InvalidPasskey, InvalidPasskeySession):
                    # Not a 401 here: the access token is good.
                    raise WrongPasskey from None

    async def _user(self, caller: CallerContext) -> User:
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
        if user is None or not user.is_active:
            raise Unauthenticated
        return user


Shown = TypeVar("Shown", str, ShownCredential)


def _required(value: Shown | None, name: str) -> Shown:
    if not value:
        raise UnprocessableRequest(errors=(FieldError(name, "missing", "This factor needs it."),))
    return value
