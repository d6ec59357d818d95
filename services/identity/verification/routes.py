"""HTTP face of verifying an address."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chassis.context import Access
from chassis.http import KIB, Caller, Router
from chassis.models import AnswerModel, RequestModel
from services.identity.verification.service import VerificationService


class TokenRequest(RequestModel):
    """The token of a link that was mailed."""

    token: str = Field(min_length=1, max_length=128)


class EmailVerifiedAnswer(AnswerModel):
    """The address that is verified now."""

    email: str
    email_verified: Literal[True] = True


class MailAccepted(AnswerModel):
    """A mail goes out, if there is somebody to get it."""

    accepted: Literal[True] = True


def routes(verification: VerificationService) -> Router:
    """The slice's routes."""
    router = Router(tag="Email")

    @router.post(
        "/api/auth/verify-email",
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        responses={
            400: {"description": "`invalid_link`: used, replaced, older than 24 hours, or no such token"}
        },
    )
    async def verify_email(body: TokenRequest, caller: Caller) -> EmailVerifiedAnswer:
        """Verify the address that a token was mailed to; once.

        The token is void when the address or the password of the account changed since.
        """
        user = await verification.verify(caller, body.token)
        return EmailVerifiedAnswer(email=user.email)

    @router.post(
        "/api/auth/resend-verification",
        access=Access.USER,
        limit="sensitive",
        status_code=202,
        responses={
            409: {"description": "`email_already_verified`"},
            429: {"description": "`rate_limited`: the mailbox got three in fifteen minutes"},
            503: {"description": "`feature_unavailable`: no mail can be sent"},
        },
    )
    async def resend_verification(caller: Caller) -> MailAccepted:
        """Send the verification mail again; the links of earlier ones are void."""
        await verification.resend(caller)
        return MailAccepted()

    return router
