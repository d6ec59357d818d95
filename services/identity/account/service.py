"""Export and deletion of an account, each behind the step-up guard. Knows no HTTP and no SQL."""

from __future__ import annotations

from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError, Unauthenticated
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from contracts.gen.internal.token.v1 import sessions_pb2
from contracts.step_up import StepUpGuard
from services.identity.account import store
from services.identity.account.models import Export, Holdings
from services.identity.devices import store as devices
from services.identity.errors import ChangeNotSpread, UserNotFound
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.passkeys import store as passkeys
from services.identity.recovery_codes import store as recovery_codes
from services.identity.sessions.client import SessionClient
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import Duty, DutyKind
from services.identity.users import store as users
from services.identity.users.email import EmailHasher
from services.identity.users.models import User

log = structlog.get_logger()

ACCOUNTS = Counter("account_requests_total", "What users asked of their accounts.", ["what"])

_SESSIONS_A_PAGE = 1000
_MOST_DEVICES = 10_000


class AccountService:
    """The rules of a user's say over the account."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        guard: StepUpGuard,
        sessions: SessionClient,
        duties: SessionDuties,
        mailer: Mailer,
        emails: EmailHasher,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._guard = guard
        self._sessions = sessions
        self._duties = duties
        self._mailer = mailer
        self._emails = emails

    async def export(self, caller: CallerContext, step_up_token: str | None) -> Export:
        """Return everything that is held on the calling user; no secret, and nothing of anybody else.

        Raises:
            StepUpRequired, ActionBlocked, FeatureUnavailable: see `StepUpGuard`.
            Unavailable: the token service, which keeps the sessions, is away.
        """
        await self._guard.check(caller, Action.DATA_EXPORT, token=step_up_token)
        client_id, user_id = caller.require_client(), caller.require_user()
        sessions = await self._all_sessions(client_id, user_id)
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            user = await users.find(tx, user_id)
            if user is None or not user.is_active:
                raise Unauthenticated
            password_changed_at, totp_enabled_at = await store.proofs_since(tx, user_id)
            holdings = Holdings(
                user=user,
                password_changed_at=password_changed_at,
                totp_enabled_at=totp_enabled_at,
                recovery_codes=await recovery_codes.left(tx, user_id),
                passkeys=await passkeys.of_user(tx, user_id),
                devices=await devices.find_all(tx, user_id, now, _MOST_DEVICES),
                logins=await store.logins(tx, user_id),
            )
            await self._outbox.emit(tx, events.DataExported(target_id=user_id), caller)
        ACCOUNTS.labels("export").inc()
        return Export(now, holdings, sessions)

    async def delete(self, caller: CallerContext, step_up_token: str | None) -> None:
        """Delete the calling user for ever: its data is gone, its sessions end, its address is free again.

        Whoever signs up with the address gets another id, and nothing that was this user's.

        Raises:
            StepUpRequired, ActionBlocked, FeatureUnavailable: see `StepUpGuard`.
            Unauthenticated: another request was first.
        """
        await self._guard.check(caller, Action.ACCOUNT_DELETE, token=step_up_token)
        client_id, user_id = caller.require_client(), caller.require_user()
        async with self._db.tenant(client_id) as tx:
            user = await users.lock(tx, user_id)
            if user is None:
                raise Unauthenticated
            if not user.is_active:
                raise Unauthenticated
            duty = await self._remove(tx, caller, user)
        ACCOUNTS.labels("delete").inc()
        try:
            await self._duties.fulfil(duty, caller)
        except AppError as error:
            # The account is gone and cannot come back to ask again; the job goes on until its sessions are.
            log.warning("token service not told of a deleted user", code=error.code)

    async def delete_of(
        self, caller: CallerContext, client_id: UUID, user_id: UUID, step_up_token: str | None
    ) -> None:
        """Delete a user, suspended or not, for the calling admin, as `delete` does.

        Raises:
            UserNotFound: the client has no such user.
            StepUpRequired, ActionBlocked, FeatureUnavailable: see `StepUpGuard`.
            ChangeNotSpread: it is deleted, and the token service will hear of it later.
        """
        async with self._db.tenant(client_id) as tx:
            if await users.find(tx, user_id) is None:
                raise UserNotFound
        await self._guard.check(
            caller, Action.ACCOUNT_DELETE, token=step_up_token, resource=user_id, client_id=client_id
        )
        async with self._db.tenant(client_id) as tx:
            user = await users.lock(tx, user_id)
            if user is None:
                raise UserNotFound
            duty = await self._remove(tx, caller, user)
        ACCOUNTS.labels("delete_by_admin").inc()
        try:
            await self._duties.fulfil(duty, caller)
        except AppError as error:
            log.warning("token service not told of a deleted user", code=error.code)
            raise ChangeNotSpread from error

    async def _remove(self, tx: Tx, caller: CallerContext, user: User) -> Duty:
        """Delete a locked user and all that hangs on it, tell it by mail, and owe the end of its sessions."""
        email_hash = self._emails.hash_normalized(user.email_normalized)
        await store.delete(tx, user.id, email_hash, self._clock.now())
        await self._mailer.send(tx, caller, user, MailKind.ACCOUNT_DELETED, {})
        await self._outbox.emit(tx, events.UserDeleted(target_id=user.id), caller, client_id=user.client_id)
        return await self._duties.owe(tx, DutyKind.PUT_USER, caller, of=user)

    async def _all_sessions(self, client_id: UUID, user_id: UUID) -> list[sessions_pb2.ListedSession]:
        found: list[sessions_pb2.ListedSession] = []
        while True:
            before = UUID(found[-1].id) if found else None
            page = await self._sessions.list(client_id, user_id, before=before, limit=_SESSIONS_A_PAGE)
            found += page
            if len(page) < _SESSIONS_A_PAGE:
                return found
