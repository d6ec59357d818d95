"""HTTP face of the hosted login page; every answer of a form is a page or a redirect (303), never JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from chassis.context import Access, CallerContext
from chassis.errors import HTTP_STATUS, AppError
from chassis.forms import check_own_page
from chassis.http import KIB, Caller, Router
from chassis.models import RequestModel
from services.federation.login.browsers import MAX_HANDLE, Browsers
from services.federation.login.face import (
    FORM_ANSWERS,
    NO_STORE,
    SHOWN,
    SHOWN_OR_MOVED,
    Face,
    Handle,
    form_body,
    with_cookies,
)
from services.federation.login.faults import headers_of, refusal_of, status_of
from services.federation.login.service import (
    CANCEL,
    ENROLLMENT,
    LOGIN,
    PASSKEY_BEGIN,
    PASSKEY_FINISH,
    SECOND_FACTOR,
    SECOND_PASSKEY_BEGIN,
    HostedLogin,
    Visit,
)
from services.federation.pages import captchas
from services.federation.pages.contents import (
    Fault,
    Notice,
    Refusal,
)
from services.federation.pages.refusals import with_error_pages
from services.federation.pages.render import fault_text, languages_of

_CALL: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "What the script goes on with.", "content": {"application/json": {}}},
    400: {"description": "`authorization_request_gone`"},
    403: {"description": "`form_refused`, `forbidden`, `login_blocked`"},
    422: {"description": "The passkey was refused; `message` says so in the page's language."},
}


class PasskeyBeginRequest(RequestModel):
    """The page's request, and the token of its forms."""

    request: str = Field(max_length=MAX_HANDLE)
    form_token: str = Field(max_length=MAX_HANDLE)


class PasskeyFinishRequest(PasskeyBeginRequest):
    """What the authenticator answered, as `credential.toJSON()` gives it."""

    session_id: str = Field(max_length=MAX_HANDLE)
    credential: dict[str, Any]
    remember_device: bool = False


def routes(login: HostedLogin, browsers: Browsers) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")
    face = Face(browsers)
    _declare_login(router, face, login)
    _declare_second_factor(router, face, login)
    _declare_enrollment(router, face, login)
    _declare_passkeys(router, face, login)
    return router


async def _called(face: Face, request: Request, body: PasskeyBeginRequest, caller: CallerContext) -> Visit:
    """Return the visit that a call of the page's script belongs to."""
    check_own_page(request)
    return await face.browsers.submitted(request, caller, body.request, body.form_token)


def _declare_login(router: Router, face: Face, login: HostedLogin) -> None:
    @router.get(LOGIN, access=Access.PUBLIC, limit="public", response_model=None, responses=SHOWN)
    async def show_login(
        request: Request,
        caller: Caller,
        handle: Handle = "",
        account: Annotated[str | None, Query(description="`other` for another user.")] = None,
        fault: Annotated[str | None, Query(description="Why the login begins anew.")] = None,
        notice: Annotated[str | None, Query(description="What was done before.")] = None,
    ) -> Response:
        """Show the login page of an authorization request (`text/html`)."""

        async def work() -> Response:
            visit = await face.browsers.visit(request, caller, handle)
            refusal = Refusal(Fault.LOGIN_EXPIRED) if fault == Fault.LOGIN_EXPIRED else None
            told = Notice(notice) if notice in set(Notice) else None
            is_other = account == "other" or bool(refusal)
            page = await login.show(visit, as_other=is_other, refusal=refusal, notice=told)
            return face.shown(visit, page)

        return await with_error_pages(request, work)

    @router.post(
        LOGIN,
        access=Access.PUBLIC,
        limit="login",
        body_limit=32 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body("email", "password", "action", *captchas.FIELDS),
    )
    async def log_in(request: Request, caller: Caller) -> Response:
        """Log in by the form of the page (with `email` and `password`), or go on as who is logged in."""

        async def work() -> Response:
            visit, form = await face.submitted(request, caller)
            if form.get("action") == "continue":
                return face.next(visit, await login.go_on(visit))
            token = captchas.token_of(form)
            email, password = form.get("email", ""), form.get("password", "")
            return face.next(visit, await login.by_password(visit, email, password, token))

        return await with_error_pages(request, work)

    @router.post(
        CANCEL,
        access=Access.PUBLIC,
        limit="public",
        body_limit=32 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body(),
    )
    async def cancel_login(request: Request, caller: Caller) -> Response:
        """Give up, by the button of a page: the app is answered `access_denied`."""

        async def work() -> Response:
            visit, _ = await face.submitted(request, caller)
            return await login.cancel(visit)

        return await with_error_pages(request, work)


def _declare_second_factor(router: Router, face: Face, login: HostedLogin) -> None:
    @router.get(
        SECOND_FACTOR, access=Access.PUBLIC, limit="public", response_model=None, responses=SHOWN_OR_MOVED
    )
    async def show_second_factor(
        request: Request,
        caller: Caller,
        handle: Handle = "",
        factor: Annotated[str | None, Query(description="The factor to be asked for.")] = None,
    ) -> Response:
        """Show the page that asks for the second factor of a login that waits (`text/html`)."""

        async def work() -> Response:
            visit = await face.browsers.visit(request, caller, handle)
            return face.next(visit, await login.second_factor(visit, factor or ""))

        return await with_error_pages(request, work)

    @router.post(
        SECOND_FACTOR,
        access=Access.PUBLIC,
        limit="login",
        body_limit=8 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body("factor", "code", "remember_device"),
    )
    async def show_code(request: Request, caller: Caller) -> Response:
        """Complete a login by the form of the page (with `factor` and `code`)."""

        async def work() -> Response:
            visit, form = await face.submitted(request, caller)
            result = await login.by_code(
                visit,
                form.get("factor", ""),
                form.get("code", ""),
                remember=bool(form.get("remember_device")),
            )
            return face.next(visit, result)

        return await with_error_pages(request, work)


def _declare_enrollment(router: Router, face: Face, login: HostedLogin) -> None:
    @router.get(
        ENROLLMENT, access=Access.PUBLIC, limit="login", response_model=None, responses=SHOWN_OR_MOVED
    )
    async def show_enrollment(request: Request, caller: Caller, handle: Handle = "") -> Response:
        """Show a new secret for an authenticator app, to who must set one up first (`text/html`)."""

        async def work() -> Response:
            visit = await face.browsers.visit(request, caller, handle)
            return face.next(visit, await login.enrollment(visit))

        return await with_error_pages(request, work)

    @router.post(
        ENROLLMENT,
        access=Access.PUBLIC,
        limit="login",
        body_limit=8 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body("code"),
    )
    async def enroll(request: Request, caller: Caller) -> Response:
        """Turn the app on by the form of the page (with `code`); answers the page of its recovery codes."""

        async def work() -> Response:
            visit, form = await face.submitted(request, caller)
            return face.next(visit, await login.enroll(visit, form.get("code", "")))

        return await with_error_pages(request, work)


def _declare_passkeys(router: Router, face: Face, login: HostedLogin) -> None:
    async def begin(
        request: Request, caller: CallerContext, body: PasskeyBeginRequest, *, second: bool
    ) -> Response:
        visit = await _called(face, request, body, caller)
        begun = await login.begin_passkey(visit, is_second=second)
        answer = {"session_id": begun.session_id, "options": json.loads(begun.options_json)}
        return JSONResponse(answer, headers=NO_STORE)

    @router.post(
        PASSKEY_BEGIN,
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        response_model=None,
        responses=_CALL,
    )
    async def begin_passkey_login(body: PasskeyBeginRequest, request: Request, caller: Caller) -> Response:
        """Begin a login by passkey, for the script of the login page."""
        return await begin(request, caller, body, second=False)

    @router.post(
        SECOND_PASSKEY_BEGIN,
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        response_model=None,
        responses=_CALL,
    )
    async def begin_passkey_factor(body: PasskeyBeginRequest, request: Request, caller: Caller) -> Response:
        """Begin to show a passkey as the second factor, for the script of that page."""
        return await begin(request, caller, body, second=True)

    @router.post(
        PASSKEY_FINISH,
        access=Access.PUBLIC,
        limit="login",
        body_limit=32 * KIB,
        response_model=None,
        responses=_CALL,
    )
    async def finish_passkey_login(body: PasskeyFinishRequest, request: Request, caller: Caller) -> Response:
        """End a ceremony, for the script of a page; answers the `location` of the next one."""
        visit = await _called(face, request, body, caller)
        try:
            result = await login.finish_passkey(
                visit, body.session_id, body.credential, remember=body.remember_device
            )
        except AppError as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            languages = languages_of(request, visit.waiting.languages)
            message = fault_text(refusal, visit.waiting.client, languages)
            status = status_of(refusal) if error.kind in HTTP_STATUS else 500
            return JSONResponse(
                {"code": error.code, "message": message}, status, {**NO_STORE, **headers_of(refusal)}
            )
        return _located(face.next(visit, result), visit)


def _located(answer: Response, visit: Visit) -> Response:
    """Return a redirect as the script takes it, with its cookies."""
    location = answer.headers.get("location") or visit.url(LOGIN)
    return with_cookies(JSONResponse({"location": location}, headers=NO_STORE), answer)
