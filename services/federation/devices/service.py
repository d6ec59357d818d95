"""The rules of devices: which may ask, how often a code may be guessed, and who may answer."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from prometheus_client import Counter

from chassis.context import CallerContext
from chassis.errors import AppError, Kind, RateLimited
from chassis.outbox import Outbox
from chassis.ratelimit import Limit, RateLimiter
from chassis.rpc import Channel
from contracts import events
from contracts.apps import DEVICE_CODE, REFRESH_TOKEN, App, AppDirectory
from contracts.gen.internal.token.v1 import grants_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub
from contracts.origins import origin_of
from services.federation.authorize.models import OFFLINE_ACCESS, OPENID
from services.federation.authorize.parameters import Parameters
from services.federation.consents.service import ConsentService, asked_by
from services.federation.devices.models import DeviceCode, DeviceRequest, WaitingDevice
from services.federation.errors import (
    AuthorizationRequestGone,
    InvalidClient,
    InvalidScope,
    InvalidTarget,
    UnauthorizedClient,
    UserCodeUnknown,
)
from services.federation.grants import Grants
from services.federation.issuer_sessions.models import Login

if TYPE_CHECKING:
    from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceAsyncStub

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
_LETTERS: Final = re.compile(r"[BCDFGHJKLMNPQRSTVWXZ]{8}")
_MAX_TYPED: Final = 32

OF_ADDRESS: Final = Limit(30, 600)
OF_BROWSER: Final = Limit(10, 600)
"""Codes that may be typed (RFC 8628 §5.1). Of 25 billion codes an address tries 4 thousand a day."""

DEVICES = Counter("device_requests_total", "Requests of devices and their users' steps.", ["outcome"])


class DeviceService:
    """Takes requests of devices, and leads their users to an answer."""

    def __init__(
        self,
        token: Channel,
        outbox: Outbox,
        *,
        apps: AppDirectory,
        grants: Grants,
        consents: ConsentService,
        limiter: RateLimiter,
    ) -> None:
        """Take the token service, which keeps the codes, who remembers answers, and who counts guesses."""
        self._stub = cast("GrantServiceAsyncStub", GrantServiceStub(cast("Any", token.for_stubs)))
        self._outbox = outbox
        self._apps = apps
        self._grants = grants
        self._consents = consents
        self._limiter = limiter

    async def request(self, caller: CallerContext, authorization: str, parameters: Parameters) -> DeviceCode:
        """Take a device's request (RFC 8628 §3.1).

        Raises:
            InvalidClient, UnauthorizedClient: the app has not proven who it is, or may not have devices.
            InvalidScope, InvalidTarget: it may have nothing of what it asks for.
        """
        app_id = await self._grants.authenticate_app(caller, authorization, parameters)
        app = await self._apps.find(app_id, resources=parameters.resources)
        if app is None or not app.is_usable:
            raise InvalidClient
        if DEVICE_CODE not in app.grant_types:
            raise UnauthorizedClient
        scopes = _scopes(app, parameters.get("scope"))
        if not set(parameters.resources) <= set(app.audiences):
            raise InvalidTarget
        answer = await self._stub.CreateDeviceCode(
            grants_pb2.CreateDeviceCodeRequest(
                client_id=str(app.client.id),
                app_id=app.id,
                scopes=scopes,
                resources=parameters.resources,
                origin=origin_of(caller),
            )
        )
        requested = events.DeviceRequested(target_id=app.id, scopes=scopes)
        await self._outbox.append(requested, caller, client_id=app.client.id)
        DEVICES.labels("requested").inc()
        return DeviceCode(answer.device_code, answer.user_code, answer.expires_in, answer.interval)

    async def find(self, caller: CallerContext, user_code: str, browser_secret: str) -> DeviceRequest:
        """Return what waits under a code as it was typed: in any case, with or without the dash.

        Raises:
            RateLimited: too many codes were typed from this address, or in this browser.
            UserCodeUnknown: nothing waits under this code.
            Unavailable: it cannot be told now.
        """
        await self._count(caller, browser_secret)
        letters = re.sub(r"[\s\-‐-―]", "", user_code[:_MAX_TYPED]).upper()
        if not _LETTERS.fullmatch(letters):
            raise UserCodeUnknown
        try:
            found = await self._stub.FindDeviceCode(grants_pb2.FindDeviceCodeRequest(user_code=letters))
        except AppError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            DEVICES.labels("code_unknown").inc()
            raise UserCodeUnknown from error
        return DeviceRequest(
            f"{letters[:4]}-{letters[4:]}",
            UUID(found.client_id),
            found.app_id,
            tuple(found.scopes),
            tuple(found.resources),
            found.ip,
            datetime.fromtimestamp(found.expires_at, UTC),
        )

    async def approve(self, caller: CallerContext, waiting: WaitingDevice, login: Login) -> None:
        """Give a device, in a user's name, all that it asked for; of many answers to a device one counts.

        What the user agrees to is remembered before the device can have it, so that nothing is ever granted
        that the user does not find in the list of consents and can take back there. It is the same consent
        as `/authorize` asks for, of the same app, and spares the user the same question there: a code goes to
        a redirect URI of the app's alone. The reverse does not hold. Here the user is always asked, since who
        holds the device is unknown (RFC 8628 §5.4): anybody may have begun, and sent the user the code.

        Raises:
            AuthorizationRequestGone: it was answered meanwhile, waits no more, or the login has ended.
        """
        request = waiting.request
        with _gone_when_not_found():
            await self._stub.FindDeviceCode(grants_pb2.FindDeviceCodeRequest(user_code=request.user_code))
        asked = asked_by(waiting.app, request.scopes, request.resources)
        await self._consents.grant(caller, login.client_id, login.user_id, asked)
        authorization = grants_pb2.Authorization(
            client_id=str(request.client_id),
            app_id=request.app_id,
            user_id=str(login.user_id),
            session_id=str(login.session_id),
            scopes=request.scopes,
            resources=request.resources,
        )
        with _gone_when_not_found():
            await self._stub.DecideDeviceCode(
                grants_pb2.DecideDeviceCodeRequest(
                    user_code=request.user_code, authorization=authorization, origin=origin_of(caller)
                )
            )
        DEVICES.labels("approved").inc()

    async def deny(self, caller: CallerContext, waiting: WaitingDevice, login: Login) -> None:
        """Refuse a device in a user's name; what the user agreed to before stays.

        Raises:
            AuthorizationRequestGone: it was answered meanwhile, or waits no more.
        """
        with _gone_when_not_found():
            await self._stub.DecideDeviceCode(
                grants_pb2.DecideDeviceCodeRequest(
                    user_code=waiting.request.user_code,
                    user_id=str(login.user_id),
                    origin=origin_of(caller),
                )
            )
        DEVICES.labels("denied").inc()

    async def _count(self, caller: CallerContext, browser_secret: str) -> None:
        browser = hashlib.sha256(browser_secret.encode("utf-8", "surrogatepass")).hexdigest()
        counted = [
            await self._limiter.hit("user_code", _subscriber(caller.ip), OF_ADDRESS),
            await self._limiter.hit("user_code_browser", browser, OF_BROWSER),
        ]
        over = [decision for decision in counted if not decision.allowed]
        if any(decision.allowed and decision.remaining == 0 for decision in counted):
            # At the last one that is allowed, so that the record has one entry and not one for each guess.
            await self._outbox.append(events.DeviceCodesGuessed(), caller)
        if over:
            DEVICES.labels("limited").inc()
            raise RateLimited(retry_after=max(decision.reset for decision in over))


@contextmanager
def _gone_when_not_found() -> Iterator[None]:
    """Tell the user, whose page is of a request that waits no more."""
    try:
        yield
    except AppError as error:
        if error.kind is not Kind.NOT_FOUND:
            raise
        raise AuthorizationRequestGone from error


def _scopes(app: App, text: str) -> tuple[str, ...]:
    """Return what the app may have of what it asks for; by default all but the ID token and the stay."""
    if text and not _SCOPE.fullmatch(text):
        raise InvalidScope
    allowed = set(app.scopes) if REFRESH_TOKEN in app.grant_types else set(app.scopes) - {OFFLINE_ACCESS}
    by_default = [scope for scope in app.scopes if scope not in (OPENID, OFFLINE_ACCESS)]
    asked = text.split(" ") if text else by_default
    granted = tuple(dict.fromkeys(scope for scope in asked if scope in allowed))
    if not granted:
        raise InvalidScope
    return granted


def _subscriber(address: str) -> str:
    """Return what guesses are counted by: the address, or of IPv6 the /64 that one subscriber has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
