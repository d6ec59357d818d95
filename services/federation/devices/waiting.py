"""Requests of devices between their code and the answer: one-time state, each of one browser."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

from fastapi import Response

from chassis.clock import Clock
from chassis.ids import new_secret
from chassis.one_time import OneTimeState
from contracts.apps import AppDirectory
from services.federation.authorize.answers import see_other
from services.federation.devices.models import DeviceRequest, WaitingDevice
from services.federation.errors import AuthorizationRequestGone
from services.federation.issuer_sessions.models import Login

KIND = "device"
"""What the handles of these requests begin with."""

DEVICE = "/device"
CONFIRM = "/device/confirm"


class WaitingDevices:
    """Keeps requests while their users log in and decide; the login page's `WaitingRequests`."""

    def __init__(self, one_time: OneTimeState, apps: AppDirectory, clock: Clock) -> None:
        """Take where they are kept, and who knows the apps."""
        self._one_time = one_time
        self._apps = apps
        self._clock = clock

    async def keep(self, request: DeviceRequest, browser_secret: str, languages: tuple[str, ...]) -> str:
        """Keep a request for as long as its device waits, and return what names it in URLs.

        Raises:
            FeatureUnavailable: Redis is away; so of every method.
        """
        members = {
            "request": request.encode(),
            "form": new_secret("ft_"),
            "browser": _hash(browser_secret),
            "languages": languages,
        }
        return await self._one_time.put(KIND, members, ttl=request.expires_at - self._clock.now())

    async def find(self, handle: str, browser_secret: str) -> WaitingDevice:
        """Return the request behind a handle, of the browser that it was typed in, and leave it.

        Raises:
            AuthorizationRequestGone: there is none: unknown, answered, too old, or another browser's; or its
                app or tenant is not active any more.
        """
        members = await self._one_time.read(KIND, handle)
        if members is None or not hmac.compare_digest(members["browser"], _hash(browser_secret)):
            raise AuthorizationRequestGone
        request = DeviceRequest.decode(members["request"])
        app = await self._apps.find(request.app_id, client_id=request.client_id)
        if app is None or not app.is_usable or request.expires_at <= self._clock.now():
            raise AuthorizationRequestGone
        return WaitingDevice(handle, request, app, members["form"], tuple(members["languages"]))

    async def proceed(self, waiting: WaitingDevice, _login: Login) -> Response:
        """Lead on to the question, after a login; who is logged in is looked at there."""
        return see_other(f"{CONFIRM}?{urlencode({'request': waiting.handle})}")

    async def refuse(self, waiting: WaitingDevice, _code: str) -> Response:
        """Forget the request in this browser: nobody has logged in, so nobody can refuse the device."""
        await self.take(waiting)
        return see_other(DEVICE)

    async def take(self, waiting: WaitingDevice) -> None:
        """Use the request up in this browser."""
        await self._one_time.take(KIND, waiting.handle)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
