"""The rules of the authorization endpoint: from a request to a page, or to an answer (OIDC Core §3.1.2).

An answer goes to a redirect URI that is registered for the app, or there is none: the user is shown
why. Everything else the app is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.errors import AppError, Kind
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import App, AppDirectory
from services.federation.authorize import checks, decisions
from services.federation.authorize.answers import AuthorizationRefused, Target
from services.federation.authorize.decisions import Step
from services.federation.authorize.hints import IdTokenHints
from services.federation.authorize.models import AuthorizationRequest, Waiting
from services.federation.authorize.parameters import Parameters
from services.federation.authorize.pushed import PushedRequests
from services.federation.authorize.requests import AuthorizationRequests
from services.federation.consents.service import ConsentService, asked_by
from services.federation.errors import AppUnknown, AuthorizationRequestGone, RedirectUriRefused
from services.federation.grants import Grants
from services.federation.issuer_sessions.models import Login

AUTHORIZATIONS = Counter(
    "authorizations_total", "Authorization requests, by what became of them at each step.", ["outcome"]
)

_OWN_FAULTS: Final = {
    Kind.UNAVAILABLE: "temporarily_unavailable",
    Kind.TIMEOUT: "temporarily_unavailable",
    Kind.RATE_LIMITED: "temporarily_unavailable",
    Kind.INTERNAL: "server_error",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came, of an app and for a redirect URI that were checked; `target` is for the answer.

    `dpop_jkt` is of the proof that a pushed request came with.
    """

    app: App
    parameters: Parameters
    target: Target
    dpop_jkt: str = ""
    is_pushed: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The app gets a code, or an error."""

    target: Target
    answer: str | AuthorizationRefused


@dataclass(frozen=True, slots=True)
class Shown:
    """The user must log in, or be asked for consent, on a page of ours."""

    waiting: Waiting
    step: Step


Outcome = Answered | Shown


class AuthorizationService:
    """Decides about authorization requests."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        *,
        apps: AppDirectory,
        hints: IdTokenHints,
        pushed: PushedRequests,
        requests: AuthorizationRequests,
        consents: ConsentService,
        grants: Grants,
    ) -> None:
        """Take who knows apps, hints and pushed requests, where requests wait, who remembers and grants."""
        self._outbox = outbox
        self._clock = clock
        self._apps = apps
        self._hints = hints
        self._pushed = pushed
        self._requests = requests
        self._consents = consents
        self._grants = grants

    async def read(self, caller: CallerContext, parameters: Parameters) -> Asked:
        """Find out who asks and where the answer goes; a pushed request is used up here.

        Raises:
            AppUnknown: there is no such app, or not any more.
            RedirectUriRefused: the app may not have answers there.
            InvalidPushedRequest: the `request_uri` stands for no pushed request of the app.
        """
        app_id, request_uri = parameters.get("client_id"), parameters.get("request_uri")
        if not request_uri:
            app = await self._app(app_id, resources=parameters.resources)
            return Asked(app, parameters, await self._target(caller, app, parameters))
        # What is sent beside a pushed request counts for nothing (RFC 9126 §4, RFC 9101 §6.3).
        client_id, pushed = await self._pushed.take(app_id, request_uri)
        app = await self._app(app_id, client_id=client_id)
        target = await self._target(caller, app, pushed.parameters)
        return Asked(app, pushed.parameters, target, pushed.dpop_jkt, pushed.is_pushed)

    async def check(self, asked: Asked) -> AuthorizationRequest:
        """Return the request when all of it is acceptable.

        Raises:
            AuthorizationRefused: it is not; the app is to be told.
        """
        app, parameters = asked.app, asked.parameters
        if app.requires_par and not asked.is_pushed:
            raise AuthorizationRefused("invalid_request", "This app must push its requests (PAR).")
        hint = parameters.get("id_token_hint")
        return checks.accept(
            app,
            parameters,
            hinted_user_id=await self._hints.user_of(hint) if hint else None,
            dpop_jkt=asked.dpop_jkt,
            now=self._clock.now(),
        )

    async def begin(
        self, caller: CallerContext, asked: Asked, login: Login | None, browser_secret: str
    ) -> Outcome:
        """Answer a request, or keep it for the page that the user must see first."""
        try:
            request = (await self.check(asked)).known_in(login)
            if decisions.needs_login(request, login, self._clock.now()):
                decisions.check_silent(request, Step.LOGIN)
                waiting = await self._requests.keep(
                    request,
                    browser_secret,
                    demands_login=login is not None and not _may_choose(request, login),
                )
                return _shown(waiting, Step.LOGIN)
            assert login is not None  # noqa: S101 - nobody is logged in: then a login is needed
            if await self._needs_consent(request, login):
                decisions.check_silent(request, Step.CONSENT)
                waiting = await self._requests.keep(request, browser_secret, session_id=login.session_id)
                return _shown(waiting, Step.CONSENT)
            return await self._grant(caller, request, login)
        except AppError as error:
            return _refused(asked.target, error)

    async def resume(self, caller: CallerContext, waiting: Waiting, login: Login | None) -> Outcome:
        """Go on with a request after a login; `login` is who the browser now shows to be.

        A user who is not the one that has just logged in for this request is sent to log in again.
        """
        request = waiting.request
        try:
            if login is None or self._must_log_in(waiting, login):
                return _shown(waiting, Step.LOGIN)
            if await self._needs_consent(request, login):
                return _shown(waiting, Step.CONSENT)
            await self._requests.take(waiting)
            return await self._grant(caller, request, login)
        except AuthorizationRequestGone:
            raise
        except AppError as error:
            return await self._give_up(waiting, error)

    async def decide(
        self, caller: CallerContext, waiting: Waiting, login: Login | None, *, approves: bool
    ) -> Outcome:
        """Take the user's word on what the app asks for.

        Only who was asked can answer: the login must be the one that the request was accepted with. It is
        judged again, since a browser may come here without having been led here.

        Raises:
            AuthorizationRequestGone: the request was answered before.
        """
        request = waiting.request
        try:
            if login is None or self._must_log_in(waiting, login):
                return _shown(waiting, Step.LOGIN)
        except AuthorizationRefused as error:
            return await self._give_up(waiting, error)
        asked = asked_by(request.app, request.disclosed_scopes, request.resources)
        await self._requests.take(waiting)
        try:
            if not approves:
                await self._consents.refuse(caller, login.client_id, login.user_id, asked)
                raise AuthorizationRefused("access_denied", "The user did not agree.")
            await self._consents.grant(caller, login.client_id, login.user_id, asked)
            return await self._grant(caller, request, login)
        except AppError as error:
            return _refused(Target.of(request), error)

    async def _app(self, app_id: str, *, client_id: UUID | None = None, resources: Sequence[str] = ()) -> App:
        app = await self._apps.find(app_id, client_id=client_id, resources=resources) if app_id else None
        if app is None or not app.is_usable:
            AUTHORIZATIONS.labels("unknown_app").inc()
            raise AppUnknown
        return app

    def _must_log_in(self, waiting: Waiting, login: Login) -> bool:
        """Whether a login is not the one of this request, or not what the request asks for.

        Raises:
            AuthorizationRefused: the user has just logged in, and not as was asked.
        """
        if login.session_id != waiting.session_id:
            return True
        return decisions.needs_login(waiting.request, login, self._clock.now(), is_chosen=True)

    async def _target(self, caller: CallerContext, app: App, parameters: Parameters) -> Target:
        redirect_uri = parameters.get("redirect_uri")
        if not app.allows_redirect(redirect_uri):
            AUTHORIZATIONS.labels("redirect_uri").inc()
            refused = events.AuthorizationRefused(target_id=app.id, reason=RedirectUriRefused.code)
            await self._outbox.append(refused, caller, client_id=app.client.id)
            raise RedirectUriRefused
        return Target(
            app,
            redirect_uri,
            checks.response_mode_of(parameters),
            parameters.values.get("state"),
            parameters.words("ui_locales"),
        )

    async def _needs_consent(self, request: AuthorizationRequest, login: Login) -> bool:
        asked = asked_by(request.app, request.disclosed_scopes, request.resources)
        is_covered = request.app.is_trusted or await self._consents.is_covered(
            login.client_id, login.user_id, asked
        )
        return decisions.needs_consent(request, is_covered=is_covered)

    async def _grant(self, caller: CallerContext, request: AuthorizationRequest, login: Login) -> Answered:
        code = await self._grants.create_code(caller, request, login)
        granted = events.AuthorizationGranted(
            target_id=request.app.id,
            session_id=str(login.session_id),
            scopes=request.scopes,
            resources=request.resources,
        )
        actor = Actor(ActorType.USER, str(login.user_id))
        await self._outbox.append(granted, caller, actor=actor, client_id=login.client_id)
        AUTHORIZATIONS.labels("granted").inc()
        return Answered(Target.of(request), code)

    async def _give_up(self, waiting: Waiting, error: AppError) -> Answered:
        refused = _refused(Target.of(waiting.request), error)
        await self._requests.discard(waiting)
        return refused


def _may_choose(request: AuthorizationRequest, login: Login) -> bool:
    """Whether the user may go on as who is logged in, and is only asked which account it is."""
    return not decisions.needs_login(request, login, request.created_at, is_chosen=True)


def _shown(waiting: Waiting, step: Step) -> Shown:
    match step:
        case Step.LOGIN | Step.CONSENT:
            AUTHORIZATIONS.labels(step).inc()
            return Shown(waiting, step)
        case Step.GRANT:
            raise AssertionError(step)
        case _:
            assert_never(step)


def _refused(target: Target, error: AppError) -> Answered:
    """Tell the app; what went wrong on our side without a word on what.

    Raises:
        AppError: it is neither the app's nor ours to be told there.
    """
    if not isinstance(error, AuthorizationRefused):
        code = _OWN_FAULTS.get(error.kind)
        if code is None:
            raise error
        error = AuthorizationRefused(code, error.detail)
    AUTHORIZATIONS.labels(error.code).inc()
    return Answered(target, error)
