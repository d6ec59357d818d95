"""The second leg of a login: a code for the login that waits."""

from __future__ import annotations

from chassis.context import CallerContext
from chassis.database import Database
from services.identity.errors import InvalidMfaCode, InvalidMfaToken, WrongCode
from services.identity.logins.models import Browser, Factor, Opened
from services.identity.logins.service import LoginGate
from services.identity.second_factors.service import AMR, SecondFactors
from services.identity.users import store as users


class SecondFactorLogin:
    """Completes logins by a code."""

    def __init__(self, db: Database, factors: SecondFactors, gate: LoginGate) -> None:
        """Take who knows codes, and who opens sessions."""
        self._db = db
        self._factors = factors
        self._gate = gate

    async def complete(
        self, caller: CallerContext, mfa_token: str, factor: Factor, code: str, browser: Browser
    ) -> Opened:
        """Open the session of the login that waits behind a token.

        Raises:
            InvalidMfaToken: none of this client's does any more, or it saw too many codes.
            InvalidMfaCode: the code is wrong or was used; the login goes on waiting.
            AccountLocked: the user's second factors saw too many wrong codes.
            FeatureUnavailable: Redis is away.
        """
        pending = await self._gate.pending(caller, mfa_token)
        async with self._db.tenant(pending.client_id) as tx:
            user = await users.find(tx, pending.user_id)
        if user is None or not user.is_active or user.auth_epoch != pending.auth_epoch:
            raise InvalidMfaToken
        if factor not in pending.factors:
            raise InvalidMfaCode
        try:
            await self._factors.show(caller, user, factor, code)
        except WrongCode:
            raise InvalidMfaCode from None
        return await self._gate.complete(caller, pending, mfa_token, factor, AMR[factor], browser)
