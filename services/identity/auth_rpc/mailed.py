"""What the gRPC face offers of mailed links: the rules of the HTTP routes, and no browser."""

from __future__ import annotations

from chassis.context import CallerContext
from chassis.models import checked
from contracts.gen.auth.v1 import auth_pb2
from services.identity.auth_rpc.encoding import encode_outcome
from services.identity.logins.models import NO_BROWSER
from services.identity.magic_links.routes import MagicLinkRequest
from services.identity.magic_links.service import MagicLinkService
from services.identity.password_reset.routes import ForgotPasswordRequest, ResetPasswordRequest
from services.identity.password_reset.service import PasswordResetService
from services.identity.verification.routes import TokenRequest
from services.identity.verification.service import VerificationService


class MailedLinks:
    """Decodes, calls the rule, encodes; the caller was named before."""

    def __init__(
        self, verification: VerificationService, resets: PasswordResetService, links: MagicLinkService
    ) -> None:
        """Take the rules."""
        self._verification = verification
        self._resets = resets
        self._links = links

    async def verify_email(
        self, caller: CallerContext, request: auth_pb2.VerifyEmailRequest
    ) -> auth_pb2.VerifyEmailResponse:
        """Verify an address; see `POST /api/auth/verify-email`."""
        body = checked(TokenRequest, {"token": request.token})
        user = await self._verification.verify(caller, body.token)
        return auth_pb2.VerifyEmailResponse(email=user.email)

    async def resend_verification(self, caller: CallerContext) -> auth_pb2.ResendVerificationResponse:
        """Mail another verification link; see `POST /api/auth/resend-verification`."""
        await self._verification.resend(caller)
        return auth_pb2.ResendVerificationResponse()

    async def forgot_password(
        self, caller: CallerContext, request: auth_pb2.ForgotPasswordRequest
    ) -> auth_pb2.ForgotPasswordResponse:
        """Mail a reset link; see `POST /api/auth/forgot-password`."""
        body = checked(ForgotPasswordRequest, {"email": request.email})
        await self._resets.ask(caller, body.email)
        return auth_pb2.ForgotPasswordResponse()

    async def reset_password(
        self, caller: CallerContext, request: auth_pb2.ResetPasswordRequest
    ) -> auth_pb2.ResetPasswordResponse:
        """Replace a forgotten password; see `POST /api/auth/reset-password`."""
        body = checked(ResetPasswordRequest, {"token": request.token, "password": request.password})
        ended = await self._resets.reset(caller, body.token, body.password)
        return auth_pb2.ResetPasswordResponse(revoked_sessions=ended)

    async def send_magic_link(
        self, caller: CallerContext, request: auth_pb2.SendMagicLinkRequest
    ) -> auth_pb2.SendMagicLinkResponse:
        """Mail a link to log in by; see `POST /api/auth/magic-link/send`."""
        members = {
            "email": request.email,
            "redirect_url": request.redirect_url or None,
            "create_user": request.create_user,
        }
        body = checked(MagicLinkRequest, members)
        await self._links.ask(
            caller, body.email, redirect_url=body.redirect_url, create_user=body.create_user
        )
        return auth_pb2.SendMagicLinkResponse()

    async def verify_magic_link(
        self, caller: CallerContext, request: auth_pb2.VerifyMagicLinkRequest
    ) -> auth_pb2.SessionResponse:
        """Log in by a link; see `GET /api/auth/magic-link/verify`. Who calls this has asked the person."""
        body = checked(TokenRequest, {"token": request.token})
        followed = await self._links.look(caller, body.token)
        return encode_outcome(await self._links.follow(caller, followed, NO_BROWSER))
