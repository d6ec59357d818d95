"""Who is logged in at the issuer in a browser: a cookie for each tenant, and the session that it stands for.

The session is an ordinary one at `token`: listed to its user, ended by the user, by support, by a new
password. It is asked for each time, so that a cookie is never good for longer than its session.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from fastapi import Request, Response

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import AppError, Kind, Unavailable
from chassis.events import Event
from chassis.ids import new_secret
from chassis.rpc import Channel
from contracts.gen.internal.token.v1 import grants_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub
from contracts.origins import origin_of
from services.federation.issuer_sessions import store
from services.federation.issuer_sessions.models import Login

log = structlog.get_logger()

_PREFIX: Final = "iss_"
_MAX_LENGTH: Final = 64
_MAX_LOGINS: Final = 20
_TENANT_DIGITS: Final = 16
_PURGE_SECONDS: Final = 3600.0


class IssuerSessions:
    """Opens, finds and ends logins at the issuer."""

    def __init__(self, db: Database, clock: Clock, token: Channel, base_url: str) -> None:
        """Take the way to `token`, and the public address: with HTTPS cookies are bound to this very host."""
        self._db = db
        self._clock = clock
        self._grants = GrantServiceStub(token.for_stubs)
        self._secure = base_url.startswith("https://")

    def cookie_of(self, client_id: UUID) -> str:
        """Return the name of the cookie for a tenant; each has its own, so that no login crosses them."""
        name = f"auth_issuer_{client_id.hex[:_TENANT_DIGITS]}"
        return f"__Host-{name}" if self._secure else name

    async def find(self, request: Request, client_id: UUID) -> Login | None:
        """Return who is logged in at a tenant in the request's browser; None when nobody is, or any more.

        Raises:
            Unavailable: the token service is away.
        """
        handle = self._handle(request, client_id)
        if handle is None:
            return None
        async with self._db.tenant(client_id) as tx:
            session_id = await store.find(tx, handle, self._clock.now())
        return None if session_id is None else await self.login_of(client_id, session_id)

    async def of_browser(self, request: Request) -> list[Login]:
        """Return every login of the request's browser that lives, whichever tenant it is at.

        Raises:
            Unavailable: the token service is away.
        """
        prefix = self.cookie_of(UUID(int=0)).rpartition("_")[0]
        handles = [
            _hash(value)
            for name, value in sorted(request.cookies.items())
            if name.startswith(prefix) and value.startswith(_PREFIX) and len(value) <= _MAX_LENGTH
        ]
        if not handles:
            return []
        async with self._db.platform() as tx:
            kept = await store.find_all(tx, handles[:_MAX_LOGINS], self._clock.now())
        found = [await self.login_of(client_id, session_id) for client_id, session_id in kept]
        return [login for login in found if login is not None]

    async def login_of(self, client_id: UUID, session_id: UUID) -> Login | None:
        """Return the login that a session of a tenant is; None when it lives no more.

        Raises:
            Unavailable: the token service is away.
        """
        asked = grants_pb2.GetLoginSessionRequest(client_id=str(client_id), session_id=str(session_id))
        try:
            found = await self._grants.GetLoginSession(asked)
        except AppError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise
        return Login(
            client_id=client_id,
            session_id=session_id,
            user=found.user,
            auth_time=found.auth_time,
            amr=tuple(found.amr),
            acr=found.acr,
            expires_at=found.expires_at,
        )

    async def open(self, request: Request, response: Response, login: Login) -> None:
        """Log the request's browser in, by a cookie that nobody can have known before (session fixation).

        What it showed before is forgotten, and not ended: apps that use that login go on until it is over.
        """
        before = self._handle(request, login.client_id)
        token, now = new_secret(_PREFIX), self._clock.now()
        expires_at = datetime.fromtimestamp(login.expires_at, UTC)
        async with self._db.tenant(login.client_id) as tx:
            if before is not None:
                await store.forget(tx, before)
            await store.insert(
                tx,
                _hash(token),
                user_id=login.user_id,
                session_id=login.session_id,
                now=now,
                expires_at=expires_at,
            )
        response.set_cookie(
            self.cookie_of(login.client_id),
            token,
            max_age=max(0, int((expires_at - now).total_seconds())),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )

    async def end(self, response: Response, caller: CallerContext, login: Login) -> bool:
        """Log a browser out: end its session, and the grants that end with it; false when it had ended.

        Raises:
            Unavailable: the token service is away, and nothing has ended.
        """
        asked = grants_pb2.EndLoginSessionRequest(
            client_id=str(login.client_id), session_id=str(login.session_id), origin=origin_of(caller)
        )
        answer = await self._grants.EndLoginSession(asked)
        async with self._db.tenant(login.client_id) as tx:
            await store.forget_session(tx, login.session_id)
        self.clear(response, login.client_id)
        return bool(answer.ended)

    def clear(self, response: Response, client_id: UUID) -> None:
        """Take the browser's cookie for a tenant away."""
        response.delete_cookie(
            self.cookie_of(client_id), path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    async def on_users_deleted(self, deleted: Sequence[Event]) -> None:
        """Forget the browsers of deleted users; their sessions have ended."""
        user_ids = [UUID(event.target_id) for event in deleted if event.target_id]
        async with self._db.platform() as tx:
            await store.forget_users(tx, user_ids)

    async def purge(self) -> None:
        """Forget what is over, for ever; a job of the service."""
        while True:
            try:
                async with self._db.platform() as tx:
                    await store.purge(tx, self._clock.now())
            except Unavailable:
                log.warning("purge waits for the database")
            await asyncio.sleep(_PURGE_SECONDS)

    def _handle(self, request: Request, client_id: UUID) -> bytes | None:
        found = request.cookies.get(self.cookie_of(client_id), "")
        return _hash(found) if found.startswith(_PREFIX) and len(found) <= _MAX_LENGTH else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
