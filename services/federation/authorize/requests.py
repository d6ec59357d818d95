"""Requests that wait for their user: one-time state in Redis, bound to the browser that made them.

The handle is in the URLs of our pages, and alone opens nothing: the browser also has a secret in a cookie,
whose hash is kept with the request. So a link to somebody else's login is no use to whoever follows it
(login CSRF, session fixation: RFC 9700 §4.7), and a leaked URL none to who reads it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Request, Response

from chassis.ids import new_secret
from chassis.one_time import OneTimeState
from contracts.apps import AppDirectory
from services.federation.authorize.answers import Answers, AuthorizationRefused, Target, see_other
from services.federation.authorize.models import AuthorizationRequest, Waiting
from services.federation.errors import AuthorizationRequestGone, FormRefused

TTL: Final = timedelta(minutes=30)
_KIND: Final = "authz"
_MAX_SECRET: Final = 64


RESUME: Final = "/authorize/resume"
"""Where the browser goes on with a request after a login."""


class HasSession(Protocol):
    """Whoever logged in, by the session that was opened."""

    @property
    def session_id(self) -> UUID:
        """The issuer session."""
        ...


class BrowserSecret:
    """The cookie by which a browser is told from others; it lives as long as the browser runs."""

    def __init__(self, base_url: str) -> None:
        """Take the public address: with HTTPS the cookie is bound to this very host."""
        self._secure = base_url.startswith("https://")
        self.name = "__Host-auth_browser" if self._secure else "auth_browser"

    def of(self, request: Request) -> str:
        """Return the browser's secret; "" where it has none, or one that we never gave."""
        found = request.cookies.get(self.name, "")
        return found if len(found) <= _MAX_SECRET else ""

    def made(self, request: Request, response: Response) -> str:
        """Return the browser's secret; one that has none gets a fresh one with `response`."""
        secret = self.of(request)
        if not secret:
            secret = secrets.token_urlsafe(32)
            self._set(response, secret)
        return secret

    def _set(self, response: Response, secret: str) -> None:
        response.set_cookie(self.name, secret, path="/", secure=self._secure, httponly=True, samesite="lax")


class AuthorizationRequests:
    """Keeps requests while their users log in and decide."""

    def __init__(self, one_time: OneTimeState, apps: AppDirectory, answers: Answers) -> None:
        """Take where they are kept, who knows the apps, and who answers them."""
        self._one_time = one_time
        self._apps = apps
        self._answers = answers

    async def keep(
        self,
        request: AuthorizationRequest,
        browser_secret: str,
        *,
        demands_login: bool = False,
        session_id: UUID | None = None,
    ) -> Waiting:
        """Keep a request for half an hour, bound to the browser that has this secret.

        Raises:
            FeatureUnavailable: Redis is away; so of every method.
        """
        waiting = Waiting("", request, new_secret("ft_"), _hash(browser_secret), demands_login, session_id)
        handle = await self._one_time.put(_KIND, _encode(waiting), ttl=TTL)
        return replace(waiting, handle=handle)

    async def find(self, handle: str, browser_secret: str) -> Waiting:
        """Return the request behind a handle, of the browser that made it, and leave it.

        Raises:
            AuthorizationRequestGone: there is none: unknown, answered, too old, or another browser's; or its
                app, its tenant or its redirect URI is not good any more.
        """
        members = await self._one_time.read(_KIND, handle)
        if members is None or not hmac.compare_digest(members["browser"], _hash(browser_secret)):
            raise AuthorizationRequestGone
        asked = members["request"]
        app = await self._apps.find(asked["app"], client_id=UUID(asked["client"]))
        if app is None or not app.is_usable or not app.allows_redirect(asked["redirect_uri"]):
            raise AuthorizationRequestGone
        session = members["session"]
        return Waiting(
            handle,
            AuthorizationRequest.decode(asked, app),
            members["form"],
            members["browser"],
            members["demands_login"],
            UUID(session) if session else None,
        )

    async def proceed(self, waiting: Waiting, login: HasSession) -> Response:
        """Note who logged in, or chose to go on, for a request, and lead on with it (303).

        Whether that login is what was asked for is decided there, by the session that the browser then shows.

        Raises:
            AuthorizationRequestGone: it waits no more.
        """
        await self.update(replace(waiting, session_id=login.session_id))
        return see_other(f"{RESUME}?{urlencode({'request': waiting.handle})}")

    async def refuse(self, waiting: Waiting, code: str, detail: str = "The user did not go on.") -> Response:
        """End a request and tell the app an error, such as `access_denied` (RFC 6749 §4.1.2.1).

        Raises:
            AuthorizationRequestGone: it waits no more.
        """
        await self.take(waiting)
        return self._answers.refusal(Target.of(waiting.request), AuthorizationRefused(code, detail))

    async def update(self, waiting: Waiting) -> None:
        """Keep what changed of a request that still waits; its time runs on.

        Raises:
            AuthorizationRequestGone: it waits no more.
        """
        if not await self._one_time.replace(_KIND, waiting.handle, _encode(waiting)):
            raise AuthorizationRequestGone

    async def discard(self, waiting: Waiting) -> None:
        """Forget a request, whether or not it waits."""
        await self._one_time.take(_KIND, waiting.handle)

    async def take(self, waiting: Waiting) -> None:
        """Use a request up, so that it is answered once: of all who ask, one may.

        Raises:
            AuthorizationRequestGone: it was used before.
        """
        if await self._one_time.take(_KIND, waiting.handle) is None:
            raise AuthorizationRequestGone


def check_form_token(waiting: Waiting, given: str | None) -> None:
    """Check that a form was made by our page for this very request.

    Raises:
        FormRefused: it was not.
    """
    if not hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), waiting.form_token.encode()):
        raise FormRefused


def _encode(waiting: Waiting) -> dict[str, object]:
    return {
        "request": waiting.request.encode(),
        "form": waiting.form_token,
        "browser": waiting.browser_hash,
        "demands_login": waiting.demands_login,
        "session": str(waiting.session_id) if waiting.session_id else None,
    }


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
