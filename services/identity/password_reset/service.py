"""The rules of resetting a password by mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from services.identity.email_tokens.mailbox import MailboxProofs
from services.identity.email_tokens.models import LiveToken, TokenKind
from services.identity.email_tokens.service import TTL, EmailTokens
from services.identity.errors import SessionsNotEnded
from services.identity.lockouts.service import LockoutService
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.mail_requests.models import MailRequest, RequestKind
from services.identity.mail_requests.service import MailRequests
from services.identity.passwords import store as passwords
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.new_passwords import NewPasswords
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import Duty, DutyKind
from services.identity.users import store as users
from services.identity.users.email import Email, EmailHasher

log = structlog.get_logger()

_PATH = "/api/auth/reset-password"
_REASON = "password_reset"
_REQUEST = "request"

Distrust = Callable[[Tx, UUID], Awaitable[None]]
"""Ends the trust of all devices of a user."""


def request_of(token: LiveToken) -> str:
    """Return what names the login page that a reset began at; empty when it began elsewhere."""
    return str(token.payload.get(_REQUEST, ""))


class PasswordResetService:
    """Mails reset links, and takes new passwords for them."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        tokens: EmailTokens,
        mailer: Mailer,
        requests: MailRequests,
        proofs: MailboxProofs,
        emails: EmailHasher,
        hasher: PasswordHasher,
        new_passwords: NewPasswords,
        lockouts: LockoutService,
        distrust: Distrust,
        duties: SessionDuties,
        base_url: str,
    ) -> None:
        """Take the parts; links begin with `base_url`, whatever a request says of its host."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._tokens = tokens
        self._mailer = mailer
        self._requests = requests
        self._proofs = proofs
        self._emails = emails
        self._hasher = hasher
        self._new_passwords = new_passwords
        self._lockouts = lockouts
        self._distrust = distrust
        self._duties = duties
        self._base_url = base_url.rstrip("/")
        requests.on(RequestKind.RESET_PASSWORD, self.send)

    async def ask(self, caller: CallerContext, typed_email: str, *, request: str = "") -> None:
        """Have a link mailed to an address, if it has an account; nothing here depends on whether it has.

        `request` names the login page that the browser goes back to afterwards, if it comes from there.

        Raises:
            InvalidEmail: no account can have this address.
            FeatureUnavailable: no mail can be sent.
        """
        self._mailer.require()
        email = Email.parse(typed_email)
        asked = events.PasswordResetRequested(email_hash=self._emails.hash(email).hex())
        wishes = {_REQUEST: request} if request else {}
        await self._requests.note(caller, RequestKind.RESET_PASSWORD, email, asked, wishes)

    async def send(self, tx: Tx, request: MailRequest) -> None:
        """Mail the link that was asked for; quietly nothing for a stranger, or who got enough of them."""
        user = await users.find_by_email(tx, request.email.normalized)
        if user is None or not user.is_active:
            return
        if await self._tokens.is_throttled(tx, user, TokenKind.RESET_PASSWORD):
            return
        ttl = TTL[TokenKind.RESET_PASSWORD]
        token = await self._tokens.issue(tx, user, TokenKind.RESET_PASSWORD, request.wishes)
        variables = {
            "link": f"{self._base_url}{_PATH}?token={token}",
            "minutes": str(ttl // timedelta(minutes=1)),
        }
        until = self._clock.now() + ttl
        await self._mailer.send(
            tx, request.caller, user, MailKind.RESET_PASSWORD, variables, useful_until=until
        )

    async def reset(self, caller: CallerContext, raw_token: str, password: str) -> int:
        """Replace the password of the user whom a token was mailed to; returns how many sessions ended.

        Whatever the old password could still open is void by it: sessions, waiting logins, mailed links, the
        trust of devices. The mailbox is proven by it, too.

        Raises:
            InvalidLink: the token resets nothing, or nothing any more.
            WeakPassword: the password breaks the policy; the token is good for another.
            Overloaded: too many passwords wait to be hashed.
            SessionsNotEnded: the password is changed, and sessions end later.
        """
        token = await self._tokens.find(caller, raw_token, TokenKind.RESET_PASSWORD)
        email = Email.parse(token.user.email)
        await self._new_passwords.check(
            token.client_id, password, email=email, display_name=token.user.display_name, field="password"
        )
        new_hash = await self._hasher.hash(password)
        caller = replace(caller, client_id=token.client_id)
        async with self._db.tenant(token.client_id) as tx:
            user = await self._tokens.redeem(tx, token)
            user, owed = await self._proofs.take_back(tx, caller, user)
            await passwords.reset(tx, user.id, new_hash, self._clock.now())
            await self._distrust(tx, user.id)
            await self._lockouts.unlock(tx, email)
            done = events.PasswordReset(target_id=user.id)
            await self._outbox.emit(tx, done, caller, actor=Actor(ActorType.USER, str(user.id)))
            end = await self._duties.owe(tx, DutyKind.END_SESSIONS, caller, reason=_REASON, of=user)
        return await self._fulfil(caller, [*owed, end])

    async def _fulfil(self, caller: CallerContext, owed: list[Duty]) -> int:
        ended, failure = 0, None
        for duty in owed:
            try:
                ended += await self._duties.fulfil(duty, caller)
            except AppError as error:
                log.warning("token service not told of a new password", code=error.code, kind=duty.kind)
                failure = error
        if failure is not None:
            raise SessionsNotEnded from failure
        return ended
