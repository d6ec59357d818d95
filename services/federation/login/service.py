"""The rules of the hosted login page: which page comes next, and when the waiting request goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from fastapi import Request, Response
from prometheus_client import Counter

from chassis.context import CallerContext
from chassis.errors import AppError, Kind
from contracts.gen.internal.identity.v1 import logins_pb2
from contracts.security_policy import SecurityPolicy
from services.federation.errors import AuthorizationRequestGone, FormRefused
from services.federation.issuer_sessions.models import Login
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.login.faults import refusal_of
from services.federation.login.identity import IdentityLogins, Visitor
from services.federation.login.ports import Waiting, WaitingRequests
from services.federation.login.steps import Step, Steps
from services.federation.pages.captchas import WIDGETS
from services.federation.pages.contents import (
    Captcha,
    EnrollmentPage,
    Fault,
    Form,
    LoginPage,
    Notice,
    Page,
    PasskeyCalls,
    RecoveryPage,
    Refusal,
    SecondFactorPage,
)

LOGIN: Final = "/login"
SECOND_FACTOR: Final = "/login/second-factor"
CANCEL: Final = "/login/cancel"
PASSKEY_BEGIN: Final = "/login/passkey/begin"
PASSKEY_FINISH: Final = "/login/passkey/finish"
SECOND_PASSKEY_BEGIN: Final = "/login/second-factor/passkey/begin"
ENROLLMENT: Final = "/login/enrollment"
FORGOT: Final = "/login/forgot-password"
SIGN_UP: Final = "/login/sign-up"
MAIL_LINK: Final = "/login/mail-link"

_WRONG_CODES: Final = frozenset({"wrong_code", "invalid_mfa_code", "validation_failed"})

PAGES: Final = Counter(
    "hosted_logins_total", "What became of each step of a hosted login.", ["step", "outcome"]
)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a browser at the page of a request that waits."""

    request: Request
    caller: CallerContext
    waiting: Waiting
    requests: WaitingRequests
    device_token: str

    @property
    def client_id(self) -> UUID:
        """The tenant."""
        return self.waiting.client.id

    def visitor(self, *, remember: bool = False) -> Visitor:
        """Who it is, for the identity service."""
        return Visitor(
            self.client_id, self.caller, self.device_token, remember, self.waiting.demands_two_factors
        )

    def url(self, path: str, **parameters: str) -> str:
        """A page of the same request."""
        return f"{path}?{urlencode({'request': self.waiting.handle, **parameters})}"


@dataclass(frozen=True, slots=True)
class Completed:
    """The login is complete: the answer leads on, and the browser keeps its device's next token.

    `recovery_codes` are to be shown before it goes on.
    """

    response: Response
    device_token: str
    recovery_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """The login goes on at another page of ours."""

    path: str


Next = Completed | Moved | Page
"""What a step comes to."""


def offers_sign_up(options: logins_pb2.LoginOptions) -> bool:
    """Whether a page can take sign-ups: not where they need a CAPTCHA that it has no widget for."""
    provider = options.sign_up_captcha_provider
    return options.has_sign_up and (not provider or provider in WIDGETS)


class HostedLogin:
    """Takes a browser from a waiting request to a login at the issuer."""

    def __init__(
        self, identity: IdentityLogins, steps: Steps, sessions: IssuerSessions, base_url: str
    ) -> None:
        """Take who checks proofs, where steps are kept, who keeps logins, and the page's own address."""
        self._identity = identity
        self._steps = steps
        self._sessions = sessions
        parts = urlsplit(base_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"

    async def show(
        self,
        visit: Visit,
        *,
        as_other: bool = False,
        email: str | None = None,
        refusal: Refusal | None = None,
        notice: Notice | None = None,
    ) -> LoginPage:
        """Return the login page: with who is logged in already, or else whom the app expects.

        `as_other` is for who wants to be somebody else. `email` is what was typed the last time.
        """
        waiting = visit.waiting
        options = await self._identity.options(visit.client_id)
        login = None if as_other else await self._sessions.find(visit.request, visit.client_id)
        hint = waiting.login_hint if "@" in waiting.login_hint and not as_other else ""
        has_passkey = options.has_passkey and self._origin in options.passkey_origins
        captcha = Captcha(options.captcha_provider, options.captcha_site_key)
        return LoginPage(
            form=form_of(visit, LOGIN),
            app_name=waiting.app_name,
            cancel_action=CANCEL,
            email=email if email is not None else hint or (login.user.email if login else ""),
            has_password=options.has_password,
            passkey=_calls(visit, PASSKEY_BEGIN) if has_passkey else None,
            captcha=captcha if options.captcha_provider else None,
            signed_in_as=login.user.email if login else "",
            may_continue=login is not None and not waiting.demands_login and refusal is None,
            other=visit.url(LOGIN, account="other"),
            refusal=refusal,
            notice=notice,
            forgot=visit.url(FORGOT) if options.has_password_reset else "",
            sign_up=visit.url(SIGN_UP) if offers_sign_up(options) else "",
            mail_link=visit.url(MAIL_LINK) if options.has_magic_link else "",
        )

    async def enrollment(self, visit: Visit) -> EnrollmentPage | Moved:
        """Return the page on which who needs a second factor first sets an authenticator app up."""
        token = await self._steps.find_enrollment(visit.waiting.handle)
        if token is None:
            return Moved(visit.url(LOGIN, fault=Fault.LOGIN_EXPIRED))
        try:
            setup = await self._identity.set_up_totp(visit.visitor(), token)
        except AppError as error:
            return await self._enrollment_over(visit, error)
        return EnrollmentPage(form_of(visit, ENROLLMENT), setup.qr_svg, setup.secret, cancel_action=CANCEL)

    async def enroll(self, visit: Visit, code: str) -> Next:
        """Turn the app on by a code of it; its recovery codes are shown once, before the login goes on."""
        token = await self._steps.find_enrollment(visit.waiting.handle)
        if token is None:
            return Moved(visit.url(LOGIN, fault=Fault.LOGIN_EXPIRED))
        try:
            enabled = await self._identity.enable_totp(visit.visitor(), token, "".join(code.split()))
        except AppError as error:
            if error.code not in _WRONG_CODES:
                return await self._enrollment_over(visit, error)
            PAGES.labels("enrollment", error.code).inc()
            refusal = Refusal(Fault.INVALID_CODE)
            return EnrollmentPage(
                form_of(visit, ENROLLMENT),
                renew=visit.url(ENROLLMENT),
                cancel_action=CANCEL,
                refusal=refusal,
            )
        await self._steps.forget(visit.waiting.handle)
        PAGES.labels("enrollment", "opened").inc()
        codes = tuple(enabled.recovery_codes)
        if not enabled.HasField("opened"):
            return RecoveryPage(codes, visit.url(LOGIN))
        login = await self._sessions.login_of(visit.client_id, UUID(enabled.opened.session_id))
        if login is None:
            return RecoveryPage(codes, visit.url(LOGIN))
        response = await self._lead_on(visit, login)
        return Completed(response, enabled.opened.device_token, codes)

    async def _enrollment_over(self, visit: Visit, error: AppError) -> Moved:
        """Begin anew where the set-up cannot go on; what is no refusal of it is raised."""
        if error.kind in (Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.RATE_LIMITED, Kind.INTERNAL):
            raise error
        PAGES.labels("enrollment", error.code).inc()
        await self._steps.forget(visit.waiting.handle)
        return Moved(visit.url(LOGIN, fault=Fault.LOGIN_EXPIRED))

    async def by_password(self, visit: Visit, email: str, password: str, captcha_token: str) -> Next:
        """Log in by email and password; a refusal is the page again."""
        try:
            outcome = await self._identity.by_password(visit.visitor(), email, password, captcha_token)
        except AppError as error:
            refusal = _refusal("password", error)
            return await self.show(visit, as_other=True, email=email, refusal=refusal)
        return await self.settle(visit, "password", outcome)

    async def go_on(self, visit: Visit) -> Next:
        """Go on as who is logged in, where the app lets the user choose.

        Raises:
            FormRefused: the app demands a login: no form of ours offered this.
        """
        if visit.waiting.demands_login:
            raise FormRefused
        login = await self._sessions.find(visit.request, visit.client_id)
        if login is None:
            return await self.show(visit)
        PAGES.labels("continue", "opened").inc()
        return Completed(await visit.requests.proceed(visit.waiting, login), "")

    async def second_factor(
        self, visit: Visit, chosen: str = "", refusal: Refusal | None = None
    ) -> SecondFactorPage | Moved:
        """Return the page that asks for the second factor: the `chosen` one, or else the first."""
        step = await self._steps.find(visit.waiting.handle)
        if step is None:
            return Moved(visit.url(LOGIN, fault=Fault.LOGIN_EXPIRED))
        return self._second_factor(visit, step, chosen, refusal)

    async def by_code(self, visit: Visit, factor: str, code: str, *, remember: bool) -> Next:
        """Complete a login by a code; a wrong one is the page again, a login that is over the first page."""
        step = await self._steps.find(visit.waiting.handle)
        if step is None:
            return Moved(visit.url(LOGIN, fault=Fault.LOGIN_EXPIRED))
        factor = "recovery_code" if factor == "recovery_code" else "totp"
        typed = "".join(code.split())
        try:
            outcome = await self._identity.by_code(
                visit.visitor(remember=remember), step.mfa_token, factor, typed
            )
        except AppError as error:
            refusal = _refusal(factor, error)
            if refusal.fault is Fault.LOGIN_EXPIRED:
                await self._steps.forget(visit.waiting.handle)
                return Moved(visit.url(LOGIN, fault=refusal.fault))
            if refusal.fault is Fault.INVALID_CREDENTIALS:
                # What cannot be a code at all.
                refusal = Refusal(Fault.INVALID_CODE)
            return self._second_factor(visit, step, factor, refusal)
        return await self.settle(visit, factor, outcome)

    async def begin_passkey(self, visit: Visit, *, is_second: bool) -> logins_pb2.PasskeyCeremony:
        """Begin a ceremony: a login, or the second factor of the one that waits."""
        mfa_token = ""
        if is_second:
            step = await self._steps.find(visit.waiting.handle)
            if step is None:
                raise AuthorizationRequestGone
            mfa_token = step.mfa_token
        return await self._identity.begin_passkey(visit.visitor(), mfa_token)

    async def finish_passkey(
        self, visit: Visit, session_id: str, credential: Mapping[str, Any], *, remember: bool
    ) -> Next:
        """End a ceremony; raises what it is refused with."""
        visitor = visit.visitor(remember=remember)
        try:
            outcome = await self._identity.finish_passkey(visitor, session_id, credential)
        except AppError as error:
            PAGES.labels("passkey", error.code).inc()
            raise
        return await self.settle(visit, "passkey", outcome)

    async def cancel(self, visit: Visit) -> Response:
        """Give up: the app is told that the user did."""
        PAGES.labels("cancel", "refused").inc()
        await self._steps.forget(visit.waiting.handle)
        return await visit.requests.refuse(visit.waiting, "access_denied")

    async def settle(self, visit: Visit, step: str, outcome: logins_pb2.LoginOutcome) -> Next:
        """Go on with what a way in came to; every way in ends here."""
        handle = visit.waiting.handle
        if outcome.HasField("mfa"):
            PAGES.labels(step, "challenged").inc()
            await self._steps.put(handle, outcome.mfa)
            return Moved(visit.url(SECOND_FACTOR))
        if outcome.HasField("enrollment"):
            PAGES.labels(step, "enrollment").inc()
            await self._steps.put_enrollment(handle, outcome.enrollment)
            return Moved(visit.url(ENROLLMENT))
        await self._steps.forget(handle)
        login = await self._sessions.login_of(visit.client_id, UUID(outcome.opened.session_id))
        if login is None:
            # Ended between two calls: by a suspension, say.
            return Moved(visit.url(LOGIN, fault=Fault.LOGIN_EXPIRED))
        PAGES.labels(step, "opened").inc()
        return Completed(await self._lead_on(visit, login), outcome.opened.device_token)

    async def _lead_on(self, visit: Visit, login: Login) -> Response:
        """Let the request go on, in a browser that is logged in by a cookie nobody had before."""
        try:
            response = await visit.requests.proceed(visit.waiting, login)
        except AuthorizationRequestGone:
            # Nobody will see that session: the page that asked for it is gone.
            await self._sessions.end(Response(), visit.caller, login)
            raise
        await self._sessions.open(visit.request, response, login)
        return response

    def _second_factor(
        self, visit: Visit, step: Step, chosen: str, refusal: Refusal | None
    ) -> SecondFactorPage:
        chosen = chosen if chosen in step.factors else step.factors[0]
        policy = SecurityPolicy.of(visit.waiting.client.settings)
        return SecondFactorPage(
            form=form_of(visit, SECOND_FACTOR, factor=chosen),
            factors=step.factors,
            chosen=chosen,
            choose={
                factor: visit.url(SECOND_FACTOR, factor=factor) for factor in step.factors if factor != chosen
            },
            restart=visit.url(LOGIN, account="other"),
            cancel_action=CANCEL,
            remember_days=policy.mfa.remember_device_days,
            passkey=_calls(visit, SECOND_PASSKEY_BEGIN) if chosen == "passkey" else None,
            refusal=refusal,
        )


def _refusal(step: str, error: AppError) -> Refusal:
    """Return what the user is told, or let the error be one."""
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    PAGES.labels(step, refusal.fault).inc()
    return refusal


def form_of(visit: Visit, action: str, **fields: str) -> Form:
    """Return a form that only the page of this request can have made."""
    waiting = visit.waiting
    hidden = {"request": waiting.handle, "form_token": waiting.form_token, **fields}
    return Form(action, hidden, waiting.redirect_uri)


def _calls(visit: Visit, begin: str) -> PasskeyCalls:
    return PasskeyCalls(begin, PASSKEY_FINISH, visit.waiting.handle, visit.waiting.form_token)
