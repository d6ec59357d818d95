"""HTTP face of devices: their request, and the pages on which a user answers it."""

from __future__ import annotations

import base64
import hmac
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from chassis.context import Access, CallerContext
from chassis.errors import InvalidRequest, RateLimited
from chassis.forms import read_form as read_own_form
from chassis.geo import GeoDatabases
from chassis.http import KIB, Caller, Router
from chassis.models import AnswerModel
from chassis.sealing import Sealer
from services.federation.authorize.answers import see_other
from services.federation.authorize.parameters import FORM, read_form
from services.federation.authorize.requests import BrowserSecret
from services.federation.authorize.routes import HandleParameter
from services.federation.devices.models import WaitingDevice
from services.federation.devices.service import DeviceService
from services.federation.devices.waiting import CONFIRM, DEVICE, WaitingDevices
from services.federation.errors import FormRefused, UserCodeUnknown
from services.federation.issuer_sessions.models import Login
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.login.service import LOGIN
from services.federation.pages.contents import (
    DeviceConfirmPage,
    DeviceDeniedPage,
    DeviceDonePage,
    DevicePage,
    Fault,
    Form,
    Refusal,
)
from services.federation.pages.refusals import with_error_pages
from services.federation.pages.render import languages_of, render

AUTHORIZATION: Final = "/device_authorization"
_MAX_TYPED: Final = 64
_DECISIONS: Final = {"approve": True, "deny": False}
_HTML: Final = {"text/html": {"schema": {"type": "string"}}}
_PAGES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "A page.", "content": _HTML},
    303: {"description": "On to the next page."},
    400: {
        "description": "A page: the request was answered, is too old, or another browser's.",
        "content": _HTML,
    },
    403: {"description": "A page: the form is not of our page.", "content": _HTML},
    422: {"description": "The page again: no device shows this code.", "content": _HTML},
    429: {"description": "The page again: too many codes were typed (`Retry-After`).", "content": _HTML},
}


class DeviceAuthorization(AnswerModel):
    """What a device shows, and what it asks with (RFC 8628 §3.2); times are in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class FormTokens:
    """What the form for codes must send: no memory of it is kept, and it is of one browser."""

    def __init__(self, sealer: Sealer) -> None:
        """Derive the key."""
        self._key = sealer.derive("device form")

    def of(self, browser_secret: str) -> str:
        """Return the token of a browser's forms."""
        secret = browser_secret.encode("utf-8", "surrogatepass")
        return base64.urlsafe_b64encode(hmac.digest(self._key, secret, "sha256")).rstrip(b"=").decode()

    def check(self, browser_secret: str, given: str) -> None:
        """Check that a form was made by our page for this browser.

        Raises:
            FormRefused: it was not.
        """
        expected = self.of(browser_secret).encode()
        if not browser_secret or not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected):
            raise FormRefused


class DevicePages:
    """One page after the other, for the browser of a device's user."""

    def __init__(
        self,
        devices: DeviceService,
        waiting: WaitingDevices,
        logins: IssuerSessions,
        browsers: BrowserSecret,
        forms: FormTokens,
        geo: GeoDatabases,
    ) -> None:
        """Take the rules, what waits, who is logged in, what binds forms to a browser, and the places."""
        self._devices = devices
        self._waiting = waiting
        self._logins = logins
        self._browsers = browsers
        self._forms = forms
        self._geo = geo

    def entry(
        self, http: Request, user_code: str, refusal: Refusal | None = None, *, status: int = 200
    ) -> Response:
        """Show the field for the code. What an address fills in is sent by the user alone (§3.3.1)."""
        carrier = Response()
        secret = self._browsers.made(http, carrier)
        form = Form(DEVICE, {"form_token": self._forms.of(secret)})
        page = DevicePage(form, user_code[:_MAX_TYPED], refusal)
        answer = render(page, None, languages_of(http), status=status)
        answer.raw_headers += [pair for pair in carrier.raw_headers if pair[0] == b"set-cookie"]
        return answer

    async def typed(self, http: Request, caller: CallerContext) -> Response:
        """Take a code, and lead on to the question."""
        form = await read_own_form(http)
        secret, user_code = self._browsers.of(http), form.get("user_code", "")
        self._forms.check(secret, form.get("form_token", ""))
        try:
            request = await self._devices.find(caller, user_code, secret)
        except UserCodeUnknown:
            return self.entry(http, user_code, Refusal(Fault.USER_CODE), status=422)
        except RateLimited as error:
            wait = error.retry_after or 1
            answer = self.entry(http, user_code, Refusal(Fault.LOCKED, wait), status=429)
            answer.headers["retry-after"] = str(wait)
            return answer
        handle = await self._waiting.keep(request, secret, languages_of(http))
        return see_other(f"{CONFIRM}?{urlencode({'request': handle})}")

    async def question(self, http: Request, handle: str) -> Response:
        """Ask the user who is logged in; who is not, logs in first."""
        waiting = await self._waiting.find(handle, self._browsers.of(http))
        login = await self._logins.find(http, waiting.client.id)
        if login is None:
            return see_other(f"{LOGIN}?{urlencode({'request': handle})}")
        page = _confirmation(waiting, login, self._place(waiting.request.ip))
        return render(page, waiting.client, languages_of(http, waiting.languages))

    async def answer(self, http: Request, caller: CallerContext) -> Response:
        """Take the user's answer: our page's form, in the browser in which the code was typed."""
        form = await read_own_form(http)
        waiting = await self._waiting.find(form.get("request", ""), self._browsers.of(http))
        given = form.get("form_token", "").encode("utf-8", "surrogatepass")
        decision = _DECISIONS.get(form.get("decision", ""))
        if decision is None or not hmac.compare_digest(given, waiting.form_token.encode()):
            raise FormRefused
        login = await self._logins.find(http, waiting.client.id)
        if login is None or form.get("user") != str(login.user_id):
            # Somebody else is logged in by now: whoever it is has not been asked.
            return see_other(f"{CONFIRM}?{urlencode({'request': waiting.handle})}")
        page = await self._decide(caller, waiting, login, approves=decision)
        await self._waiting.take(waiting)
        return render(page, waiting.client, languages_of(http, waiting.languages))

    async def _decide(
        self, caller: CallerContext, waiting: WaitingDevice, login: Login, *, approves: bool
    ) -> DeviceDonePage | DeviceDeniedPage:
        if approves:
            await self._devices.approve(caller, waiting, login)
            return DeviceDonePage()
        await self._devices.deny(caller, waiting, login)
        return DeviceDeniedPage()

    def _place(self, ip: str) -> str:
        """Return from where a device asked, as far as is known."""
        name = self._geo.place(ip).name
        return f"{name} ({ip})" if name else ip


def routes(devices: DeviceService, pages: DevicePages, base_url: str) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")
    _declare_request(router, devices, base_url)
    _declare_entry(router, pages)
    _declare_confirmation(router, pages)
    return router


def _declare_request(router: Router, devices: DeviceService, base_url: str) -> None:
    fields = ("client_id", "client_secret", "client_assertion_type", "client_assertion", "scope", "resource")

    @router.post(
        AUTHORIZATION,
        access=Access.OAUTH,
        limit="oauth",
        body_limit=32 * KIB,
        request_body=_body(fields, required=()),
        responses={
            400: {"description": "`invalid_request`, `invalid_scope`, `invalid_target`"},
            401: {"description": "`invalid_client`"},
            403: {"description": "`unauthorized_client`: the app may not have devices."},
        },
    )
    async def authorize_device(request: Request, caller: Caller) -> DeviceAuthorization:
        """Begin for a device without a keyboard or a browser (RFC 8628 §3.1).

        The app proves who it is as at `POST /token`. The device shows `user_code` and `verification_uri`, or
        the other address as a picture, and asks `POST /token` with `device_code` every `interval` seconds.
        """
        if request.scope["query_string"]:
            raise InvalidRequest("Send the parameters in the body, never in the URL.")
        parameters = read_form(request.headers.get("content-type", ""), await request.body())
        if parameters.twice:
            raise InvalidRequest("A parameter is sent twice.")
        code = await devices.request(caller, request.headers.get("authorization", ""), parameters)
        uri = f"{base_url}{DEVICE}"
        return DeviceAuthorization(
            device_code=code.device_code,
            user_code=code.user_code,
            verification_uri=uri,
            verification_uri_complete=f"{uri}?{urlencode({'user_code': code.user_code})}",
            expires_in=code.expires_in,
            interval=code.interval,
        )


def _declare_entry(router: Router, pages: DevicePages) -> None:
    @router.get(DEVICE, access=Access.PUBLIC, limit="public", response_model=None, responses=_PAGES)
    async def device_page(
        request: Request,
        user_code: Annotated[
            str, Query(max_length=_MAX_TYPED, description="Filled in, and sent by the user alone.")
        ] = "",
    ) -> Response:
        """Show the page on which a user types the code that a device shows."""
        return pages.entry(request, user_code)

    @router.post(
        DEVICE,
        access=Access.PUBLIC,
        limit="login",
        body_limit=4 * KIB,
        response_model=None,
        responses=_PAGES,
        request_body=_body(("form_token", "user_code"), required=("form_token", "user_code")),
    )
    async def enter_user_code(request: Request, caller: Caller) -> Response:
        """Take the code, of our page's form only, and lead on to the question whether the device may."""
        return await with_error_pages(request, lambda: pages.typed(request, caller))


def _declare_confirmation(router: Router, pages: DevicePages) -> None:
    @router.get(CONFIRM, access=Access.PUBLIC, limit="public", response_model=None, responses=_PAGES)
    async def device_confirmation(request: Request, handle: HandleParameter) -> Response:
        """Ask the user whether the device may do what it asks; who is not logged in logs in first."""
        return await with_error_pages(request, lambda: pages.question(request, handle))

    fields = ("request", "form_token", "user", "decision")

    @router.post(
        CONFIRM,
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        response_model=None,
        responses=_PAGES,
        request_body=_body(fields, required=fields),
    )
    async def decide_device(request: Request, caller: Caller) -> Response:
        """Take the user's answer, `approve` or `deny`, of our page's form only; of several one counts."""
        return await with_error_pages(request, lambda: pages.answer(request, caller))


def _confirmation(waiting: WaitingDevice, login: Login, place: str) -> DeviceConfirmPage:
    hidden = {"request": waiting.handle, "form_token": waiting.form_token, "user": str(login.user_id)}
    request = waiting.request
    return DeviceConfirmPage(
        Form(CONFIRM, hidden),
        app_name=waiting.app.name,
        email=login.user.email,
        user_code=request.user_code,
        scopes=request.scopes,
        place=place,
        resources=request.resources,
    )


def _body(fields: tuple[str, ...], *, required: tuple[str, ...]) -> dict[str, Any]:
    """Describe a form."""
    schema: dict[str, Any] = {"type": "object", "properties": {name: {"type": "string"} for name in fields}}
    if required:
        schema["required"] = list(required)
    return {"required": True, "content": {FORM: {"schema": schema}}}
