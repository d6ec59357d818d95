"""HTTP face of another address for an account."""

from __future__ import annotations

from pydantic import Field

from chassis.context import Access
from chassis.http import KIB, Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from contracts.step_up import REFUSALS
from services.identity.email_change.service import EmailChangeService
from services.identity.second_factors.requests import Password
from services.identity.users.email import MAX_TYPED_LENGTH
from services.identity.verification.routes import EmailVerifiedAnswer, MailAccepted, TokenRequest

_LINK = {"description": "`invalid_link`: used, replaced, too old, or no such token"}
_TAKEN = {"description": "`email_taken`: another account has the address by now"}


class ChangeEmailRequest(RequestModel):
    """The new address; the password is proof enough of users who have no second factor."""

    new_email: str = Field(max_length=MAX_TYPED_LENGTH)
    password: Password | None = None


class EmailRevertedAnswer(AnswerModel):
    """The change is off."""

    restored: bool = Field(description="Whether the address had changed, and is the old one again.")


def routes(changes: EmailChangeService) -> Router:
    """The slice's routes."""
    router = Router(tag="Email")

    @router.post(
        "/api/auth/change-email",
        access=Access.USER,
        limit="sensitive",
        body_limit=4 * KIB,
        status_code=202,
        responses={
            **REFUSALS,
            422: {"description": "`invalid_email`, `email_domain_blocked`, `validation_failed`"},
            429: {"description": "`rate_limited`: three in fifteen minutes; `account_locked`"},
            503: {"description": "`feature_unavailable`: no mail can be sent, or Redis is away"},
        },
    )
    async def change_email(
        body: ChangeEmailRequest, caller: Caller, step_up_token: StepUpToken
    ) -> MailAccepted:
        """Ask for another address: it gets a link that confirms it, the present one a link to stop it.

        The answer does not tell whether the address is taken; its owner is told by mail. Needs a step-up, or
        the `password` of a user who has no second factor. Nothing changes before the new address is
        confirmed, within 24 hours.
        """
        await changes.ask(caller, body.new_email, password=body.password, step_up_token=step_up_token)
        return MailAccepted()

    @router.post(
        "/api/auth/change-email/confirm",
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        responses={400: _LINK, 409: _TAKEN},
    )
    async def confirm(body: TokenRequest, caller: Caller) -> EmailVerifiedAnswer:
        """Make the address that a token was mailed to the one of the account; it is verified by that.

        Links of before and waiting logins are void; sessions go on.
        """
        return EmailVerifiedAnswer(email=(await changes.confirm(caller, body.token)).email)

    @router.post(
        "/api/auth/change-email/revert",
        access=Access.PUBLIC,
        limit="public",
        body_limit=4 * KIB,
        responses={400: _LINK, 409: _TAKEN},
    )
    async def revert(body: TokenRequest, caller: Caller) -> EmailRevertedAnswer:
        """Take a change back by the token that the old address was sent, for 72 hours after the change.

        Before it is confirmed, this stops it. All sessions of the user end, and what waits is void.
        """
        return EmailRevertedAnswer(restored=await changes.revert(caller, body.token))

    return router
