"""HTTP face of the authenticator app: set-up, activation, removal, and the second leg of a login."""

from __future__ import annotations

from typing import Annotated

from fastapi import Response
from pydantic import Field

from chassis.context import Access
from chassis.http import KIB, Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from contracts.session import (
    ModeParameter,
    RefreshCookie,
    SessionOpened,
    TransportParameter,
    TransportRequest,
    chosen_transport,
)
from services.identity.devices.cookie import DeviceCookie, browser_of
from services.identity.logins.answers import opened_answer
from services.identity.logins.models import Factor
from services.identity.second_factors.fresh_proof import Shown
from services.identity.second_factors.login import SecondFactorLogin
from services.identity.second_factors.requests import (
    SECOND_LEG_REFUSALS,
    WRONG_CODE,
    AnyCode,
    Password,
    SecondLegRequest,
)
from services.identity.totp.codes import CODE_PATTERN
from services.identity.totp.service import TotpService

TotpCode = Annotated[str, Field(pattern=CODE_PATTERN, description="Six digits, as the app shows them.")]


class TotpSetupRequest(RequestModel):
    """What proves the user, if anything more than a login just now is needed."""

    code: AnyCode | None = None
    password: Password | None = None


class TotpSetupAnswer(AnswerModel):
    """What an authenticator app needs; it cannot be read again."""

    secret: str = Field(description="160 bits in base32, for typing.")
    otpauth_url: str = Field(description="The same as a URL, for a link.")
    qr_svg: str = Field(description="The URL as a QR code, an SVG document.")


class TotpEnableRequest(TransportRequest):
    """A code of the app that is being set up."""

    code: TotpCode


class TotpEnabledAnswer(AnswerModel):
    """Codes for the day the app is gone, shown once; a session for who had an enrollment token."""

    enabled: bool = True
    recovery_codes: list[str]
    session: SessionOpened | None = Field(None, exclude_if=lambda session: session is None)


class TotpDisableRequest(RequestModel):
    """A code of the app, or a recovery code."""

    code: AnyCode | None = None


class TotpDisabledAnswer(AnswerModel):
    """The app is removed."""

    enabled: bool = False


class TotpVerifyRequest(SecondLegRequest):
    """A code of the app for the login that waits."""

    code: TotpCode


def routes(totp: TotpService, login: SecondFactorLogin, cookie: RefreshCookie) -> Router:
    """The slice's routes."""
    router = Router(tag="Second factors")

    @router.post(
        "/api/auth/totp/setup",
        access=Access.USER,
        limit="login",
        body_limit=4 * KIB,
        enrollment=True,
        responses={
            **WRONG_CODE,
            403: {"description": "`step_up_required`, `wrong_code`, `wrong_password`"},
            409: {"description": "`mfa_already_enabled`: the enrollment token is for a first factor only"},
        },
    )
    async def set_up(body: TotpSetupRequest, caller: Caller, step_up_token: StepUpToken) -> TotpSetupAnswer:
        """Make a secret for an authenticator app, to be turned on by `enable` within 15 minutes.

        With a second factor set up, `code` must be one of it, or a recovery code; the active app stays
        active until the new one is. Without, `password` is needed, unless the login was in the last 15
        minutes. The secret cannot be read again.
        """
        made = await totp.set_up(caller, Shown(body.password, body.code, step_up_token))
        return TotpSetupAnswer(secret=made.secret, otpauth_url=made.otpauth_url, qr_svg=made.qr_svg)

    @router.post(
        "/api/auth/totp/enable",
        access=Access.USER,
        limit="login",
        body_limit=4 * KIB,
        enrollment=True,
        responses={
            **WRONG_CODE,
            409: {"description": "`no_pending_setup`; `mfa_already_enabled`: as for `setup`"},
        },
    )
    async def enable(
        body: TotpEnableRequest,
        caller: Caller,
        response: Response,
        device_token: DeviceCookie,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> TotpEnabledAnswer:
        """Turn the authenticator app on by a code that it shows, and get ten recovery codes, shown once.

        With an enrollment token the answer also has the session; the token is good for nothing after.
        """
        transport = chosen_transport(body, token_transport, session_mode)
        enabled = await totp.enable(caller, body.code, browser_of(device_token, transport))
        session = None
        if enabled.opened is not None:
            session = opened_answer(enabled.opened, transport, cookie, response)
        return TotpEnabledAnswer(recovery_codes=enabled.recovery_codes, session=session)

    @router.post(
        "/api/auth/totp/disable",
        access=Access.USER,
        limit="login",
        body_limit=4 * KIB,
        responses={
            **WRONG_CODE,
            403: {"description": "`step_up_required`, `wrong_code`, `mfa_required_by_policy`"},
            409: {"description": "`mfa_not_enabled`"},
        },
    )
    async def disable(
        body: TotpDisableRequest, caller: Caller, step_up_token: StepUpToken
    ) -> TotpDisabledAnswer:
        """Remove the authenticator app and the recovery codes, for a code of either; sessions go on.

        Instead of a code, the request may carry a step-up token.
        """
        await totp.disable(caller, Shown(code=body.code, step_up_token=step_up_token))
        return TotpDisabledAnswer()

    @router.post(
        "/api/auth/totp/verify",
        access=Access.API_KEY,
        limit="login",
        body_limit=4 * KIB,
        responses=SECOND_LEG_REFUSALS,
    )
    async def verify(
        body: TotpVerifyRequest,
        caller: Caller,
        response: Response,
        device_token: DeviceCookie,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> SessionOpened:
        """Complete a login by a code of the authenticator app.

        A code is good once, and for 90 seconds at most. A wrong one is 401 `invalid_mfa_code`; after five the
        login is over, 401 `invalid_mfa_token`, and after ten in a row at any logins the second factors of the
        user are locked, 429 `account_locked`.
        """
        transport = chosen_transport(body, token_transport, session_mode)
        browser = browser_of(device_token, transport, remember=body.remember_device)
        opened = await login.complete(caller, body.mfa_token, Factor.TOTP, body.code, browser)
        return opened_answer(opened, transport, cookie, response)

    return router
