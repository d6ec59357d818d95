"""The rules of another address for an account. Knows no HTTP and no SQL.

Nobody learns from the answer whether an address is taken: its owner is told by mail instead.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Final

import asyncpg
import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError, FieldError, RateLimited, Unauthenticated, UnprocessableRequest
from chassis.events import Actor, ActorType, DomainEvent
from chassis.ids import new_secret
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from services.identity.email_change import store
from services.identity.email_tokens.models import TokenKind
from services.identity.email_tokens.service import TTL, EmailTokens, token_hash
from services.identity.errors import EmailTaken, InvalidLink
from services.identity.logins.service import LoginGate
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.passwords.service import PasswordService
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import Duty, DutyKind
from services.identity.step_up.service import StepUpService
from services.identity.users import store as users
from services.identity.users.email import DomainBlocklist, Email
from services.identity.users.models import User

log = structlog.get_logger()

WAY_BACK: Final = timedelta(hours=72)
"""How long the old address can take a change back."""

_CONFIRM_PATH = "/api/auth/change-email/confirm"
_REVERT_PATH = "/api/auth/change-email/revert"
_REASON = "email_change_reverted"
_THROTTLED_SECONDS = 300
_MAX_TOKEN_LENGTH = 128
_PURGE_SECONDS = 3600.0


class EmailChangeService:
    """Asks for, confirms and takes back another address."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        guard: StepUpService,
        gate: LoginGate,
        passwords: PasswordService,
        tokens: EmailTokens,
        mailer: Mailer,
        blocklist: DomainBlocklist,
        duties: SessionDuties,
        base_url: str,
    ) -> None:
        """Take the parts; links begin with `base_url`, whatever a request says of its host."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._guard = guard
        self._gate = gate
        self._passwords = passwords
        self._tokens = tokens
        self._mailer = mailer
        self._blocklist = blocklist
        self._duties = duties
        self._base_url = base_url.rstrip("/")

    async def ask(
        self, caller: CallerContext, typed_email: str, *, password: str | None, step_up_token: str | None
    ) -> None:
        """Mail the new address a link that confirms it, and the old one a link that takes it back.

        Raises:
            InvalidEmail, EmailDomainBlocked, UnprocessableRequest: the user cannot have this address.
            StepUpRequired, ActionBlocked: see `StepUpGuard`; a user without a second factor may give the
                password with the request instead.
            WrongPassword, AccountLocked: that one is wrong.
            RateLimited: the user asked too often lately.
            FeatureUnavailable: no mail can be sent.
        """
        self._mailer.require()
        email = Email.parse(typed_email)
        self._blocklist.check(email)
        user = await self._user(caller)
        if email.normalized == user.email_normalized:
            fault = FieldError("new_email", "unchanged", "It is the address of the account already.")
            raise UnprocessableRequest(errors=(fault,))
        is_proven = await self._is_proven(caller, user, password)
        await self._guard.check(caller, Action.EMAIL_CHANGE, token=step_up_token, is_proven=is_proven)
        async with self._db.tenant(user.client_id) as tx:
            if await self._tokens.is_throttled(tx, user, TokenKind.EMAIL_CHANGE):
                raise RateLimited(retry_after=_THROTTLED_SECONDS)
            await self._send(tx, caller, user, email)
            asked = events.EmailChangeRequested(target_id=user.id)
            await self._outbox.emit(tx, asked, caller)

    async def confirm(self, caller: CallerContext, raw_token: str) -> User:
        """Give a user the address that a token was mailed to; links, waiting logins and trust end by it.

        Raises:
            InvalidLink: the token confirms nothing, or nothing any more.
            EmailTaken: somebody else has the address by now.
        """
        token = await self._tokens.find(caller, raw_token, TokenKind.EMAIL_CHANGE)
        caller = replace(caller, client_id=token.client_id)
        email = Email.parse(str(token.payload["new_email"]))
        way_back, now = bytes.fromhex(str(token.payload["way_back"])), self._clock.now()
        try:
            async with self._db.tenant(token.client_id) as tx:
                user = await self._tokens.redeem(tx, token)
                if await store.is_kept(tx, email.normalized, user.id, now):
                    raise EmailTaken
                changed = await store.change(tx, user, email, way_back, now, now + WAY_BACK)
                if changed is None:
                    raise InvalidLink
                await self._emit(tx, events.EmailChanged(target_id=user.id), caller, user)
                duty = await self._duties.owe(tx, DutyKind.PUT_USER, caller, of=changed)
        except asyncpg.UniqueViolationError:
            raise EmailTaken from None
        await self._fulfil(duty, caller)
        return changed

    async def find_change(self, caller: CallerContext, raw_token: str) -> User:
        """Return whose address a token would change; uses nothing up.

        Raises:
            InvalidLink: it changes nobody's, or not any more.
        """
        return (await self._tokens.find(caller, raw_token, TokenKind.EMAIL_CHANGE)).user

    async def find_way_back(self, caller: CallerContext, raw_token: str) -> User:
        """Return whose change a token would take back; uses nothing up.

        Raises:
            InvalidLink: it takes nothing back, or nothing any more.
        """
        user = None
        if len(raw_token) <= _MAX_TOKEN_LENGTH:
            async with self._db.platform() as tx:
                user = await store.find_user(tx, token_hash(raw_token), self._clock.now())
        if user is None or caller.client_id not in (None, user.client_id):
            raise InvalidLink
        return user

    async def revert(self, caller: CallerContext, raw_token: str) -> bool:
        """Take a change back, before it is confirmed or within 72 hours after; true when it had been.

        Whoever asked for it may have more than the session: all sessions end, and what waits is void.

        Raises:
            InvalidLink: the token takes nothing back, or nothing any more.
            EmailTaken: somebody else has the old address by now.
        """
        user = await self.find_way_back(caller, raw_token)
        caller = replace(caller, client_id=user.client_id)
        try:
            async with self._db.tenant(user.client_id) as tx:
                was_changed, duties = await self._take_back(tx, caller, token_hash(raw_token))
        except asyncpg.UniqueViolationError:
            raise EmailTaken from None
        for duty in duties:
            await self._fulfil(duty, caller)
        return was_changed

    async def purge(self) -> None:
        """Forget old changes, for ever; a job of the service."""
        while True:
            async with self._db.platform() as tx:
                await store.purge(tx, self._clock.now())
            await asyncio.sleep(_PURGE_SECONDS)

    async def _send(self, tx: Tx, caller: CallerContext, user: User, email: Email) -> None:
        """Queue both mails. Whether the address is taken shows in nothing but whom they go to."""
        now, ttl = self._clock.now(), TTL[TokenKind.EMAIL_CHANGE]
        way_back = new_secret("wb_")
        payload = {"new_email": email.address, "way_back": token_hash(way_back).hex()}
        token = await self._tokens.issue(tx, user, TokenKind.EMAIL_CHANGE, payload)
        await store.insert(tx, user, token_hash(way_back), now, now + ttl)
        owner = await users.find_by_email(tx, email.normalized)
        if owner is not None:
            await self._mailer.send(tx, caller, owner, MailKind.EMAIL_IN_USE, {})
        elif not await store.is_kept(tx, email.normalized, user.id, now):
            link = {"link": f"{self._base_url}{_CONFIRM_PATH}?token={token}"}
            kind = MailKind.EMAIL_CHANGE_CONFIRM
            await self._mailer.send(tx, caller, user, kind, link, to=email.address, useful_until=now + ttl)
        notice = {"email": email.address, "link": f"{self._base_url}{_REVERT_PATH}?token={way_back}"}
        await self._mailer.send(tx, caller, user, MailKind.EMAIL_CHANGE_NOTICE, notice)

    async def _take_back(self, tx: Tx, caller: CallerContext, way_back: bytes) -> tuple[bool, list[Duty]]:
        now = self._clock.now()
        ended = await store.end(tx, way_back, now)
        if ended is None:
            raise InvalidLink
        if ended.was_changed:
            user = await store.restore(tx, ended.user_id, way_back, now)
        else:
            await users.void_proofs(tx, ended.user_id)
            user = await users.find(tx, ended.user_id)
        if user is None:
            raise InvalidLink
        reverted = events.EmailChangeReverted(target_id=user.id, was_changed=ended.was_changed)
        await self._emit(tx, reverted, caller, user)
        put = await self._duties.owe(tx, DutyKind.PUT_USER, caller, of=user)
        end = await self._duties.owe(tx, DutyKind.END_SESSIONS, caller, reason=_REASON, of=user)
        return ended.was_changed, [put, end]

    async def _is_proven(self, caller: CallerContext, user: User, password: str | None) -> bool:
        """Take the password of who has nothing better."""
        if password is None or user.mfa_enabled or await self._gate.has_factor(user):
            return False
        await self._passwords.confirm(caller, password)
        return True

    async def _user(self, caller: CallerContext) -> User:
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
        if user is None or not user.is_active:
            raise Unauthenticated
        return user

    async def _emit(self, tx: Tx, event: DomainEvent, caller: CallerContext, user: User) -> None:
        """Say who did it: the link came to the user's mailbox, whoever the request says it is from."""
        await self._outbox.emit(tx, event, caller, actor=Actor(ActorType.USER, str(user.id)))

    async def _fulfil(self, duty: Duty, caller: CallerContext) -> None:
        try:
            await self._duties.fulfil(duty, caller)
        except AppError as error:
            log.warning("token service not told of a changed address", code=error.code, kind=duty.kind)
