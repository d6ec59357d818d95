"""What support may do for a user: find, change, suspend, unlock, end sessions, act in its name.

Whether the calling admin may is decided before: by its permissions and its scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError, FieldError, Kind, UnprocessableRequest
from chassis.events import ActorType, actor_of
from chassis.outbox import Outbox
from chassis.paging import Cursors
from contracts import events
from contracts.actions import Action
from contracts.clients import ClientDirectory
from contracts.step_up import StepUpGuard
from services.identity.errors import ChangeNotSpread, UserNotActive, UserNotFound
from services.identity.lockouts.factors import FactorLockouts
from services.identity.lockouts.service import LockoutService
from services.identity.logins.models import FactorSource
from services.identity.passkeys import store as passkeys
from services.identity.recovery_codes import store as recovery_codes
from services.identity.sessions.client import SessionClient
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import Duty, DutyKind
from services.identity.support import store
from services.identity.support.models import (
    AUDITED,
    Impersonation,
    Search,
    SessionList,
    UserChange,
    UserDetails,
)
from services.identity.totp import store as totp
from services.identity.users import store as users
from services.identity.users.email import Email, search_prefix
from services.identity.users.models import User, UserStatus

log = structlog.get_logger()

ACTIONS = Counter("support_actions_total", "What admins did to users.", ["action"])

_REVOKED = "admin_revoked"
_FACTORS_RESET = "factors_reset"


class SupportService:
    """The rules of support."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        lockouts: LockoutService,
        factor_lockouts: FactorLockouts,
        sessions: SessionClient,
        duties: SessionDuties,
        factors: Sequence[FactorSource],
        guard: StepUpGuard,
        cursors: Cursors,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._lockouts = lockouts
        self._factor_lockouts = factor_lockouts
        self._sessions = sessions
        self._duties = duties
        self._factors = factors
        self._guard = guard
        self._cursors = cursors

    async def page(
        self, client_id: UUID, search: Search, *, limit: int, cursor: str | None
    ) -> tuple[list[User], str | None]:
        """Return one page of a client's users, the newest first, and the cursor of the next.

        Raises:
            ClientNotFound, InvalidCursor: there is no such client or page.
        """
        await self._clients.get(client_id)
        scope = f"users|{client_id}|{search.status or ''}|{search.text or ''}"
        before = UUID(str(self._cursors.read(cursor, scope)[0])) if cursor else None
        # The role that spans tenants: row-level security would keep the index of names from being used.
        async with self._db.platform() as tx:
            found = await store.page(
                tx,
                client_id,
                user_id=_as_id(search.text),
                email=search_prefix(search.text) if search.text else None,
                name=search.text,
                status=search.status,
                before=before,
                limit=limit + 1,
            )
        shown = found[:limit]
        following = self._cursors.make([str(shown[-1].id)], scope) if len(found) > limit else None
        return shown, following

    async def get(self, client_id: UUID, user_id: UUID) -> UserDetails:
        """Return a user of a client.

        Raises:
            UserNotFound: it has none with this id.
        """
        async with self._db.tenant(client_id) as tx:
            return await self._details(tx, await _required(tx, user_id))

    async def change(
        self, caller: CallerContext, client_id: UUID, user_id: UUID, change: UserChange
    ) -> UserDetails:
        """Change a user; a suspended one's sessions have ended, and its tokens are dead, when this returns.

        Raises:
            UserNotFound: the client has no such user.
            UnprocessableRequest: no field is named.
            ChangeNotSpread: it is changed, and the token service will hear of it later.
        """
        if not change.fields:
            raise UnprocessableRequest(errors=(FieldError("body", "empty", "No field to change is named."),))
        async with self._db.tenant(client_id) as tx:
            before = await users.lock(tx, user_id)
            if before is None:
                raise UserNotFound
            after = await store.change(tx, user_id, change, self._clock.now())
            for event in _news(before, after, change):
                await self._outbox.emit(tx, event, caller, client_id=client_id)
            duty = await self._duties.owe(tx, DutyKind.PUT_USER, caller, of=after)
            details = await self._details(tx, after)
        ACTIONS.labels("suspend" if "status" in change.fields and not after.is_active else "change").inc()
        await self._fulfil(duty, caller)
        return details

    async def unlock(self, caller: CallerContext, client_id: UUID, user_id: UUID) -> UserDetails:
        """Take back every lock of the user's address and second factors.

        Raises:
            UserNotFound: the client has no such user.
        """
        async with self._db.tenant(client_id) as tx:
            user = await _required(tx, user_id)
            was_locked = await self._lockouts.unlock(tx, Email.parse(user.email))
            was_locked |= await self._factor_lockouts.unlock(tx, user)
            unlocked = events.UserUnlocked(target_id=user_id, was_locked=was_locked)
            await self._outbox.emit(tx, unlocked, caller, client_id=client_id)
            details = await self._details(tx, user)
        ACTIONS.labels("unlock").inc()
        return details

    async def reset_factors(
        self, caller: CallerContext, client_id: UUID, user_id: UUID, *, step_up_token: str | None
    ) -> UserDetails:
        """Remove every second factor and passkey of a user who has lost them, and end its sessions.

        Whoever is at one of them may be the one who took the factors.

        Raises:
            UserNotFound: the client has no such user.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
            ChangeNotSpread: they are removed; sessions will end later.
        """
        await self._guard.check(
            caller, Action.MFA_DISABLE, token=step_up_token, resource=user_id, client_id=client_id
        )
        async with self._db.tenant(client_id) as tx:
            before = await users.lock(tx, user_id)
            if before is None:
                raise UserNotFound
            had = await self._details(tx, before)
            await totp.delete(tx, user_id)
            await recovery_codes.delete(tx, user_id)
            removed = await passkeys.delete_all(tx, user_id)
            await self._factor_lockouts.unlock(tx, before)
            after = await store.drop_factors(tx, user_id, self._clock.now())
            reset = events.UserFactorsReset(target_id=user_id, factors=had.factors, passkeys=removed)
            await self._outbox.emit(tx, reset, caller, client_id=client_id)
            duties = [
                await self._duties.owe(tx, DutyKind.END_SESSIONS, caller, reason=_FACTORS_RESET, of=after),
                await self._duties.owe(tx, DutyKind.PUT_USER, caller, of=after),
            ]
            details = await self._details(tx, after)
        ACTIONS.labels("reset_mfa").inc()
        for duty in duties:
            await self._fulfil(duty, caller)
        return details

    async def sessions(
        self, client_id: UUID, user_id: UUID, *, limit: int, before: UUID | None
    ) -> SessionList:
        """Return one page of a user's live sessions, the newest first.

        Raises:
            UserNotFound: the client has no such user.
        """
        async with self._db.tenant(client_id) as tx:
            await _required(tx, user_id)
        found = await self._sessions.list(client_id, user_id, before=before, limit=limit + 1)
        shown = found[:limit]
        return SessionList(shown, UUID(shown[-1].id) if len(found) > limit else None)

    async def end_sessions(self, caller: CallerContext, client_id: UUID, user_id: UUID) -> int:
        """End a user's sessions and whatever waits to become one; returns how many ended.

        Raises:
            UserNotFound: the client has no such user.
            ChangeNotSpread: they will end later.
        """
        async with self._db.tenant(client_id) as tx:
            user = await _required(tx, user_id)
            await users.void_proofs(tx, user_id)
            revoked = events.UserSessionsRevoked(target_id=user_id)
            await self._outbox.emit(tx, revoked, caller, client_id=client_id)
            duty = await self._duties.owe(tx, DutyKind.END_SESSIONS, caller, reason=_REVOKED, of=user)
        ACTIONS.labels("revoke_sessions").inc()
        return await self._fulfil(duty, caller)

    async def impersonate(
        self,
        caller: CallerContext,
        client_id: UUID,
        user_id: UUID,
        *,
        reason: str,
        ttl: timedelta,
        step_up_token: str | None,
    ) -> Impersonation:
        """Open a session in a user's name, of `ttl` or one access token's life, that cannot be renewed.

        Raises:
            UserNotFound: the client has no such user.
            UserNotActive: the user or the client is suspended.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        async with self._db.tenant(client_id) as tx:
            user = await _required(tx, user_id)
        if not user.is_active:
            raise UserNotActive
        await self._guard.check(
            caller, Action.USER_IMPERSONATE, token=step_up_token, resource=user_id, client_id=client_id
        )
        actor = actor_of(caller)
        actor_id = actor.id or ActorType.ADMIN_KEY
        try:
            opened = await self._sessions.open_for_impersonation(caller, user, actor_id=actor_id, ttl=ttl)
        except AppError as error:
            if error.kind is Kind.FORBIDDEN or error.kind is Kind.UNAUTHENTICATED:
                raise UserNotActive from error
            raise
        started = events.ImpersonationStarted(
            target_id=user_id, opened_session_id=opened.session_id, reason=reason, seconds=opened.expires_in
        )
        await self._outbox.append(started, caller, client_id=client_id)
        ACTIONS.labels("impersonate").inc()
        return Impersonation(opened, actor_id)

    async def _details(self, tx: Tx, user: User) -> UserDetails:
        locks = (
            await self._lockouts.locked_until(tx, Email.parse(user.email)),
            await self._factor_lockouts.locked_until(tx, user),
        )
        return UserDetails(
            user=user,
            has_password=await store.has_password(tx, user.id),
            factors=tuple([factor for source in self._factors for factor in await source.factors(tx, user)]),
            locked_until=max((until for until in locks if until is not None), default=None),
        )

    async def _fulfil(self, duty: Duty, caller: CallerContext) -> int:
        try:
            return await self._duties.fulfil(duty, caller)
        except AppError as error:
            log.warning("token service not told of an admin's change", code=error.code, kind=duty.kind)
            raise ChangeNotSpread from error


async def _required(tx: Tx, user_id: UUID) -> User:
    user = await users.find(tx, user_id)
    if user is None:
        raise UserNotFound
    return user


def _news(
    before: User, after: User, change: UserChange
) -> list[events.UserUpdated | events.UserSuspended | events.UserReactivated]:
    """What a change means, as events."""
    changed = tuple(sorted(change.fields))
    news: list[events.UserUpdated | events.UserSuspended | events.UserReactivated] = [
        events.UserUpdated(
            target_id=after.id, changed=changed, before=_audited(before), after=_audited(after)
        )
    ]
    if before.status is not after.status:
        is_suspended = after.status is UserStatus.SUSPENDED
        kind = events.UserSuspended if is_suspended else events.UserReactivated
        news.append(kind(target_id=after.id))
    return news


def _audited(user: User) -> dict[str, object]:
    return {name: getattr(user, name) for name in AUDITED}


def _as_id(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
