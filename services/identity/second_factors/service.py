"""Shows of a second factor: counted before they are looked at, used up when they are right.

Every place that takes a code (a login, a step-up, a change of factors) comes here, so that no place gives
more guesses, and none takes a code that another has used.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from prometheus_client import Counter

from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from services.identity.errors import AccountLocked, WrongCode
from services.identity.lockouts.factors import FactorLockouts
from services.identity.logins.models import Factor
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.recovery_codes.factor import RecoveryCodeFactor
from services.identity.totp.codes import CODE_PATTERN
from services.identity.totp.factor import TotpFactor
from services.identity.users.models import User

ATTEMPTS = Counter(
    "second_factor_attempts_total",
    "Codes of second factors, by factor and what became of them.",
    ["factor", "outcome"],
)

AMR: Final = {Factor.TOTP: ("otp",), Factor.RECOVERY_CODE: ("otp",)}
"""What a session opened with a factor says of it (RFC 8176 §2 has no value for recovery codes)."""

Found = TypeVar("Found", bound=int)


class SecondFactors:
    """Checks the codes of users."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        *,
        totp: TotpFactor,
        recovery_codes: RecoveryCodeFactor,
        lockouts: FactorLockouts,
        mailer: Mailer,
    ) -> None:
        """Take the factors that are codes, and who tells users that a recovery code was used."""
        self._db = db
        self._outbox = outbox
        self._totp = totp
        self._recovery_codes = recovery_codes
        self._lockouts = lockouts
        self._mailer = mailer

    async def show(self, caller: CallerContext, user: User, factor: Factor, code: str) -> None:
        """Take a code of a user, and use it up; what it says is committed, whatever becomes of the rest.

        Raises:
            WrongCode: it is wrong or was used; another may be shown.
            AccountLocked: too many were wrong; a right one is refused too.
        """

        async def consume(tx: Tx) -> bool:
            return await self._consume(tx, caller, user, factor, code)

        await self.count(caller, user, factor, consume)

    async def show_any(self, caller: CallerContext, user: User, code: str) -> Factor:
        """Take a code of the authenticator app or a recovery code, told apart by their form.

        Raises:
            WrongCode, AccountLocked: as `show`.
        """
        factor = Factor.TOTP if re.fullmatch(CODE_PATTERN, code) else Factor.RECOVERY_CODE
        await self.show(caller, user, factor, code)
        return factor

    async def count(
        self, caller: CallerContext, user: User, factor: Factor, look: Callable[[Tx], Awaitable[Found]]
    ) -> Found:
        """Count an attempt of a user, unless too many were wrong, and return what `look` finds.

        It finds 0 or False where the code is wrong.

        Raises:
            WrongCode, AccountLocked: as `show`.
        """
        async with self._db.tenant(user.client_id) as tx:
            found = await self._look(tx, caller, user, look)
            if isinstance(found, AppError):
                refused = events.SecondFactorRefused(target_id=user.id, factor=factor, reason=found.code)
                await self._outbox.emit(tx, refused, caller)
        if isinstance(found, AppError):
            ATTEMPTS.labels(factor, found.code).inc()
            raise found
        ATTEMPTS.labels(factor, "accepted").inc()
        return found

    async def _look(
        self, tx: Tx, caller: CallerContext, user: User, look: Callable[[Tx], Awaitable[Found]]
    ) -> Found | WrongCode | AccountLocked:
        attempt = await self._lockouts.reserve(tx, user)
        if isinstance(attempt, AccountLocked):
            return attempt
        found = await look(tx)
        if not found:
            await self._lockouts.failed(tx, user, attempt, caller)
            return WrongCode()
        await self._lockouts.succeeded(tx, user)
        return found

    async def _consume(self, tx: Tx, caller: CallerContext, user: User, factor: Factor, code: str) -> bool:
        match factor:
            case Factor.TOTP:
                return await self._totp.consume(tx, user.id, code)
            case Factor.RECOVERY_CODE:
                if not await self._recovery_codes.consume(tx, user.id, code):
                    return False
                left = await self._recovery_codes.left(tx, user.id)
                used = events.RecoveryCodeUsed(target_id=user.id, remaining=left.remaining)
                await self._outbox.emit(tx, used, caller, actor=Actor(ActorType.USER, str(user.id)))
                told = {"remaining": str(left.remaining)}
                await self._mailer.send(tx, caller, user, MailKind.RECOVERY_CODE_USED, told)
                return True
            case _:
                # A passkey is no code: its ceremony decides.
                return False
