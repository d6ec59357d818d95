"""Which request a browser's page belongs to, by the page's handle and the browser's cookies."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from fastapi import Request, Response

from chassis.context import CallerContext
from services.federation.authorize.requests import BrowserSecret
from services.federation.errors import AuthorizationRequestGone, FormRefused
from services.federation.login.ports import WaitingRequests
from services.federation.login.service import LOGIN, Visit

MAX_HANDLE: Final = 128
_DEVICE_LIFETIME: Final = timedelta(days=400)  # the longest that browsers keep a cookie (RFC 6265bis §5.5)
_TENANT_DIGITS: Final = 16


class DeviceCookie:
    """The cookie by which a browser's device is known at a tenant's page, apart from those of apps."""

    def __init__(self, base_url: str) -> None:
        """Take the public address."""
        self._secure = base_url.startswith("https://")

    def of(self, request: Request, client_id: UUID) -> str:
        """Return the device's token; empty where there is none yet."""
        return request.cookies.get(self._name(client_id), "")

    def set(self, response: Response, client_id: UUID, token: str) -> None:
        """Keep the device's next token."""
        response.set_cookie(
            self._name(client_id),
            token,
            max_age=int(_DEVICE_LIFETIME.total_seconds()),
            path=LOGIN,
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )

    def _name(self, client_id: UUID) -> str:
        return f"auth_device_{client_id.hex[:_TENANT_DIGITS]}"


class Browsers:
    """Finds the request that a browser's page belongs to."""

    def __init__(
        self, requests: Mapping[str, WaitingRequests], secret: BrowserSecret, devices: DeviceCookie
    ) -> None:
        """Take who keeps requests, by what their handles begin with, and the browser's cookies."""
        self._requests = requests
        self._secret = secret
        self.devices = devices

    async def visit(self, request: Request, caller: CallerContext, handle: str) -> Visit:
        """Return the visit of a browser at its own page.

        Raises:
            AuthorizationRequestGone: there is no such page of this browser.
        """
        requests = self._requests.get(handle.partition("_")[0])
        if requests is None or len(handle) > MAX_HANDLE:
            raise AuthorizationRequestGone
        waiting = await requests.find(handle, self._secret.of(request))
        return Visit(request, caller, waiting, requests, self.devices.of(request, waiting.client.id))

    async def submitted(self, request: Request, caller: CallerContext, handle: str, form_token: str) -> Visit:
        """The same of a form, which must be of that page.

        Raises:
            AuthorizationRequestGone: as `visit`.
            FormRefused: another page made it.
        """
        visit = await self.visit(request, caller, handle)
        given, expected = form_token.encode("utf-8", "surrogatepass"), visit.waiting.form_token.encode()
        if not hmac.compare_digest(given, expected):
            raise FormRefused
        return visit
