"""HTTP face of what stands beside the login: forms and pages, as those of the login itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from chassis.context import Access
from chassis.errors import HTTP_STATUS
from chassis.http import KIB, Caller, Router
from contracts.hosted_pages import LOGIN_LINK, PASSWORD_CHANGED
from services.federation.errors import AuthorizationRequestGone
from services.federation.login.accounts import MAILED, HostedAccounts
from services.federation.login.browsers import Browsers
from services.federation.login.face import FORM_ANSWERS, SHOWN, SHOWN_OR_MOVED, Face, Handle, form_body
from services.federation.login.service import FORGOT, MAIL_LINK, SIGN_UP
from services.federation.pages import captchas
from services.federation.pages.contents import LinkElsewherePage, PasswordChangedPage
from services.federation.pages.refusals import with_error_pages
from services.federation.pages.render import languages_of, render

TenantParameter = Annotated[str, Query(alias="client_id", max_length=64, description="Whose page it was.")]


def routes(accounts: HostedAccounts, browsers: Browsers) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")
    face = Face(browsers)
    _declare_sign_up(router, face, accounts)
    _declare_forgotten_password(router, face, accounts)
    _declare_links(router, face, accounts)
    return router


def _declare_sign_up(router: Router, face: Face, accounts: HostedAccounts) -> None:
    @router.get(SIGN_UP, access=Access.PUBLIC, limit="public", response_model=None, responses=SHOWN_OR_MOVED)
    async def show_sign_up(request: Request, caller: Caller, handle: Handle = "") -> Response:
        """Show the page for who has no account (`text/html`); the login page where there is none."""

        async def work() -> Response:
            visit = await face.browsers.visit(request, caller, handle)
            return face.next(visit, await accounts.sign_up(visit))

        return await with_error_pages(request, work)

    @router.post(
        SIGN_UP,
        access=Access.PUBLIC,
        limit="signup",
        body_limit=32 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body("email", "password", "display_name", *captchas.FIELDS),
    )
    async def create_account(request: Request, caller: Caller) -> Response:
        """Create a user by the form of the page (with `email`, `password`, `display_name`) and log it in."""

        async def work() -> Response:
            visit, form = await face.submitted(request, caller)
            created = await accounts.create(
                visit,
                form.get("email", ""),
                form.get("password", ""),
                form.get("display_name", ""),
                captchas.token_of(form),
            )
            return face.next(visit, created)

        return await with_error_pages(request, work)


def _declare_forgotten_password(router: Router, face: Face, accounts: HostedAccounts) -> None:
    @router.get(FORGOT, access=Access.PUBLIC, limit="public", response_model=None, responses=SHOWN_OR_MOVED)
    async def show_forgot_password(request: Request, caller: Caller, handle: Handle = "") -> Response:
        """Show the page for who has forgotten the password (`text/html`)."""

        async def work() -> Response:
            visit = await face.browsers.visit(request, caller, handle)
            return face.next(visit, await accounts.forgot(visit))

        return await with_error_pages(request, work)

    @router.post(
        FORGOT,
        access=Access.PUBLIC,
        limit="sensitive",
        body_limit=8 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body("email"),
    )
    async def ask_for_password_reset(request: Request, caller: Caller) -> Response:
        """Have a link mailed by the form of the page (with `email`), the same for every address."""

        async def work() -> Response:
            visit, form = await face.submitted(request, caller)
            return face.next(visit, await accounts.ask_reset(visit, form.get("email", "")))

        return await with_error_pages(request, work)

    @router.get(MAILED, access=Access.PUBLIC, limit="public", response_model=None, responses=SHOWN)
    async def show_mailed(request: Request, caller: Caller, handle: Handle = "") -> Response:
        """Tell of the mail that is on its way (`text/html`)."""

        async def work() -> Response:
            visit = await face.browsers.visit(request, caller, handle)
            return face.shown(visit, accounts.mailed(visit))

        return await with_error_pages(request, work)

    @router.get(
        PASSWORD_CHANGED,
        access=Access.PUBLIC,
        limit="public",
        response_model=None,
        responses=SHOWN_OR_MOVED,
    )
    async def show_password_changed(
        request: Request, caller: Caller, handle: Handle = "", client_id: TenantParameter = ""
    ) -> Response:
        """Lead back to the login after a reset, where a page of this browser waits; else say what to do."""

        async def work() -> Response:
            try:
                visit = await face.browsers.visit(request, caller, handle)
            except AuthorizationRequestGone:
                tenant = await accounts.tenant(client_id)
                return render(PasswordChangedPage(), tenant, languages_of(request))
            return face.next(visit, accounts.changed(visit))

        return await with_error_pages(request, work)


def _declare_links(router: Router, face: Face, accounts: HostedAccounts) -> None:
    @router.get(
        MAIL_LINK, access=Access.PUBLIC, limit="public", response_model=None, responses=SHOWN_OR_MOVED
    )
    async def show_mail_link(request: Request, caller: Caller, handle: Handle = "") -> Response:
        """Show the page for who wants to log in by a mailed link (`text/html`)."""

        async def work() -> Response:
            visit = await face.browsers.visit(request, caller, handle)
            return face.next(visit, await accounts.mail_link(visit))

        return await with_error_pages(request, work)

    @router.post(
        MAIL_LINK,
        access=Access.PUBLIC,
        limit="sensitive",
        body_limit=8 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body("email"),
    )
    async def ask_for_login_link(request: Request, caller: Caller) -> Response:
        """Have a link mailed by the form of the page (with `email`), the same for every address."""

        async def work() -> Response:
            visit, form = await face.submitted(request, caller)
            return face.next(visit, await accounts.ask_link(visit, form.get("email", "")))

        return await with_error_pages(request, work)

    @router.get(LOGIN_LINK, access=Access.PUBLIC, limit="public", response_model=None, responses=SHOWN)
    async def show_login_link(
        request: Request,
        caller: Caller,
        handle: Handle = "",
        client_id: TenantParameter = "",
        token: Annotated[str, Query(max_length=128, description="The token of the link.")] = "",
    ) -> Response:
        """Show the button that logs in by a mailed link, in the browser that asked; changes nothing."""

        async def work() -> Response:
            try:
                visit = await face.browsers.visit(request, caller, handle)
            except AuthorizationRequestGone as gone:
                tenant = await accounts.tenant(client_id)
                return render(
                    LinkElsewherePage(), tenant, languages_of(request), status=HTTP_STATUS[gone.kind]
                )
            return face.shown(visit, accounts.look(visit, token))

        return await with_error_pages(request, work)

    @router.post(
        LOGIN_LINK,
        access=Access.PUBLIC,
        limit="login",
        body_limit=8 * KIB,
        response_model=None,
        responses=FORM_ANSWERS,
        request_body=form_body("token"),
    )
    async def follow_login_link(request: Request, caller: Caller) -> Response:
        """Log in by a mailed link, by the form of its page (with `token`)."""

        async def work() -> Response:
            visit, form = await face.submitted(request, caller)
            return face.next(visit, await accounts.by_link(visit, form.get("token", "")))

        return await with_error_pages(request, work)
