"""How the outcome of a login is answered over HTTP; the same for every way in."""

from __future__ import annotations

from fastapi import Response

from contracts.session import (
    EnrollmentRequired,
    MfaRequired,
    RefreshCookie,
    RiskView,
    SessionOpened,
    Transport,
    session_answer,
)
from services.identity.devices.cookie import set_device_cookie
from services.identity.logins.models import Challenged, EnrollmentDue, Opened, Outcome, Risk

LoginAnswer = SessionOpened | MfaRequired | EnrollmentRequired
"""What a route that logs in declares as its answer."""


def login_answer(
    outcome: Outcome, transport: Transport, cookie: RefreshCookie, response: Response
) -> LoginAnswer:
    """Render an outcome, and set the cookies that go with it."""
    if isinstance(outcome, Opened):
        return opened_answer(outcome, transport, cookie, response)
    return waiting_answer(outcome)


def waiting_answer(outcome: Challenged | EnrollmentDue) -> MfaRequired | EnrollmentRequired:
    """Render what is still in the way of a session."""
    match outcome:
        case Challenged():
            return MfaRequired(
                mfa_token=outcome.mfa_token,
                expires_in=outcome.expires_in,
                factors=list(outcome.factors),
                risk=_risk(outcome.risk),
            )
        case EnrollmentDue():
            return EnrollmentRequired(
                enrollment_token=outcome.enrollment_token,
                expires_in=outcome.expires_in,
                factors=list(outcome.factors),
                risk=_risk(outcome.risk),
            )


def opened_answer(
    opened: Opened, transport: Transport, cookie: RefreshCookie, response: Response
) -> SessionOpened:
    """Render a session that a login opened, and set the cookies that go with it."""
    answer = session_answer(opened.session, transport, cookie, response)
    if opened.device_token is not None:
        set_device_cookie(response, opened.device_token, cookie)
    return answer


def _risk(risk: Risk) -> RiskView:
    return RiskView(level=risk.level, signals=list(risk.signals))
