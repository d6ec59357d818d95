"""HTTP face of the step-up: where a challenge is answered."""

from __future__ import annotations

from pydantic import Field

from chassis.context import Access
from chassis.http import KIB, Caller, Router
from chassis.models import AnswerModel, RequestModel
from services.identity.passkeys.credentials import ShownCredential
from services.identity.recovery_codes.codes import MAX_TYPED_LENGTH
from services.identity.second_factors.requests import Password
from services.identity.step_up.models import StepUpFactor
from services.identity.step_up.verification import Answered, StepUpVerification


class StepUpVerifyRequest(RequestModel):
    """The challenge, one of its factors, and what that factor shows."""

    challenge_token: str = Field(min_length=1, max_length=128)
    factor: StepUpFactor
    code: str | None = Field(
        None, min_length=1, max_length=MAX_TYPED_LENGTH, description="For `totp` and `recovery_code`."
    )
    password: Password | None = None
    session_id: str | None = Field(
        None, max_length=128, description="For `passkey`: of the answer of `passkey/login/begin`."
    )
    credential: ShownCredential | None = Field(
        None, description="For `passkey`: as `credential.toJSON()` gives it; it must verify the user."
    )


class StepUpAnswer(AnswerModel):
    """The proof: send it once, with the request that was refused, as `X-Step-Up-Token`."""

    step_up_token: str
    expires_in: int = Field(description="Seconds the proof is good for.")
    action: str


def routes(verification: StepUpVerification) -> Router:
    """The slice's routes."""
    router = Router(tag="Second factors")

    @router.post(
        "/api/auth/step-up/verify",
        access=Access.USER,
        limit="login",
        body_limit=32 * KIB,
        responses={
            403: {
                "description": "`invalid_challenge`: send the protected request again; `factor_not_offered`; "
                "`wrong_code`, `wrong_password`, `wrong_passkey`: show another, five times at most"
            },
            429: {"description": "`account_locked`: see `Retry-After`"},
            503: {"description": "`feature_unavailable`"},
        },
    )
    async def verify(body: StepUpVerifyRequest, caller: Caller) -> StepUpAnswer:
        """Answer the challenge of a protected request by a factor, for a proof that opens that request once.

        The proof is bound to the user, the session, the action and what the action is done to. The password
        is a factor of users who have no other.
        """
        answered = Answered(
            body.factor,
            code=body.code,
            password=body.password,
            session_id=body.session_id,
            credential=body.credential,
        )
        granted = await verification.verify(caller, body.challenge_token, answered)
        return StepUpAnswer(
            step_up_token=granted.step_up_token, expires_in=granted.expires_in, action=granted.action
        )

    return router
