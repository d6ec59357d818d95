"""HTTP face of logging in by a mailed link."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from chassis.context import Access, CallerContext
from chassis.forms import read_form
from chassis.http import KIB, Caller, Router
from chassis.models import RequestModel
from contracts.session import (
    ModeParameter,
    RefreshCookie,
    SessionMode,
    Transport,
    TransportParameter,
    chosen_transport,
)
from services.identity.devices.cookie import DeviceCookie, browser_of, set_device_cookie
from services.identity.errors import InvalidLink
from services.identity.logins.answers import LoginAnswer, login_answer
from services.identity.logins.models import Opened
from services.identity.magic_links.service import Followed, MagicLinkService
from services.identity.magic_links.targets import origin_of_target
from services.identity.mail_pages.page import Form, PageKind, page
from services.identity.users.email import MAX_TYPED_LENGTH
from services.identity.verification.routes import MailAccepted

_VERIFY = "/api/auth/magic-link/verify"
_PREFETCH_HEADERS = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_PREFETCHES = ("prefetch", "prerender", "preview")

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What the login came to, or the page that asks for confirmation.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
    303: {"description": "To the `redirect_url` of the link, with a one-time `auth_code`."},
    400: {"description": "`invalid_link`: used, replaced, older than 15 minutes, or no such token"},
    403: {"description": "`login_blocked`: the client's policy refuses logins as risky as this one"},
    422: {"description": "`redirect_not_allowed`: the client does not allow the page any more"},
}

TokenParameter = Annotated[str, Query(min_length=1, max_length=128, description="The token of the link.")]


class MagicLinkRequest(RequestModel):
    """The address, and what is to happen when the link is followed."""

    email: str = Field(max_length=MAX_TYPED_LENGTH)
    redirect_url: str | None = Field(
        None, max_length=2048, description="Page to return to, at an allowed origin of the client."
    )
    create_user: bool = Field(False, description="Create a user where the address has none.")


def routes(links: MagicLinkService, cookie: RefreshCookie) -> Router:
    """The slice's routes."""
    router = Router(tag="Email")
    _declare_send(router, links)
    _declare_verify(router, links, cookie)
    return router


def _declare_send(router: Router, links: MagicLinkService) -> None:
    @router.post(
        "/api/auth/magic-link/send",
        access=Access.API_KEY,
        limit="sensitive",
        body_limit=8 * KIB,
        status_code=202,
        responses={
            422: {"description": "`invalid_email`, `email_domain_blocked`, `redirect_not_allowed`"},
            503: {"description": "`feature_unavailable`: no mail can be sent"},
        },
    )
    async def send_magic_link(body: MagicLinkRequest, caller: Caller) -> MailAccepted:
        """Mail a link to log in by.

        The answer and its time are the same whether or not the address has an account. The link works once,
        for 15 minutes, and voids the one before it. One mailbox gets at most three in fifteen minutes; more
        are silently dropped.
        """
        await links.ask(caller, body.email, redirect_url=body.redirect_url, create_user=body.create_user)
        return MailAccepted()


def _declare_verify(router: Router, links: MagicLinkService, cookie: RefreshCookie) -> None:
    async def log_in(
        caller: CallerContext, followed: Followed, transport: Transport, device_token: str, response: Response
    ) -> LoginAnswer | Response:
        # Behind a redirect it is the application that gets the tokens, and this browser that was proven.
        seen = Transport.COOKIE if followed.target else transport
        outcome = await links.follow(caller, followed, browser_of(device_token, seen))
        response.headers["referrer-policy"] = "no-referrer"
        if followed.target is None:
            return login_answer(outcome, transport, cookie, response)
        redirect = Response(status_code=303, headers={"location": await links.carry(followed, outcome)})
        redirect.headers["referrer-policy"] = "no-referrer"
        if isinstance(outcome, Opened) and outcome.device_token is not None:
            set_device_cookie(redirect, outcome.device_token, cookie)
        return redirect

    @router.get(_VERIFY, access=Access.PUBLIC, limit="login", response_model=LoginAnswer, responses=_ANSWERS)
    async def verify_magic_link(
        request: Request,
        response: Response,
        caller: Caller,
        device_token: DeviceCookie,
        token: TokenParameter,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> LoginAnswer | Response:
        """Log in by the token of a mailed link; once.

        Answers as a login does, second factors included, or sends the browser on to the link's page with a
        one-time `auth_code` for `POST /api/auth/redirect/exchange`. What only fetches ahead, and everybody
        where the client sets `magic_link_confirm`, gets a page with a button instead, and the link stays
        good. Following a link proves the mailbox: in an account whose address was not verified, all
        credentials of before are void.
        """
        followed = await links.look(caller, token)
        if followed.needs_confirmation or _is_fetched_ahead(request):
            fields = {"token": token}
            fields |= {"token_transport": token_transport} if token_transport else {}
            fields |= {"session_mode": session_mode} if session_mode else {}
            target = origin_of_target(followed.target) if followed.target else None
            form = Form(_VERIFY, fields, target)
            return page(PageKind.MAGIC_LINK, followed.client, followed.token.user.locale, form)
        transport = chosen_transport(None, token_transport, session_mode)
        return await log_in(caller, followed, transport, device_token, response)

    @router.post(
        _VERIFY,
        access=Access.PUBLIC,
        limit="login",
        body_limit=4 * KIB,
        response_model=LoginAnswer,
        responses=_ANSWERS,
    )
    async def confirm_magic_link(
        request: Request, response: Response, caller: Caller, device_token: DeviceCookie
    ) -> LoginAnswer | Response:
        """Log in by the form of the confirmation page (`application/x-www-form-urlencoded`, with `token`).

        Only our own page may send it: a browser that says that another site does is refused.
        """
        form = await read_form(request)
        if not form.get("token"):
            raise InvalidLink
        followed = await links.look(caller, form["token"])
        transport = chosen_transport(None, _transport(form), _mode(form))
        return await log_in(caller, followed, transport, device_token, response)


def _is_fetched_ahead(request: Request) -> bool:
    """Whether nobody has asked for the page yet: browsers and scanners say so when they fetch ahead."""
    said = " ".join(request.headers.get(name, "") for name in _PREFETCH_HEADERS).lower()
    return any(word in said for word in _PREFETCHES)


def _transport(form: dict[str, str]) -> Transport | None:
    value = form.get("token_transport")
    return Transport(value) if value in set(Transport) else None


def _mode(form: dict[str, str]) -> SessionMode | None:
    modes: dict[str, Literal["cookie", "token"]] = {"cookie": "cookie", "token": "token"}
    return modes.get(form.get("session_mode", ""))
