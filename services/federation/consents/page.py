"""HTTP face of the page on which a user is asked whether an app may do what it asks."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request, Response

from chassis.context import Access
from chassis.forms import read_form
from chassis.http import KIB, Caller, Router
from services.federation.authorize.answers import see_other
from services.federation.authorize.decisions import Step
from services.federation.authorize.models import Waiting
from services.federation.authorize.parameters import FORM
from services.federation.authorize.requests import AuthorizationRequests, BrowserSecret, check_form_token
from services.federation.authorize.routes import CONSENT, HandleParameter, Redirector, page_of
from services.federation.authorize.service import AuthorizationService
from services.federation.errors import FormRefused
from services.federation.issuer_sessions.models import Login
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.pages.contents import ConsentPage, Form
from services.federation.pages.refusals import with_error_pages
from services.federation.pages.render import languages_of, render

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}},
    303: {"description": "To the app, with a code or an error; or to the login page."},
    400: {"description": "The page of a request that this browser has not made, or that was answered."},
    403: {"description": "The form is not of our page."},
}
_DECISIONS: Final = {"approve": True, "deny": False}


def routes(
    authorization: AuthorizationService,
    requests: AuthorizationRequests,
    logins: IssuerSessions,
    browsers: BrowserSecret,
    redirector: Redirector,
) -> Router:
    """The page's routes."""
    router = Router(tag="OpenID Connect")

    @router.get(CONSENT, access=Access.PUBLIC, limit="public", response_model=None, responses=_ANSWERS)
    async def consent_page(request: Request, handle: HandleParameter) -> Response:
        """Ask the user who is logged in whether the app may do what it asks."""

        async def answered() -> Response:
            waiting = await requests.find(handle, browsers.of(request))
            login = await logins.find(request, waiting.client.id)
            if login is None or login.session_id != waiting.session_id:
                return see_other(page_of(Step.LOGIN, waiting))
            page = _page(waiting, login)
            return render(page, waiting.client, languages_of(request, waiting.languages))

        return await with_error_pages(request, answered)

    @router.post(
        CONSENT,
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        response_model=None,
        responses=_ANSWERS,
        request_body={
            "required": True,
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "required": ["request", "form_token", "decision"],
                        "properties": {
                            "request": {"type": "string"},
                            "form_token": {"type": "string"},
                            "decision": {"type": "string", "enum": sorted(_DECISIONS)},
                        },
                    }
                }
            },
        },
    )
    async def decide_consent(request: Request, caller: Caller) -> Response:
        """Take the user's answer: our page's form only, in the browser and of the user that was asked."""

        async def answered() -> Response:
            form = await read_form(request)
            waiting = await requests.find(form.get("request", ""), browsers.of(request))
            check_form_token(waiting, form.get("form_token"))
            decision = _DECISIONS.get(form.get("decision", ""))
            if decision is None:
                raise FormRefused
            login = await logins.find(request, waiting.client.id)
            return redirector.respond(await authorization.decide(caller, waiting, login, approves=decision))

        return await with_error_pages(request, answered)

    return router


def _page(waiting: Waiting, login: Login) -> ConsentPage:
    request = waiting.request
    app = request.app
    parts = urlsplit(request.redirect_uri)
    return ConsentPage(
        Form(CONSENT, {"request": waiting.handle, "form_token": waiting.form_token}, request.redirect_uri),
        # What a document says of itself nobody has checked, but whose host it is.
        app_name=f"{app.name} ({app.host})" if app.is_document else app.name,
        host=parts.netloc or f"{parts.scheme}:",
        email=login.user.email,
        scopes=request.disclosed_scopes,
        resources=request.resources,
        policy_uri=app.policy_uri,
        tos_uri=app.tos_uri,
    )
