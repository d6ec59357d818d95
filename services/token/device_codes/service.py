"""The device authorization grant (RFC 8628): a request, its user's answer, and the device's questions."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import InvalidRequest, Unavailable
from chassis.events import Actor, ActorType
from chassis.ids import new_id, new_secret
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import App
from services.token.device_codes import store
from services.token.device_codes.models import DeviceCodeStatus, DeviceRequest, NewDeviceCode, Poll
from services.token.errors import (
    AccessDenied,
    AuthorizationPending,
    DeviceRequestNotFound,
    ExpiredToken,
    InvalidGrant,
    SlowDown,
)
from services.token.grants import store as grants_store
from services.token.grants.models import Authorization
from services.token.grants.service import hash_of
from services.token.grants.tokens import GrantTokens, Opened
from services.token.oauth.authentication import acting_in
from services.token.oauth.models import TokenAnswer

log = structlog.get_logger()

TTL: Final = timedelta(minutes=10)
INTERVAL_SECONDS: Final = 5
# A device that keeps to the interval may still arrive a little early.
_TOLERANCE: Final = timedelta(milliseconds=500)
_KEPT: Final = timedelta(hours=1)
_PURGE_SECONDS: Final = 60.0

# RFC 8628 §6.1: no vowels, so that no words come about, and nothing that looks like something else.
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_USER_CODE_LENGTH: Final = 8
_USER_CODE: Final = re.compile(f"[{_LETTERS}]{{{_USER_CODE_LENGTH}}}")
_MAX_TYPED_LENGTH: Final = 32
_MAX_CODE_LENGTH: Final = 128
_DRAWS: Final = 5

CODES = Counter("device_codes_total", "Requests of devices, by what became of them.", ["outcome"])


class DeviceCodes:
    """Keeps requests of devices until their users have answered."""

    def __init__(self, db: Database, outbox: Outbox, clock: Clock, tokens: GrantTokens) -> None:
        """Take where requests are kept, and what opens grants."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._tokens = tokens

    async def create(
        self, client_id: UUID, app_id: str, scope: str, audience: tuple[str, ...], caller: CallerContext
    ) -> NewDeviceCode:
        """Keep a request for ten minutes; who asks was checked by `federation`."""
        now = self._clock.now()
        request = DeviceRequest(
            client_id, app_id, scope, audience, caller.ip, caller.user_agent[:512], now + TTL
        )
        for _ in range(_DRAWS):
            new = NewDeviceCode(new_secret("dc_"), _draw_user_code())
            async with self._db.tenant(client_id) as tx:
                is_kept = await store.insert(
                    tx, hash_of(new.device_code), _user_hash(new.user_code), request, now, INTERVAL_SECONDS
                )
            if is_kept:
                CODES.labels("created").inc()
                return new
        raise Unavailable

    async def find(self, user_code: str) -> DeviceRequest:
        """Return what waits under a code as its user typed it.

        Raises:
            DeviceRequestNotFound: nothing does.
        """
        typed = _typed(user_code)
        if typed is None:
            raise DeviceRequestNotFound
        async with self._db.platform() as tx:
            found = await store.find_waiting(tx, _user_hash(typed), self._clock.now())
        if found is None:
            raise DeviceRequestNotFound
        return found

    async def approve(self, user_code: str, authorization: Authorization, caller: CallerContext) -> None:
        """Let a user grant a request what it asked for; of all answers to a request one counts.

        Raises:
            DeviceRequestNotFound: nothing waits under this code, or somebody has answered meanwhile; or the
                user's login is over.
            InvalidRequest: what is granted is another app's, or more than was asked for.
        """
        request, now = await self.find(user_code), self._clock.now()
        _check_granted(request, authorization)
        async with self._db.tenant(request.client_id) as tx:
            login = await grants_store.login_session(tx, authorization.parent_id, now)
            if login is None or login.user_id != authorization.user_id:
                raise DeviceRequestNotFound
            if not await store.approve(tx, _user_hash(_typed(user_code) or ""), authorization, now):
                raise DeviceRequestNotFound
            await self._record(tx, request, authorization.user_id, caller, is_approved=True)
        CODES.labels("approved").inc()

    async def refuse(self, user_code: str, user_id: UUID, caller: CallerContext) -> None:
        """Let a user refuse a request; of all answers to a request one counts.

        Raises:
            DeviceRequestNotFound: nothing waits under this code, or somebody has answered meanwhile.
        """
        request, now = await self.find(user_code), self._clock.now()
        async with self._db.tenant(request.client_id) as tx:
            if not await store.refuse(tx, _user_hash(_typed(user_code) or ""), now):
                raise DeviceRequestNotFound
            await self._record(tx, request, user_id, caller, is_approved=False)
        CODES.labels("refused").inc()

    async def _record(
        self, tx: Tx, request: DeviceRequest, user_id: UUID, caller: CallerContext, *, is_approved: bool
    ) -> None:
        answered = events.DeviceAnswered(target_id=request.app_id, is_approved=is_approved)
        actor = Actor(ActorType.USER, str(user_id))
        await self._outbox.emit(tx, answered, acting_in(caller, request.client_id), actor=actor)

    async def redeem(
        self, caller: CallerContext, app: App, device_code: str | None, jkt: str | None
    ) -> TokenAnswer:
        """Answer a device's question (RFC 8628 §3.5): with tokens, once its user has agreed.

        Raises:
            InvalidRequest: there is no code. InvalidGrant: it is unknown, another app's, or used.
            AuthorizationPending, SlowDown: ask again, later. AccessDenied: the user has refused.
            ExpiredToken: nobody has answered in time.
            InvalidTarget: the app may not ask for any of the granted resources any more.
            Unavailable: a key is not at hand now; the code stays good.
        """
        if not device_code:
            raise InvalidRequest("Send the `device_code`.")
        if len(device_code) > _MAX_CODE_LENGTH:
            raise InvalidGrant
        caller = acting_in(caller, app.client.id)
        signers = await self._tokens.signers(app)
        session_id, now = new_id(), self._clock.now()
        opened: Opened | None = None
        async with self._db.tenant(app.client.id) as tx:
            found = await store.poll(tx, hash_of(device_code), app.id, session_id, now, _TOLERANCE)
            if found is not None and found.authorization is not None:
                try:
                    opened = await self._tokens.open(tx, caller, app, session_id, found.authorization, jkt)
                except InvalidGrant:
                    # The user's login has ended since it agreed; the code stays used.
                    log.info("device code without a login", app_id=app.id)
        if opened is None:
            raise _refusal(found)
        CODES.labels("redeemed").inc()
        return await self._tokens.answer(app, signers, opened, jkt=jkt)

    async def purge(self) -> None:
        """Forget what nobody asks for any more, for ever; a job of the service."""
        while True:
            try:
                async with self._db.platform() as tx:
                    await store.purge(tx, self._clock.now() - _KEPT)
            except Unavailable:
                log.warning("purge of device codes waits")
            await asyncio.sleep(_PURGE_SECONDS)


def _refusal(found: Poll | None) -> Exception:
    """Return what a device that gets no tokens is told."""
    if found is None or found.status is DeviceCodeStatus.REDEEMED:
        return InvalidGrant()
    if found.is_expired:
        return ExpiredToken()
    if found.status is DeviceCodeStatus.REFUSED:
        return AccessDenied()
    if found.is_too_soon:
        return SlowDown()
    return AuthorizationPending() if found.status is DeviceCodeStatus.WAITING else AccessDenied()


def _check_granted(request: DeviceRequest, authorization: Authorization) -> None:
    asked = (request.client_id, request.app_id)
    is_more = not (
        set(authorization.scopes) <= set(request.scopes)
        and set(authorization.audience) <= set(request.audience)
    )
    if (authorization.client_id, authorization.app_id) != asked or is_more:
        raise InvalidRequest("more is granted than was asked for")


def _draw_user_code() -> str:
    drawn = "".join(secrets.choice(_LETTERS) for _ in range(_USER_CODE_LENGTH))
    return f"{drawn[:4]}-{drawn[4:]}"


def _typed(user_code: str) -> str | None:
    """Return the letters of a code as somebody typed it; None for what cannot be one."""
    letters = re.sub(r"[\s-]", "", user_code[:_MAX_TYPED_LENGTH]).upper()
    return letters if _USER_CODE.fullmatch(letters) else None


def _user_hash(user_code: str) -> bytes:
    return hashlib.sha256(b"user-code" + user_code.replace("-", "").encode()).digest()
