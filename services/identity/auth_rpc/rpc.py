"""AuthService: a user's journeys over gRPC, by the same rules as over HTTP.

The gateway passes these calls through without judging them: who calls is decided here, by the API key and the
access token in the message. Tokens always travel in the message; there are no cookies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chassis.context import Access, CallerContext
from chassis.models import checked
from chassis.rpc import RpcContext, RpcService, forwarded_caller
from contracts.clients import ClientDirectory
from contracts.gen.auth.v1 import auth_pb2, auth_pb2_grpc
from contracts.session import user_view
from services.identity.auth_rpc.encoding import decode_struct, encode_outcome, encode_session, encode_user
from services.identity.auth_rpc.mailed import MailedLinks
from services.identity.logins.models import Browser
from services.identity.passwords.routes import ChangePasswordRequest, LoginRequest, SignupRequest
from services.identity.passwords.service import PasswordService, Signup
from services.identity.sessions.client import SessionClient
from services.identity.users.encoding import encode_user as to_wire
from services.identity.users.routes import ProfileRequest
from services.identity.users.service import ProfileService


class AuthRpc(auth_pb2_grpc.AuthServiceServicer):
    """Decodes, names the caller, calls the rule, encodes."""

    def __init__(
        self,
        clients: ClientDirectory,
        sessions: SessionClient,
        passwords: PasswordService,
        profiles: ProfileService,
        mailed: MailedLinks,
    ) -> None:
        """Take who knows keys and tokens, and the rules."""
        self._clients = clients
        self._sessions = sessions
        self._passwords = passwords
        self._profiles = profiles
        self._mailed = mailed

    async def Signup(self, request: auth_pb2.SignupRequest, _context: RpcContext) -> auth_pb2.SessionResponse:
        """Create a user; see `POST /api/auth/signup`."""
        caller = await self._client(request.api_key)
        body = checked(
            SignupRequest,
            {
                "email": request.email,
                "password": request.password,
                "display_name": request.display_name,
                "metadata": decode_struct(request.metadata),
                "captcha_token": request.captcha_token or None,
            },
        )
        signup = Signup(
            body.email, body.password, body.display_name or "", body.metadata or {}, body.captcha_token
        )
        return encode_outcome(await self._passwords.sign_up(caller, signup, Browser()))

    async def Login(self, request: auth_pb2.LoginRequest, _context: RpcContext) -> auth_pb2.SessionResponse:
        """Log a user in; see `POST /api/auth/login`."""
        caller = await self._client(request.api_key)
        members = {
            "email": request.email,
            "password": request.password,
            "captcha_token": request.captcha_token or None,
        }
        body = checked(LoginRequest, members)
        outcome = await self._passwords.log_in(
            caller, body.email, body.password, Browser(), body.captcha_token
        )
        return encode_outcome(outcome)

    async def Refresh(
        self, request: auth_pb2.RefreshRequest, _context: RpcContext
    ) -> auth_pb2.SessionResponse:
        """Rotate a refresh token; the token service decides."""
        caller = await self._client(request.api_key)
        return encode_session(await self._sessions.renew(caller, request.refresh_token))

    async def Logout(self, request: auth_pb2.LogoutRequest, _context: RpcContext) -> auth_pb2.LogoutResponse:
        """End the session of a refresh token."""
        caller = await self._client(request.api_key)
        await self._sessions.end_of_token(caller, request.refresh_token)
        return auth_pb2.LogoutResponse()

    async def GetProfile(self, request: auth_pb2.GetProfileRequest, _context: RpcContext) -> auth_pb2.User:
        """Return the profile of the access token's user."""
        caller = await self._user(request.api_key, request.access_token, for_impersonation=True)
        return encode_user(user_view(to_wire(await self._profiles.get(caller))))

    async def UpdateProfile(
        self, request: auth_pb2.UpdateProfileRequest, _context: RpcContext
    ) -> auth_pb2.User:
        """Change the fields that are present; an empty locale or phone removes it."""
        caller = await self._user(request.api_key, request.access_token, for_impersonation=True)
        members: dict[str, Any] = {}
        if request.HasField("display_name"):
            members["display_name"] = request.display_name
        if request.HasField("metadata"):
            members["metadata"] = decode_struct(request.metadata)
        if request.HasField("locale"):
            members["locale"] = request.locale or None
        if request.HasField("phone"):
            members["phone"] = request.phone or None
        change = checked(ProfileRequest, members)
        fields = {name: getattr(change, name) for name in members}
        return encode_user(user_view(to_wire(await self._profiles.change(caller, fields))))

    async def ChangePassword(
        self,
        request: auth_pb2.ChangePasswordRequest,
        _context: RpcContext,
    ) -> auth_pb2.ChangePasswordResponse:
        """Replace the password of the access token's user; see `POST /api/auth/change-password`."""
        caller = await self._user(request.api_key, request.access_token)
        body = checked(
            ChangePasswordRequest,
            {"current_password": request.current_password, "new_password": request.new_password},
        )
        await self._passwords.change(caller, body.current_password, body.new_password)
        return auth_pb2.ChangePasswordResponse()

    async def VerifyEmail(
        self, request: auth_pb2.VerifyEmailRequest, _context: RpcContext
    ) -> auth_pb2.VerifyEmailResponse:
        """Verify the address that a token was mailed to."""
        return await self._mailed.verify_email(await self._client(request.api_key), request)

    async def ResendVerification(
        self, request: auth_pb2.ResendVerificationRequest, _context: RpcContext
    ) -> auth_pb2.ResendVerificationResponse:
        """Mail the access token's user another verification link."""
        return await self._mailed.resend_verification(await self._user(request.api_key, request.access_token))

    async def ForgotPassword(
        self, request: auth_pb2.ForgotPasswordRequest, _context: RpcContext
    ) -> auth_pb2.ForgotPasswordResponse:
        """Mail a link to reset a password."""
        return await self._mailed.forgot_password(await self._client(request.api_key), request)

    async def ResetPassword(
        self, request: auth_pb2.ResetPasswordRequest, _context: RpcContext
    ) -> auth_pb2.ResetPasswordResponse:
        """Replace a forgotten password by a mailed token."""
        return await self._mailed.reset_password(await self._client(request.api_key), request)

    async def SendMagicLink(
        self, request: auth_pb2.SendMagicLinkRequest, _context: RpcContext
    ) -> auth_pb2.SendMagicLinkResponse:
        """Mail a link to log in by."""
        return await self._mailed.send_magic_link(await self._client(request.api_key), request)

    async def VerifyMagicLink(
        self, request: auth_pb2.VerifyMagicLinkRequest, _context: RpcContext
    ) -> auth_pb2.SessionResponse:
        """Log in by a mailed token."""
        return await self._mailed.verify_magic_link(await self._client(request.api_key), request)

    async def _client(self, api_key: str) -> CallerContext:
        """Name the client behind a key."""
        behind = forwarded_caller()
        key = await self._clients.resolve_key(api_key)
        return replace(
            behind, access=Access.API_KEY, client_id=key.client.id, key_id=key.id, key_kind=key.kind
        )

    async def _user(
        self, api_key: str, access_token: str, *, for_impersonation: bool = False
    ) -> CallerContext:
        """Name the user of an access token, which must be one of the key's client."""
        caller = await self._client(api_key)
        proven = await self._sessions.verify(caller.require_client(), access_token)
        user = replace(
            caller,
            access=Access.USER,
            user_id=proven.user_id,
            session_id=proven.session_id,
            impersonator_id=proven.impersonator_id,
        )
        user.check_access(Access.USER, for_impersonation=for_impersonation)
        return user


def auth_rpc(
    clients: ClientDirectory,
    sessions: SessionClient,
    passwords: PasswordService,
    profiles: ProfileService,
    mailed: MailedLinks,
) -> RpcService:
    """Return the service to be added to the gRPC face."""
    servicer = AuthRpc(clients, sessions, passwords, profiles, mailed)
    return RpcService("auth.v1.AuthService", servicer, auth_pb2_grpc.add_AuthServiceServicer_to_server)
