"""The cookie by which a browser is known again, and the parameter of routes that reads it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request, Response

from contracts.session import COOKIE_PATH, RefreshCookie, Transport
from services.identity.logins.models import Browser

DEVICE_COOKIE = "auth_device"
_LIFETIME = timedelta(days=400)  # the longest that browsers keep one (RFC 6265bis §5.5)


async def _device_token(request: Request) -> str:
    return request.cookies.get(DEVICE_COOKIE, "")


DeviceCookie = Annotated[str, Depends(_device_token)]
"""A handler's parameter for the token of the device cookie, for `browser_of`; empty without one."""


def browser_of(device_token: str, transport: Transport, *, remember: bool = False) -> Browser:
    """Return the browser of a login request.

    Where tokens travel as JSON, a client that shows no device cookie is taken for one that keeps no cookies,
    unless it asks to be remembered: a new device at each of its logins would tell nothing.
    """
    keeps_cookies = bool(device_token) or remember or transport is Transport.COOKIE
    return Browser(device_token if keeps_cookies else None, remember)


def set_device_cookie(response: Response, token: str, cookie: RefreshCookie) -> None:
    """Put a device's next token into its cookie, which has the attributes of the refresh cookie."""
    response.set_cookie(
        DEVICE_COOKIE,
        token,
        max_age=int(_LIFETIME.total_seconds()),
        path=COOKIE_PATH,
        domain=cookie.domain,
        secure=cookie.secure,
        httponly=True,
        samesite=cookie.samesite,
    )
