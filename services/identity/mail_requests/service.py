"""Takes requests for mail without looking at the address, and looks at them afterwards.

Whether an address has an account must not show in an answer, nor in the time it takes: a request is noted and
answered, by the same statements for every address, and a job does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError
from chassis.events import DomainEvent
from chassis.ids import new_id
from chassis.outbox import Outbox
from chassis.sealing import SealBroken, Sealer
from services.identity.mail_requests import store
from services.identity.mail_requests.models import MailRequest, RequestKind, decode, encode
from services.identity.users.email import Email

log = structlog.get_logger()

_LEASE = timedelta(seconds=30)
_USEFUL = timedelta(minutes=15)
_BATCH = 20
_POLL_SECONDS = 1.0

Handler = Callable[[Tx, MailRequest], Awaitable[None]]
"""Does what a request asks for, in the transaction that removes it."""


class MailRequests:
    """Notes requests, and has them handled."""

    def __init__(self, db: Database, outbox: Outbox, clock: Clock, sealer: Sealer) -> None:
        """Take where requests are kept; handlers are added by the slices that they belong to."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._sealer = sealer
        self._handlers: dict[RequestKind, Handler] = {}
        self._wake = asyncio.Event()

    def on(self, kind: RequestKind, handler: Handler) -> None:
        """Have requests of a kind handled by `handler`."""
        self._handlers[kind] = handler

    async def note(
        self,
        caller: CallerContext,
        kind: RequestKind,
        email: Email,
        event: DomainEvent,
        wishes: Mapping[str, Any] | None = None,
    ) -> None:
        """Note a request for mail to an address, with the event that tells of it."""
        request_id = new_id()
        sealed = self._sealer.seal(encode(email, wishes or {}, caller), f"mail_request:{request_id}")
        async with self._db.tenant(caller.require_client()) as tx:
            await store.insert(tx, request_id, kind, sealed, self._clock.now())
            await self._outbox.emit(tx, event, caller)
            tx.after_commit(self._wake.set)

    async def run(self) -> None:
        """Handle what was noted, for ever; a job of the service."""
        while True:
            self._wake.clear()
            if await self._round() == _BATCH:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()

    async def _round(self) -> int:
        now = self._clock.now()
        async with self._db.platform() as tx:
            rows = await store.claim(tx, now, now + _LEASE, _BATCH)
        for row in rows:
            try:
                content = self._sealer.open(row["sealed"], f"mail_request:{row['id']}")
                request = decode(row["id"], row["client_id"], row["kind"], content)
                await self._handle(request, is_late=row["created_at"] < now - _USEFUL)
            except (SealBroken, ValueError):
                log.exception("request for mail is unreadable", kind=row["kind"])
                async with self._db.tenant(row["client_id"]) as tx:
                    await store.take(tx, row["id"])
            except AppError as error:
                log.warning("request for mail waits", kind=row["kind"], code=error.code)
        return len(rows)

    async def _handle(self, request: MailRequest, *, is_late: bool) -> None:
        async with self._db.tenant(request.client_id) as tx:
            if await store.take(tx, request.id) and not is_late:
                await self._handlers[request.kind](tx, request)
