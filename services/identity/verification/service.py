"""The rules of verifying an address."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError, RateLimited, Unauthenticated
from services.identity.email_tokens.mailbox import MailboxProofs
from services.identity.email_tokens.models import TokenKind
from services.identity.email_tokens.service import TTL, EmailTokens
from services.identity.errors import EmailAlreadyVerified
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.sessions.duties import SessionDuties
from services.identity.users import store as users
from services.identity.users.models import User

log = structlog.get_logger()

_PATH = "/api/auth/verify-email"
_THROTTLED_SECONDS = 300


class VerificationService:
    """Sends verification mails and takes their tokens."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        tokens: EmailTokens,
        mailer: Mailer,
        proofs: MailboxProofs,
        duties: SessionDuties,
        base_url: str,
    ) -> None:
        """Take the parts; links begin with `base_url`, whatever a request says of its host."""
        self._db = db
        self._clock = clock
        self._tokens = tokens
        self._mailer = mailer
        self._proofs = proofs
        self._duties = duties
        self._base_url = base_url.rstrip("/")

    async def send(self, tx: Tx, caller: CallerContext, user: User) -> None:
        """Queue the mail that asks a user to verify its address; nothing without a way to send mail."""
        if not self._mailer.is_on:
            return
        ttl = TTL[TokenKind.VERIFY_EMAIL]
        token = await self._tokens.issue(tx, user, TokenKind.VERIFY_EMAIL)
        variables = {
            "link": f"{self._base_url}{_PATH}?token={token}",
            "hours": str(ttl // timedelta(hours=1)),
        }
        until = self._clock.now() + ttl
        await self._mailer.send(tx, caller, user, MailKind.VERIFY_EMAIL, variables, useful_until=until)

    async def resend(self, caller: CallerContext) -> None:
        """Send the calling user another verification mail.

        Raises:
            EmailAlreadyVerified: there is nothing to verify.
            RateLimited: the mailbox got enough of them lately.
            FeatureUnavailable: no mail can be sent.
        """
        self._mailer.require()
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
            if user is None or not user.is_active:
                raise Unauthenticated
            if user.email_verified:
                raise EmailAlreadyVerified
            if await self._tokens.is_throttled(tx, user, TokenKind.VERIFY_EMAIL):
                raise RateLimited(retry_after=_THROTTLED_SECONDS)
            await self.send(tx, caller, user)

    async def verify(self, caller: CallerContext, raw_token: str) -> User:
        """Verify the address that a token was sent to.

        Raises:
            InvalidLink: the token verifies nothing, or nothing any more.
        """
        token = await self._tokens.find(caller, raw_token, TokenKind.VERIFY_EMAIL)
        caller = replace(caller, client_id=token.client_id)
        async with self._db.tenant(token.client_id) as tx:
            user = await self._tokens.redeem(tx, token)
            user, owed = await self._proofs.verify(tx, caller, user)
        for duty in owed:
            try:
                await self._duties.fulfil(duty, caller)
            except AppError as error:
                log.warning("token service not told of a verified address", code=error.code)
        return user
