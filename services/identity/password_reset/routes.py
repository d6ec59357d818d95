"""HTTP face of resetting a password."""

from __future__ import annotations

from pydantic import Field

from chassis.context import Access
from chassis.http import KIB, Caller, Router
from chassis.models import AnswerModel, RequestModel
from services.identity.password_reset.service import PasswordResetService
from services.identity.users.email import MAX_TYPED_LENGTH
from services.identity.verification.routes import MailAccepted

_MAX_TYPED_PASSWORD = 1024


class ForgotPasswordRequest(RequestModel):
    """The address that the link is to go to."""

    email: str = Field(max_length=MAX_TYPED_LENGTH)


class ResetPasswordRequest(RequestModel):
    """The token of the link, and the new password."""

    token: str = Field(min_length=1, max_length=128)
    password: str = Field(max_length=_MAX_TYPED_PASSWORD)


class PasswordResetAnswer(AnswerModel):
    """What the reset ended."""

    revoked_sessions: int = Field(description="Sessions of the user that were ended.")


def routes(resets: PasswordResetService) -> Router:
    """The slice's routes."""
    router = Router(tag="Email")

    @router.post(
        "/api/auth/forgot-password",
        access=Access.API_KEY,
        limit="sensitive",
        body_limit=4 * KIB,
        status_code=202,
        responses={
            422: {"description": "`invalid_email`, `validation_failed`"},
            503: {"description": "`feature_unavailable`: no mail can be sent"},
        },
    )
    async def forgot_password(body: ForgotPasswordRequest, caller: Caller) -> MailAccepted:
        """Mail a link to reset the password, if the address has an account.

        The answer and its time are the same whether or not it has. The link works once, for 15 minutes, and
        voids the one before it. One mailbox gets at most three in fifteen minutes; more are silently dropped.
        """
        await resets.ask(caller, body.email)
        return MailAccepted()

    @router.post(
        "/api/auth/reset-password",
        access=Access.PUBLIC,
        limit="sensitive",
        body_limit=8 * KIB,
        responses={
            400: {"description": "`invalid_link`: used, replaced, older than 15 minutes, or no such token"},
            422: {"description": "`weak_password`: the token is good for another; `validation_failed`"},
            503: {"description": "`overloaded`; `sessions_not_ended`: changed, sessions end shortly"},
        },
    )
    async def reset_password(body: ResetPasswordRequest, caller: Caller) -> PasswordResetAnswer:
        """Replace a forgotten password by the token of a mailed link.

        Every session of the user ends; waiting logins, other links and the trust of devices are void. A
        second factor stays, and the next login asks for it.
        """
        ended = await resets.reset(caller, body.token, body.password)
        return PasswordResetAnswer(revoked_sessions=ended)

    return router
