"""HTTP face of recovery codes."""

from __future__ import annotations

from fastapi import Response
from pydantic import Field

from chassis.context import Access
from chassis.http import KIB, Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from contracts.session import (
    ModeParameter,
    RefreshCookie,
    SessionOpened,
    Time,
    TransportParameter,
    chosen_transport,
)
from services.identity.devices.cookie import DeviceCookie, browser_of
from services.identity.logins.answers import opened_answer
from services.identity.logins.models import Factor
from services.identity.recovery_codes.codes import MAX_TYPED_LENGTH
from services.identity.recovery_codes.service import RecoveryCodeService
from services.identity.second_factors.fresh_proof import Shown
from services.identity.second_factors.login import SecondFactorLogin
from services.identity.second_factors.requests import (
    SECOND_LEG_REFUSALS,
    WRONG_CODE,
    AnyCode,
    SecondLegRequest,
)


class CodesLeftAnswer(AnswerModel):
    """How many codes are left, and since when the user has them; null when it has none."""

    remaining: int
    generated_at: Time | None


class ReplaceCodesRequest(RequestModel):
    """A code of the app, or a recovery code."""

    code: AnyCode | None = None


class RecoveryCodesAnswer(AnswerModel):
    """Ten codes, each good once; they cannot be read again."""

    recovery_codes: list[str]


class RecoveryVerifyRequest(SecondLegRequest):
    """A recovery code for the login that waits; case, hyphens and spaces do not matter."""

    code: str = Field(min_length=1, max_length=MAX_TYPED_LENGTH)


def routes(codes: RecoveryCodeService, login: SecondFactorLogin, cookie: RefreshCookie) -> Router:
    """The slice's routes."""
    router = Router(tag="Second factors")

    @router.get("/api/auth/recovery-codes", access=Access.USER)
    async def left(caller: Caller) -> CodesLeftAnswer:
        """Tell how many recovery codes the user has left; the codes themselves cannot be read."""
        found = await codes.left(caller)
        return CodesLeftAnswer(remaining=found.remaining, generated_at=found.generated_at)

    @router.post(
        "/api/auth/recovery-codes",
        access=Access.USER,
        limit="login",
        body_limit=4 * KIB,
        responses={
            **WRONG_CODE,
            403: {"description": "`step_up_required`, `wrong_code`"},
            409: {"description": "`mfa_not_enabled`"},
        },
    )
    async def replace(
        body: ReplaceCodesRequest, caller: Caller, step_up_token: StepUpToken
    ) -> RecoveryCodesAnswer:
        """Replace the recovery codes by ten new ones, shown once, for a code of the app or an old one.

        Instead of a code, the request may carry a step-up token.
        """
        return RecoveryCodesAnswer(
            recovery_codes=await codes.replace(caller, Shown(code=body.code, step_up_token=step_up_token))
        )

    @router.post(
        "/api/auth/recovery-codes/verify",
        access=Access.API_KEY,
        limit="login",
        body_limit=4 * KIB,
        responses=SECOND_LEG_REFUSALS,
    )
    async def verify(
        body: RecoveryVerifyRequest,
        caller: Caller,
        response: Response,
        device_token: DeviceCookie,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> SessionOpened:
        """Complete a login by a recovery code, which is used up; refusals are those of `totp/verify`."""
        transport = chosen_transport(body, token_transport, session_mode)
        browser = browser_of(device_token, transport, remember=body.remember_device)
        opened = await login.complete(caller, body.mfa_token, Factor.RECOVERY_CODE, body.code, browser)
        return opened_answer(opened, transport, cookie, response)

    return router
