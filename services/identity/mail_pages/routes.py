"""The pages behind the links that verify or change an address, and that reset a password."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from chassis.context import Access
from chassis.errors import InvalidRequest
from chassis.forms import read_form
from chassis.http import KIB, Caller, Router
from contracts.clients import ClientDirectory
from contracts.hosted_pages import PASSWORD_CHANGED, way_back
from services.identity.email_change.service import EmailChangeService
from services.identity.email_tokens.models import TokenKind
from services.identity.email_tokens.service import EmailTokens
from services.identity.errors import WeakPassword
from services.identity.mail_pages.page import Form, PageKind, page
from services.identity.password_reset.service import PasswordResetService, request_of
from services.identity.verification.service import VerificationService

_VERIFY = "/api/auth/verify-email"
_RESET = "/api/auth/reset-password"
_CHANGE = "/api/auth/change-email/confirm"
_KEEP = "/api/auth/change-email/revert"
_MAX_TYPED_PASSWORD = 1024
_NO_STORE = {"cache-control": "no-store", "referrer-policy": "no-referrer"}

TokenParameter = Annotated[str, Query(min_length=1, max_length=128, description="The token of the link.")]

_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}},
    400: {"description": "`invalid_link`: used, replaced, too old, or no such token; or no form"},
}
_RESULT: dict[int | str, dict[str, Any]] = {
    **_PAGE,
    403: {"description": "`forbidden`: another site sent the form"},
}
_AGAIN: dict[int | str, dict[str, Any]] = {
    **_RESULT,
    422: {
        "description": "The page again, with what is wrong with the password.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
}


def routes(
    clients: ClientDirectory,
    tokens: EmailTokens,
    verification: VerificationService,
    resets: PasswordResetService,
    changes: EmailChangeService,
) -> Router:
    """The slice's routes. Looking at a page changes nothing, so that no scanner of mails uses a link up."""
    router = Router(tag="Email")
    _declare_verification(router, clients, tokens, verification)
    _declare_reset(router, clients, tokens, resets)
    _declare_change(router, clients, changes)
    _declare_way_back(router, clients, changes)
    return router


def _declare_verification(
    router: Router, clients: ClientDirectory, tokens: EmailTokens, verification: VerificationService
) -> None:
    @router.get(_VERIFY, access=Access.PUBLIC, limit="public", response_model=None, responses=_PAGE)
    async def show_email_verification(caller: Caller, token: TokenParameter) -> Response:
        """Show the page with the button that verifies an address: where the mailed link leads."""
        found = await tokens.find(caller, token, TokenKind.VERIFY_EMAIL)
        client = await clients.get(found.client_id)
        form = Form(f"{_VERIFY}/confirm", {"token": token})
        return page(PageKind.VERIFY_EMAIL, client, found.user.locale, form)

    @router.post(
        f"{_VERIFY}/confirm",
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        response_model=None,
        responses=_RESULT,
    )
    async def confirm_email_verification(request: Request, caller: Caller) -> Response:
        """Verify an address by the form of the page (`application/x-www-form-urlencoded`, with `token`)."""
        user = await verification.verify(caller, (await read_form(request)).get("token", ""))
        return page(PageKind.VERIFY_EMAIL, await clients.get(user.client_id), user.locale, None)


def _declare_reset(
    router: Router, clients: ClientDirectory, tokens: EmailTokens, resets: PasswordResetService
) -> None:
    @router.get(_RESET, access=Access.PUBLIC, limit="public", response_model=None, responses=_PAGE)
    async def show_password_reset(caller: Caller, token: TokenParameter) -> Response:
        """Show the page that asks for a new password: where the mailed link leads."""
        found = await tokens.find(caller, token, TokenKind.RESET_PASSWORD)
        client = await clients.get(found.client_id)
        form = Form(f"{_RESET}/confirm", {"token": token})
        return page(PageKind.RESET_PASSWORD, client, found.user.locale, form)

    @router.post(
        f"{_RESET}/confirm",
        access=Access.PUBLIC,
        limit="sensitive",
        body_limit=8 * KIB,
        response_model=None,
        responses={**_AGAIN, 303: {"description": "Back to the login page that the reset began at."}},
    )
    async def confirm_password_reset(request: Request, caller: Caller) -> Response:
        """Replace a password by the form of the page (with `token` and `password`)."""
        fields = await read_form(request)
        token, password = fields.get("token", ""), fields.get("password", "")
        if "\x00" in password or len(password) > _MAX_TYPED_PASSWORD:
            raise InvalidRequest
        found = await tokens.find(caller, token, TokenKind.RESET_PASSWORD)
        client = await clients.get(found.client_id)
        try:
            await resets.reset(caller, token, password)
        except WeakPassword as error:
            faults = tuple(fault.detail for fault in error.errors) or (error.detail,)
            form = Form(f"{_RESET}/confirm", {"token": token}, faults=faults)
            return page(PageKind.RESET_PASSWORD, client, found.user.locale, form, status=422)
        if request_of(found):
            back = way_back(PASSWORD_CHANGED, client.id, request_of(found))
            return RedirectResponse(back, status_code=303, headers=_NO_STORE)
        return page(PageKind.RESET_PASSWORD, client, found.user.locale, None)


def _declare_change(router: Router, clients: ClientDirectory, changes: EmailChangeService) -> None:
    @router.get(_CHANGE, access=Access.PUBLIC, limit="public", response_model=None, responses=_PAGE)
    async def show_email_change(caller: Caller, token: TokenParameter) -> Response:
        """Show the page with the button that confirms a new address: where the mailed link leads."""
        user = await changes.find_change(caller, token)
        form = Form(f"{_CHANGE}/form", {"token": token})
        return page(PageKind.CHANGE_EMAIL, await clients.get(user.client_id), user.locale, form)

    @router.post(
        f"{_CHANGE}/form",
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        response_model=None,
        responses={**_RESULT, 409: {"description": "`email_taken`: another account has the address by now"}},
    )
    async def confirm_email_change(request: Request, caller: Caller) -> Response:
        """Change an address by the form of the page (with `token`)."""
        user = await changes.confirm(caller, (await read_form(request)).get("token", ""))
        return page(PageKind.CHANGE_EMAIL, await clients.get(user.client_id), user.locale, None)


def _declare_way_back(router: Router, clients: ClientDirectory, changes: EmailChangeService) -> None:
    @router.get(_KEEP, access=Access.PUBLIC, limit="public", response_model=None, responses=_PAGE)
    async def show_email_revert(caller: Caller, token: TokenParameter) -> Response:
        """Show the page with the button that takes a change back: where the old address's link leads."""
        user = await changes.find_way_back(caller, token)
        form = Form(f"{_KEEP}/form", {"token": token})
        return page(PageKind.KEEP_EMAIL, await clients.get(user.client_id), user.locale, form)

    @router.post(
        f"{_KEEP}/form",
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        response_model=None,
        responses={
            **_RESULT,
            409: {"description": "`email_taken`: another account has the old address by now"},
        },
    )
    async def confirm_email_revert(request: Request, caller: Caller) -> Response:
        """Take a change of address back by the form of the page (with `token`)."""
        token = (await read_form(request)).get("token", "")
        user = await changes.find_way_back(caller, token)
        await changes.revert(caller, token)
        return page(PageKind.KEEP_EMAIL, await clients.get(user.client_id), user.locale, None)
