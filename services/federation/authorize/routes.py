"""HTTP face of the authorization endpoint."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.context import Access
from chassis.errors import Unavailable
from chassis.http import KIB, Caller, Router
from services.federation.authorize.answers import Answers, AuthorizationRefused, see_other
from services.federation.authorize.decisions import Step
from services.federation.authorize.models import Prompt, Waiting
from services.federation.authorize.parameters import FORM, Parameters, read_form, read_query
from services.federation.authorize.pushed import Pushed, PushedRequests
from services.federation.authorize.requests import RESUME, AuthorizationRequests, BrowserSecret
from services.federation.authorize.service import Answered, AuthorizationService, Outcome, Shown
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.login.service import LOGIN, SIGN_UP
from services.federation.pages.refusals import with_error_pages

PATH: Final = "/authorize"
CONSENT: Final = "/consent"

HandleParameter = Annotated[
    str, Query(alias="request", min_length=1, max_length=128, description="Names the request that waits.")
]

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The page that carries the answer to the app (`response_mode=form_post`).",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
    303: {
        "description": "To the app's `redirect_uri`, with `code` or `error`, `state` and `iss`; or to a "
        "page of ours, where the user logs in or is asked."
    },
    400: {
        "description": "A page for the user: no such app, or an address that is not the app's.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
}


class AuthorizationParameters(BaseModel):
    """What `/authorize` and `/par` understand; each may be sent once, but `resource`."""

    model_config = ConfigDict(extra="ignore")

    client_id: str | None = Field(None, description="The app. Needed.")
    redirect_uri: str | None = Field(None, description="Where the answer goes, as registered. Needed.")
    response_type: str | None = Field(None, description="`code`.")
    response_mode: str | None = Field(None, description="`query` (the default), `fragment`, `form_post`.")
    scope: str | None = Field(None, description="Separated by blanks; `openid` for an ID token.")
    state: str | None = Field(None, description="Comes back with the answer.")
    nonce: str | None = Field(None, description="Goes into the ID token.")
    code_challenge: str | None = Field(None, description="PKCE (RFC 7636); public apps must send it.")
    code_challenge_method: str | None = Field(None, description="`S256`.")
    prompt: str | None = Field(
        None, description="`none`, or some of `login`, `consent`, `select_account`, `create`."
    )
    max_age: str | None = Field(None, description="Seconds since the login, at most.")
    acr_values: str | None = Field(None, description="How strong the login must be.")
    login_hint: str | None = Field(None, description="The user's address, as far as the app knows.")
    id_token_hint: str | None = Field(None, description="An ID token of ours: only its user will do.")
    claims: str | None = Field(None, description="OpenID Connect Core §5.5, as JSON.")
    resource: str | None = Field(None, description="RFC 8707; may be sent several times.")
    dpop_jkt: str | None = Field(None, description="RFC 9449 §10.")
    ui_locales: str | None = Field(None, description="Languages, the best first.")
    request_uri: str | None = Field(None, description="Of `POST /par`; then only `client_id` counts beside.")


FORM_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {FORM: {"schema": AuthorizationParameters.model_json_schema()}},
}


class Redirector:
    """Turns outcomes into answers to the browser."""

    def __init__(self, answers: Answers) -> None:
        """Take who words answers to apps."""
        self._answers = answers

    def respond(self, outcome: Outcome) -> Response:
        """Lead the browser to the app, or to the page that comes first."""
        match outcome:
            case Answered(target, AuthorizationRefused() as refused):
                return self._answers.refusal(target, refused)
            case Answered(target, str() as code):
                return self._answers.code(target, code)
            case Shown(waiting, step):
                return see_other(page_of(step, waiting))
            case _:
                raise AssertionError(outcome)


def page_of(step: Step, waiting: Waiting) -> str:
    """Return the path of the page on which the user takes a step."""
    path = SIGN_UP if Prompt.CREATE in waiting.request.prompt else LOGIN
    if step is Step.CONSENT:
        path = CONSENT
    return f"{path}?{urlencode({'request': waiting.handle})}"


def routes(
    authorization: AuthorizationService,
    requests: AuthorizationRequests,
    pushed: PushedRequests,
    logins: IssuerSessions,
    browsers: BrowserSecret,
    redirector: Redirector,
) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")

    async def answer(request: Request, caller: Caller, parameters: Parameters) -> Response:
        asked = await authorization.read(caller, parameters)
        login = await logins.find(request, asked.app.client.id)
        carrier = Response()
        secret = browsers.made(request, carrier)
        outcome = await authorization.begin(caller, asked, login, secret)
        answered = redirector.respond(outcome)
        if not isinstance(outcome, Answered):
            answered.raw_headers += [pair for pair in carrier.raw_headers if pair[0] == b"set-cookie"]
        return answered

    async def keep(caller: Caller, parameters: Parameters) -> Response:
        asked = await authorization.read(caller, parameters)
        kept = Pushed(asked.parameters, asked.dpop_jkt, is_pushed=asked.is_pushed)
        request_uri = await pushed.keep(asked.app, kept)
        return see_other(f"{PATH}?{urlencode({'client_id': asked.app.id, 'request_uri': request_uri})}")

    @router.get(PATH, access=Access.PUBLIC, limit="public", response_model=None, responses=_ANSWERS)
    async def authorize(
        request: Request, caller: Caller, _documented: Annotated[AuthorizationParameters, Query()]
    ) -> Response:
        """Let the user log an app in (OpenID Connect Core §3.1.2, OAuth 2.1, RFC 9207).

        The user logs in and agrees on pages of ours where that is needed. The app gets a code for
        `POST /token`, good once and for a minute. Errors go to the app as well, unless app or `redirect_uri`
        are not known: then the user is told. `scope` words that nobody knows are ignored.
        """

        async def answered() -> Response:
            _refuse_prefetch(request)
            return await answer(request, caller, read_query(request.scope["query_string"]))

        return await with_error_pages(request, answered)

    @router.post(
        PATH,
        access=Access.PUBLIC,
        limit="public",
        body_limit=64 * KIB,
        response_model=None,
        responses=_ANSWERS,
        request_body=FORM_BODY,
    )
    async def authorize_by_form(request: Request, caller: Caller) -> Response:
        """Do as `GET /authorize`, of a form with the same parameters (OpenID Connect Core §3.1.2.1).

        Answers a redirect that comes back by GET: other sites' forms come without our cookies.
        """

        async def answered() -> Response:
            return await keep(
                caller, read_form(request.headers.get("content-type", ""), await request.body())
            )

        return await with_error_pages(request, answered)

    @router.get(RESUME, access=Access.PUBLIC, limit="public", response_model=None, responses=_ANSWERS)
    async def resume_authorization(request: Request, caller: Caller, handle: HandleParameter) -> Response:
        """Go on with a request after the user has logged in; only in the browser that made it."""

        async def answered() -> Response:
            _refuse_prefetch(request)
            waiting = await requests.find(handle, browsers.of(request))
            login = await logins.find(request, waiting.client.id)
            return redirector.respond(await authorization.resume(caller, waiting, login))

        return await with_error_pages(request, answered)

    return router


def _refuse_prefetch(request: Request) -> None:
    """Refuse what the browser only fetches ahead: it would use a code up that nobody has asked for."""
    if "prefetch" in request.headers.get("sec-purpose", ""):
        raise Unavailable
