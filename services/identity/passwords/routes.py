"""HTTP face of sign-up, login and change of passwords."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Response
from pydantic import Field

from chassis.context import Access
from chassis.http import KIB, Caller, Router
from chassis.models import AnswerModel, RequestModel
from contracts.session import (
    ModeParameter,
    RefreshCookie,
    TransportParameter,
    TransportRequest,
    chosen_transport,
)
from services.identity.captcha.service import MAX_TOKEN_LENGTH
from services.identity.devices.cookie import DeviceCookie, browser_of
from services.identity.logins.answers import LoginAnswer, login_answer
from services.identity.passwords.service import PasswordService, Signup
from services.identity.users.email import MAX_TYPED_LENGTH
from services.identity.users.fields import DisplayName, Metadata

_MAX_TYPED_PASSWORD = 1024
"""Bounds what is normalised; the policy bounds what is hashed."""

_LOCKED: dict[int | str, dict[str, Any]] = {
    429: {"description": "`account_locked`, `source_locked`: see `Retry-After`"}
}


CaptchaToken = Annotated[
    str,
    Field(max_length=MAX_TOKEN_LENGTH, description="What the CAPTCHA widget gave, where one is required."),
]


class SignupRequest(TransportRequest):
    """A new user."""

    email: str = Field(max_length=MAX_TYPED_LENGTH)
    password: str = Field(max_length=_MAX_TYPED_PASSWORD)
    display_name: DisplayName | None = None
    metadata: Metadata | None = None
    captcha_token: CaptchaToken | None = None


class LoginRequest(TransportRequest):
    """Email and password."""

    email: str = Field(max_length=MAX_TYPED_LENGTH)
    password: str = Field(min_length=1, max_length=_MAX_TYPED_PASSWORD)
    captcha_token: CaptchaToken | None = None


class ChangePasswordRequest(RequestModel):
    """The current password and the one to replace it."""

    current_password: str = Field(min_length=1, max_length=_MAX_TYPED_PASSWORD)
    new_password: str = Field(max_length=_MAX_TYPED_PASSWORD)


class PasswordChangedAnswer(AnswerModel):
    """What a change of password ended."""

    revoked_sessions: int = Field(description="Other sessions of the user that were ended.")


def routes(passwords: PasswordService, cookie: RefreshCookie) -> Router:
    """The slice's routes."""
    router = Router(tag="Authentication")

    @router.post(
        "/api/auth/signup",
        access=Access.API_KEY,
        limit="signup",
        body_limit=32 * KIB,
        idempotent=True,
        status_code=201,
        responses={
            409: {"description": "`email_taken`"},
            422: {
                "description": "`invalid_email`, `email_domain_blocked`, `weak_password`, "
                "`captcha_required`, `captcha_failed`, `validation_failed`"
            },
            503: {"description": "`session_unavailable`: the account exists now, log in; or `overloaded`"},
        },
    )
    async def signup(
        body: SignupRequest,
        caller: Caller,
        response: Response,
        device_token: DeviceCookie,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> LoginAnswer:
        """Create a user with email and password, and open its first session.

        The email is unique per client, whatever its case or Unicode form. The password has at least 8
        characters and at most 72 bytes, is not a common one and does not contain the user's name;
        `weak_password` names every rule it breaks in `errors`. Members that are not listed, such as a role,
        are ignored.
        """
        transport = chosen_transport(body, token_transport, session_mode)
        signup = Signup(
            body.email, body.password, body.display_name or "", body.metadata or {}, body.captcha_token
        )
        outcome = await passwords.sign_up(caller, signup, browser_of(device_token, transport))
        return login_answer(outcome, transport, cookie, response)

    @router.post(
        "/api/auth/login",
        access=Access.API_KEY,
        limit="login",
        body_limit=16 * KIB,
        responses={
            401: {"description": "`invalid_credentials`"},
            403: {"description": "`login_blocked`: the client's policy refuses logins as risky as this one"},
            422: {
                "description": "`captcha_required`, `captcha_failed`, `invalid_email`, `validation_failed`"
            },
            **_LOCKED,
            503: {"description": "`overloaded`: see `Retry-After`; `captcha_unavailable`"},
        },
    )
    async def login(
        body: LoginRequest,
        caller: Caller,
        response: Response,
        device_token: DeviceCookie,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> LoginAnswer:
        """Log a user in with email and password.

        An unknown email, a wrong password and a suspended user are the same 401 `invalid_credentials`, in the
        same time (OWASP ASVS 2.2.1). Repeated failures lock the address for minutes, 429 `account_locked`,
        whether or not it has an account. Where policy or risk asks for more, the answer has no tokens: an
        `mfa_token` to be sent with a second factor, or an `enrollment_token` to set one up with.
        """
        transport = chosen_transport(body, token_transport, session_mode)
        outcome = await passwords.log_in(
            caller, body.email, body.password, browser_of(device_token, transport), body.captcha_token
        )
        return login_answer(outcome, transport, cookie, response)

    @router.post(
        "/api/auth/change-password",
        access=Access.USER,
        limit="login",
        body_limit=16 * KIB,
        responses={
            403: {"description": "`wrong_password`: the current password is wrong"},
            409: {"description": "`password_changed_meanwhile`"},
            422: {"description": "`weak_password`, `validation_failed`"},
            503: {
                "description": "`overloaded`; `sessions_not_ended`: changed, the other sessions end shortly"
            },
            **_LOCKED,
        },
    )
    async def change_password(body: ChangePasswordRequest, caller: Caller) -> PasswordChangedAnswer:
        """Replace the own password and end all other sessions; the current one goes on.

        A wrong current password is 403 `wrong_password` and counts towards the lockout of the address, as a
        failed login does.
        """
        ended = await passwords.change(caller, body.current_password, body.new_password)
        return PasswordChangedAnswer(revoked_sessions=ended)

    return router
