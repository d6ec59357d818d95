"""HTTP face of logout: the app's request, and the page that asks the user."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.clock import Clock
from chassis.context import Access, CallerContext
from chassis.errors import Unavailable
from chassis.forms import read_form as read_own_form
from chassis.http import KIB, Caller, Router
from chassis.sealing import Sealer
from contracts.apps import App
from services.federation.authorize.answers import NO_STORE, see_other
from services.federation.authorize.parameters import FORM, read_form, read_query
from services.federation.authorize.requests import BrowserSecret
from services.federation.errors import FormRefused, LogoutRequestGone
from services.federation.issuer_sessions.models import Login
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.logout.models import TTL, LogoutRequest, Sealed
from services.federation.logout.service import LOGOUTS, LogoutService
from services.federation.pages.contents import Form, LogoutPage, SignedInPage, SignedOutPage
from services.federation.pages.refusals import with_error_pages
from services.federation.pages.render import languages_of, render

PATH: Final = "/logout"
CONFIRM: Final = "/logout/confirm"
_HTML: Final = {"text/html": {"schema": {"type": "string"}}}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "A page: the question, or that the user is logged out.", "content": _HTML},
    303: {"description": "To the app's `post_logout_redirect_uri`, with `state`; or to a page of ours."},
    400: {"description": "A page: the request cannot be read, or the question is too old.", "content": _HTML},
    403: {"description": "A page: the form is not of our page.", "content": _HTML},
}
_DECISIONS: Final = {"logout": True, "stay": False}


class LogoutParameters(BaseModel):
    """What `/logout` understands; all may be left out."""

    model_config = ConfigDict(extra="ignore")

    id_token_hint: str | None = Field(None, description="An ID token of the app; may have expired.")
    client_id: str | None = Field(None, description="The app, where it sends no ID token.")
    post_logout_redirect_uri: str | None = Field(None, description="Registered for the app.")
    state: str | None = Field(None, description="Comes back with the redirect.")
    logout_hint: str | None = Field(None, description="Ignored: the browser says who is logged in.")
    ui_locales: str | None = Field(None, description="Languages, the best first.")
    request: str | None = Field(None, description="What our own redirect carries on.")


class Logout:
    """One request after another of a browser that logs out."""

    def __init__(
        self,
        logouts: LogoutService,
        logins: IssuerSessions,
        browsers: BrowserSecret,
        sealer: Sealer,
        clock: Clock,
    ) -> None:
        """Take the rules, who is logged in, and what seals what goes through the browser."""
        self._logouts = logouts
        self._logins = logins
        self._browsers = browsers
        self._sealer = sealer
        self._clock = clock

    async def read(self, http: Request, caller: CallerContext) -> LogoutRequest:
        """Return what a GET asks for."""
        parameters = read_query(http.scope["query_string"])
        parameters.check()
        carried = parameters.get("request")
        if carried:
            return self._opened(carried).request
        return await self._logouts.read(caller, parameters, await self._tenants(http))

    async def carry(self, http: Request, caller: CallerContext) -> Response:
        """Turn an app's form into a GET: other sites' forms come without our cookies."""
        parameters = read_form(http.headers.get("content-type", ""), await http.body())
        parameters.check()
        request = await self._logouts.read(caller, parameters, await self._tenants(http))
        sealed = Sealed(request, self._clock.now() + TTL)
        return see_other(f"{PATH}?{urlencode({'request': sealed.encode(self._sealer)})}")

    async def begin(self, http: Request, caller: CallerContext, request: LogoutRequest) -> Response:
        """Log out at once when the request is certain; else ask."""
        login = await self._login(http, request)
        app = await self._logouts.app_of(request)
        if login is None:
            LOGOUTS.labels("nobody").inc()
            # Without a hint nothing leads on by itself: the page has a link.
            return self._done(http, request, app, leads_on=request.hint is not None)
        if self._logouts.is_certain(request, login):
            return await self._end(http, caller, request, app, login)
        return self._ask(http, request, app, login)

    async def decide(self, http: Request, caller: CallerContext) -> Response:
        """Take the user's answer: our own page's form, in the browser and of the login that was asked."""
        form = await read_own_form(http)
        sealed = self._opened(form.get("request", ""))
        decision = _DECISIONS.get(form.get("decision", ""))
        secret = self._browsers.of(http)
        is_ours = bool(secret) and hmac.compare_digest(_hash(secret), sealed.browser_hash)
        if decision is None or sealed.session_id is None or not is_ours:
            raise FormRefused
        request = sealed.request
        login = await self._login(http, request)
        app = await self._logouts.app_of(request)
        if not decision:
            LOGOUTS.labels("stayed").inc()
            client = app.client if app else None
            return render(SignedInPage(), client, languages_of(http, request.languages))
        if login is None:
            return self._done(http, request, app, leads_on=True)
        if login.session_id != sealed.session_id:
            # Somebody has logged in since the question: it is another one now.
            return self._ask(http, request, app, login)
        return await self._end(http, caller, request, app, login)

    async def _login(self, http: Request, request: LogoutRequest) -> Login | None:
        if request.client_id is not None:
            return await self._logins.find(http, request.client_id)
        found = await self._logins.of_browser(http)
        return found[0] if found else None

    async def _tenants(self, http: Request) -> frozenset[Any]:
        return frozenset(login.client_id for login in await self._logins.of_browser(http))

    def _ask(self, http: Request, request: LogoutRequest, app: App | None, login: Login) -> Response:
        LOGOUTS.labels("asked").inc()
        carrier = Response()
        secret = self._browsers.made(http, carrier)
        until = self._clock.now() + TTL
        asked = replace(request, client_id=login.client_id)
        sealed = Sealed(asked, until, _hash(secret), login.session_id).encode(self._sealer)
        form = Form(CONFIRM, {"request": sealed}, request.redirect_uri)
        page = LogoutPage(form, login.user.email, app.name if app else "")
        answer = render(page, app.client if app else None, languages_of(http, request.languages))
        answer.raw_headers += [pair for pair in carrier.raw_headers if pair[0] == b"set-cookie"]
        return answer

    async def _end(
        self, http: Request, caller: CallerContext, request: LogoutRequest, app: App | None, login: Login
    ) -> Response:
        answer = self._done(http, request, app, leads_on=True)
        await self._logins.end(answer, caller, login)
        LOGOUTS.labels("logged_out").inc()
        return answer

    def _done(self, http: Request, request: LogoutRequest, app: App | None, *, leads_on: bool) -> Response:
        """Lead on to the app, or say that the user is logged out."""
        back = request.redirect_uri if app and app.is_usable else ""
        if back not in (app.post_logout_redirect_uris if app else ()):
            back = ""  # taken away since
        if back:
            back = _with_state(back, request.state)
        if back and leads_on:
            return Response(status_code=303, headers={"location": back, **NO_STORE})
        page = SignedOutPage(app.name if app else "", back)
        return render(page, app.client if app else None, languages_of(http, request.languages))

    def _opened(self, text: str) -> Sealed:
        sealed = Sealed.decode(text, self._sealer)
        if sealed is None or sealed.expires_at <= self._clock.now():
            raise LogoutRequestGone
        return sealed


def routes(logout: Logout) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")

    @router.get(PATH, access=Access.PUBLIC, limit="public", response_model=None, responses=_ANSWERS)
    async def log_out(
        request: Request, caller: Caller, _documented: Annotated[LogoutParameters, Query()]
    ) -> Response:
        """Log the user of this browser out (OpenID Connect RP-Initiated Logout 1.0 §2).

        With the ID token of this very login the user is logged out at once, and led on to a registered
        `post_logout_redirect_uri`. In every other case the user is asked first. What was granted with the
        login ends, except with `offline_access`; apps with a back-channel address are told.
        """

        async def answered() -> Response:
            if "prefetch" in request.headers.get("sec-purpose", ""):
                raise Unavailable
            return await logout.begin(request, caller, await logout.read(request, caller))

        return await with_error_pages(request, answered)

    @router.post(
        PATH,
        access=Access.PUBLIC,
        limit="public",
        body_limit=32 * KIB,
        response_model=None,
        responses=_ANSWERS,
        request_body={
            "required": False,
            "content": {FORM: {"schema": LogoutParameters.model_json_schema()}},
        },
    )
    async def log_out_by_form(request: Request, caller: Caller) -> Response:
        """Do as `GET /logout`, of a form with the same parameters; answers a redirect that comes back."""
        return await with_error_pages(request, lambda: logout.carry(request, caller))

    @router.post(
        CONFIRM,
        access=Access.PUBLIC,
        limit="public",
        body_limit=16 * KIB,
        response_model=None,
        responses=_ANSWERS,
        request_body={
            "required": True,
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "required": ["request", "decision"],
                        "properties": {
                            "request": {"type": "string"},
                            "decision": {"type": "string", "enum": sorted(_DECISIONS)},
                        },
                    }
                }
            },
        },
    )
    async def decide_logout(request: Request, caller: Caller) -> Response:
        """Take the user's answer, of our page's form only."""
        return await with_error_pages(request, lambda: logout.decide(request, caller))

    return router


def _with_state(uri: str, state: str | None) -> str:
    if state is None:
        return uri
    joint = "&" if urlsplit(uri).query else "?"
    return f"{uri.rstrip('?')}{joint}{urlencode({'state': state})}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
