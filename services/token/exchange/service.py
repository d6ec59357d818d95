"""Keeps outcomes of logins behind one-time codes.

A redirect must not carry tokens, so it carries a code: 256 bits, kept as SHA-256, good for a minute, once,
and with a key of the same client only. The session behind it exists from the start, so that whatever ends a
user's sessions ends this one too; when nobody exchanges the code the session is ended.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import Access, CallerContext
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.ids import new_secret
from chassis.sealing import Sealer
from contracts.gen.internal.token.v1 import exchange_pb2
from services.token.errors import InvalidCode
from services.token.exchange import store
from services.token.sessions import store as sessions_store
from services.token.sessions.service import SessionService

log = structlog.get_logger()

TTL: Final = timedelta(seconds=60)
_MAX_CODE_LENGTH = 128
_PURGE_SECONDS = 2.0
_PURGE_ROWS = 200
_UNCLAIMED = "code_not_exchanged"

CODES = Counter("exchange_codes_total", "Codes of redirects, by what became of them.", ["outcome"])


class ExchangeService:
    """Makes codes, and gives out what they stand for."""

    def __init__(self, db: Database, clock: Clock, sealer: Sealer, sessions: SessionService) -> None:
        """Take where codes are kept, and who ends sessions that nobody got."""
        self._db = db
        self._clock = clock
        self._sealer = sealer
        self._sessions = sessions

    async def create(self, client_id: UUID, outcome: exchange_pb2.LoginOutcome) -> str:
        """Keep an outcome and return the code that stands for it."""
        code, now = new_secret("ec_"), self._clock.now()
        code_hash = _hash(code)
        session_id = UUID(outcome.session.session_id) if outcome.HasField("session") else None
        sealed = self._sealer.seal(outcome.SerializeToString(), _row(code_hash))
        async with self._db.tenant(client_id) as tx:
            await store.insert(tx, code_hash, session_id, sealed, now, now + TTL)
        CODES.labels("created").inc()
        return code

    async def exchange(self, caller: CallerContext, code: str) -> exchange_pb2.LoginOutcome:
        """Return what a code of the calling client stands for, once.

        Raises:
            InvalidCode: it is unknown, used, too old or another client's, or its session has ended since.
        """
        now = self._clock.now()
        kept = None
        if len(code) <= _MAX_CODE_LENGTH:
            async with self._db.tenant(caller.require_client()) as tx:
                kept = await store.take(tx, _hash(code), now)
                if kept is not None and kept.session_id is not None:
                    session = await sessions_store.live_session(tx, kept.session_id, now)
                    kept = kept if session is not None else None
        if kept is None:
            CODES.labels("refused").inc()
            raise InvalidCode
        CODES.labels("exchanged").inc()
        outcome = exchange_pb2.LoginOutcome.FromString(self._sealer.open(kept.sealed, _row(_hash(code))))
        if outcome.HasField("session"):
            spent = int((now - kept.created_at).total_seconds())
            outcome.session.expires_in = max(0, outcome.session.expires_in - spent)
            outcome.session.refresh_expires_in = max(0, outcome.session.refresh_expires_in - spent)
        return outcome

    async def purge(self) -> None:
        """End what nobody came for, for ever; a job of the service."""
        while True:
            try:
                await self._purge_once()
            except Unavailable:
                log.warning("purge of exchange codes waits")
            await asyncio.sleep(_PURGE_SECONDS)

    async def _purge_once(self) -> None:
        """End the sessions behind codes that are too old."""
        async with self._db.platform() as tx:
            unclaimed = await store.purge(tx, self._clock.now(), _PURGE_ROWS)
            owners = await sessions_store.owners(tx, [each.session_id for each in unclaimed])
        for each in unclaimed:
            user_id = owners.get(each.session_id)
            if user_id is not None:
                caller = CallerContext(access=Access.API_KEY, request_id="", client_id=each.client_id)
                await self._sessions.end_session(caller, user_id, each.session_id, _UNCLAIMED)


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()


def _row(code_hash: bytes) -> str:
    return f"exchange_code:{code_hash.hex()}"
