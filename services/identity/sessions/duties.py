"""Duties: calls to the token service that a committed change requires, made certain.

A change that must reach the token service records a duty in its own transaction. The request then tries the
call itself and waits for it; when the call cannot be confirmed, or this process dies, a job repeats it until
it succeeds. Both calls are idempotent, so that a duty done twice harms nothing.
"""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

import structlog
from prometheus_client import Gauge

from chassis.clock import Clock
from chassis.context import Access, CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError
from chassis.ids import new_id
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.origins import origin_of
from services.identity.sessions import store
from services.identity.sessions.client import SessionClient
from services.identity.sessions.models import Duty, DutyKind
from services.identity.users import store as users
from services.identity.users.models import User

log = structlog.get_logger()

_OWN_TRY = timedelta(seconds=15)
"""How long the request that recorded a duty has it to itself."""

_POLL_SECONDS = 1.0
_BATCH = 50
_LONGEST_BACKOFF_SECONDS = 300

OPEN = Gauge("session_duties_retried", "Duties that the last round of the job could not do.")


class SessionDuties:
    """Records duties, does them, and repeats what failed."""

    def __init__(self, db: Database, client: SessionClient, clock: Clock) -> None:
        """Take where duties are kept and how they are done."""
        self._db = db
        self._client = client
        self._clock = clock

    async def owe(
        self,
        tx: Tx,
        kind: DutyKind,
        caller: CallerContext,
        *,
        reason: str = "",
        except_session: bool = False,
        of: User | None = None,
    ) -> Duty:
        """Record a duty in the transaction that makes it one; `fulfil` is to follow.

        It is for the calling user, or for the one it is `of`.
        """
        duty = Duty(
            id=new_id(),
            client_id=of.client_id if of else caller.require_client(),
            user_id=of.id if of else caller.require_user(),
            kind=kind,
            reason=reason,
            request_id=caller.request_id,
            access=Access.ADMIN if caller.access is Access.ADMIN else Access.USER,
            admin_id=caller.admin_id,
            except_session_id=caller.session_id if except_session else None,
        )
        await store.insert(tx, duty, self._clock.now() + _OWN_TRY)
        return duty

    async def fulfil(self, duty: Duty, caller: CallerContext) -> int:
        """Do a duty now and return how many sessions ended.

        Raises:
            AppError: it could not be done or confirmed; the job takes over.
        """
        try:
            ended = await self._do(duty, origin_of(caller))
        except AppError:
            async with self._db.tenant(duty.client_id) as tx:
                await store.postpone(tx, duty.id, self._clock.now())
            raise
        async with self._db.tenant(duty.client_id) as tx:
            await store.delete(tx, duty.id)
        return ended

    async def run(self) -> None:
        """Do what is due, for ever; a job of the service."""
        while True:
            await self._round()
            await asyncio.sleep(_POLL_SECONDS)

    async def _round(self) -> None:
        now = self._clock.now()
        async with self._db.platform() as tx:
            due = await store.claim(tx, now, now + _OWN_TRY, _BATCH)
        failed = 0
        for duty in due:
            try:
                await self._do(duty, _recorded_origin(duty))
            except AppError as error:
                failed += 1
                log.warning("session duty waits", kind=duty.kind, code=error.code, attempts=duty.attempts)
                seconds = min(math.pow(2, duty.attempts - 1), _LONGEST_BACKOFF_SECONDS)
                async with self._db.platform() as tx:
                    await store.postpone(tx, duty.id, self._clock.now() + timedelta(seconds=seconds))
            else:
                async with self._db.platform() as tx:
                    await store.delete(tx, duty.id)
        OPEN.set(failed)

    async def _do(self, duty: Duty, origin: origin_pb2.Origin) -> int:
        if duty.kind is DutyKind.END_SESSIONS:
            return await self._client.end_all(
                duty.client_id, duty.user_id, but=duty.except_session_id, reason=duty.reason, origin=origin
            )
        async with self._db.tenant(duty.client_id) as tx:
            user = await users.find(tx, duty.user_id)
        if user is None:
            await self._client.forget_user(duty.client_id, duty.user_id, origin)
        else:
            await self._client.put_user(user, origin)
        return 0


def _recorded_origin(duty: Duty) -> origin_pb2.Origin:
    """Name the one whose change it was; the address and the browser of that request are not kept."""
    return origin_pb2.Origin(
        request_id=duty.request_id,
        access=duty.access,
        user_id=str(duty.user_id) if duty.access is Access.USER else "",
        admin_id=str(duty.admin_id) if duty.admin_id else "",
    )
