"""LoginService: how federation's login page logs users in; decodes, calls the rule, encodes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TypeVar

from pydantic import ValidationError

from chassis.context import Access, CallerContext
from chassis.errors import InvalidRequest
from chassis.models import checked
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.clients import ClientDirectory, ClientNotFound
from contracts.gen.internal.identity.v1 import logins_pb2
from contracts.gen.internal.identity.v1.logins_pb2_grpc import (
    LoginServiceServicer,
    add_LoginServiceServicer_to_server,
)
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.hosted_pages import is_handle
from contracts.origins import caller_behind
from services.identity.errors import InvalidPasskeyAnswer, NotOffered, WeakPassword
from services.identity.login_rpc.options import LoginOptions
from services.identity.logins.models import Browser, Challenged, EnrollmentDue, Factor, Opened, Outcome
from services.identity.magic_links.routes import MagicLinkRequest
from services.identity.magic_links.service import MagicLinkService
from services.identity.passkeys.logins import PasskeyLogins
from services.identity.passkeys.routes import LoginBeginRequest, LoginFinishRequest
from services.identity.password_reset.routes import ForgotPasswordRequest
from services.identity.password_reset.service import PasswordResetService
from services.identity.passwords.routes import LoginRequest, SignupRequest
from services.identity.passwords.service import PasswordService, Signup
from services.identity.recovery_codes.routes import RecoveryVerifyRequest
from services.identity.second_factors.fresh_proof import Shown
from services.identity.second_factors.login import SecondFactorLogin
from services.identity.sessions.client import SessionClient
from services.identity.totp.routes import TotpEnableRequest, TotpVerifyRequest
from services.identity.totp.service import TotpService

SecondLeg = TypeVar("SecondLeg", TotpVerifyRequest, RecoveryVerifyRequest)


class LoginRpc(LoginServiceServicer):
    """`internal.identity.v1.LoginService`; federation vouches for the browser behind a call."""

    def __init__(
        self,
        clients: ClientDirectory,
        options: LoginOptions,
        passwords: PasswordService,
        second_leg: SecondFactorLogin,
        passkeys: PasskeyLogins,
        totp: TotpService,
        sessions: SessionClient,
        resets: PasswordResetService,
        links: MagicLinkService,
    ) -> None:
        """Take the rules, and who knows tokens."""
        self._links = links
        self._resets = resets
        self._totp = totp
        self._sessions = sessions
        self._clients = clients
        self._options = options
        self._passwords = passwords
        self._second_leg = second_leg
        self._passkeys = passkeys

    async def GetLoginOptions(
        self, request: logins_pb2.GetLoginOptionsRequest, _context: RpcContext
    ) -> logins_pb2.LoginOptions:
        """Tell what a client's login page may offer."""
        return self._options.of(await self._clients.get(parse_id(request.client_id, "client_id")))

    async def PasswordLogin(
        self, request: logins_pb2.PasswordLoginRequest, _context: RpcContext
    ) -> logins_pb2.LoginOutcome:
        """Log a user in; see `POST /api/auth/login`."""
        caller = await self._caller(request.client_id, request.origin)
        members = {
            "email": request.email,
            "password": request.password,
            "captcha_token": request.captcha_token or None,
        }
        body = checked(LoginRequest, members)
        browser = _browser(request.browser)
        return encode_login(
            await self._passwords.log_in(caller, body.email, body.password, browser, body.captcha_token)
        )

    async def CompleteWithTotp(
        self, request: logins_pb2.CompleteLoginRequest, _context: RpcContext
    ) -> logins_pb2.LoginOutcome:
        """Complete a login; see `POST /api/auth/totp/verify`."""
        return await self._complete(request, TotpVerifyRequest, Factor.TOTP)

    async def CompleteWithRecoveryCode(
        self, request: logins_pb2.CompleteLoginRequest, _context: RpcContext
    ) -> logins_pb2.LoginOutcome:
        """Complete a login; see `POST /api/auth/recovery-codes/verify`."""
        return await self._complete(request, RecoveryVerifyRequest, Factor.RECOVERY_CODE)

    async def BeginPasskey(
        self, request: logins_pb2.BeginPasskeyRequest, _context: RpcContext
    ) -> logins_pb2.PasskeyCeremony:
        """Begin a ceremony; see `POST /api/auth/passkey/login/begin`."""
        caller = await self._caller(request.client_id, request.origin)
        members = {"email": request.email or None, "mfa_token": request.mfa_token or None}
        body = checked(LoginBeginRequest, members)
        begun = await self._passkeys.begin(caller, typed_email=body.email, mfa_token=body.mfa_token)
        return logins_pb2.PasskeyCeremony(
            session_id=begun.session_id,
            expires_in=int(begun.ttl.total_seconds()),
            options_json=json.dumps(begun.options),
        )

    async def FinishPasskey(
        self, request: logins_pb2.FinishPasskeyRequest, _context: RpcContext
    ) -> logins_pb2.LoginOutcome:
        """End a ceremony; see `POST /api/auth/passkey/login/finish`."""
        caller = await self._caller(request.client_id, request.origin)
        try:
            body = LoginFinishRequest.model_validate({"credential": json.loads(request.credential_json)})
        except (ValidationError, ValueError, RecursionError) as error:
            raise InvalidPasskeyAnswer from error
        browser = _browser(request.browser)
        return encode_login(await self._passkeys.finish(caller, request.session_id, body.credential, browser))

    async def SetUpTotp(
        self, request: logins_pb2.SetUpTotpRequest, _context: RpcContext
    ) -> logins_pb2.TotpSetup:
        """Make a secret; see `POST /api/auth/totp/setup` with an enrollment token."""
        caller = await self._enrolling(request.client_id, request.origin, request.enrollment_token)
        setup = await self._totp.set_up(caller, Shown())
        return logins_pb2.TotpSetup(secret=setup.secret, qr_svg=setup.qr_svg)

    async def EnableTotp(
        self, request: logins_pb2.EnableTotpRequest, _context: RpcContext
    ) -> logins_pb2.TotpEnabled:
        """Turn the app on; see `POST /api/auth/totp/enable` with an enrollment token."""
        caller = await self._enrolling(request.client_id, request.origin, request.enrollment_token)
        body = checked(TotpEnableRequest, {"code": request.code})
        enabled = await self._totp.enable(caller, body.code, _browser(request.browser))
        opened = encode_login(enabled.opened).opened if enabled.opened else None
        return logins_pb2.TotpEnabled(recovery_codes=enabled.recovery_codes, opened=opened)

    async def AskPasswordReset(
        self, request: logins_pb2.AskMailRequest, _context: RpcContext
    ) -> logins_pb2.AskMailResponse:
        """Have a link mailed; see `POST /api/auth/forgot-password`.

        Raises:
            NotOffered: the client's users have no passwords, or nothing can be mailed.
        """
        caller = await self._caller(request.client_id, request.origin)
        if not (await self._options_of(caller)).has_password_reset:
            raise NotOffered
        body = checked(ForgotPasswordRequest, {"email": request.email})
        await self._resets.ask(caller, body.email, request=_handle(request.request))
        return logins_pb2.AskMailResponse()

    async def SignUp(
        self, request: logins_pb2.SignUpRequest, _context: RpcContext
    ) -> logins_pb2.LoginOutcome:
        """Create a user and log it in; see `POST /api/auth/signup`.

        Raises:
            NotOffered: the client does not let whoever comes make an account, or has no passwords.
        """
        caller = await self._caller(request.client_id, request.origin)
        if not (await self._options_of(caller)).has_sign_up:
            raise NotOffered
        members = {
            "email": request.email,
            "password": request.password,
            "display_name": request.display_name or None,
            "captcha_token": request.captcha_token or None,
        }
        body = checked(SignupRequest, members)
        signup = Signup(body.email, body.password, body.display_name or "", {}, body.captcha_token)
        try:
            return encode_login(await self._passwords.sign_up(caller, signup, _browser(request.browser)))
        except WeakPassword as error:
            # What is said of each rule stays here: the page has words of its own.
            raise WeakPassword(extra={"rules": [fault.code for fault in error.errors]}) from error

    async def AskLoginLink(
        self, request: logins_pb2.AskMailRequest, _context: RpcContext
    ) -> logins_pb2.AskMailResponse:
        """Have a link mailed; see `POST /api/auth/magic-link/send`.

        Raises:
            NotOffered: the client's page has no such way in, or nothing can be mailed.
        """
        caller = await self._caller(request.client_id, request.origin)
        if not (await self._options_of(caller)).has_magic_link:
            raise NotOffered
        body = checked(MagicLinkRequest, {"email": request.email})
        await self._links.ask(caller, body.email, request=_handle(request.request))
        return logins_pb2.AskMailResponse()

    async def FollowLoginLink(
        self, request: logins_pb2.FollowLoginLinkRequest, _context: RpcContext
    ) -> logins_pb2.LoginOutcome:
        """Log in by a link that the page asked for; see `POST /api/auth/magic-link/verify`."""
        caller = await self._caller(request.client_id, request.origin)
        followed = await self._links.look(caller, request.token, request=_handle(request.request))
        return encode_login(await self._links.follow(caller, followed, _browser(request.browser)))

    async def _options_of(self, caller: CallerContext) -> logins_pb2.LoginOptions:
        return self._options.of(await self._clients.get(caller.require_client()))

    async def _enrolling(
        self, client_id: str, origin: origin_pb2.Origin, enrollment_token: str
    ) -> CallerContext:
        """Name the user of an enrollment token, who may do nothing but set up a factor.

        Raises:
            ClientNotFound: there is no such active client.
            Unauthenticated: the token is none of it, or not any more.
        """
        caller = await self._caller(client_id, origin)
        proven = await self._sessions.verify_enrolling(caller.require_client(), enrollment_token)
        return replace(
            caller,
            access=Access.USER,
            user_id=proven.user_id,
            session_id=proven.session_id,
            auth_time=proven.auth_time,
            amr=proven.amr,
            is_enrolling=True,
        )

    async def _complete(
        self, request: logins_pb2.CompleteLoginRequest, model: type[SecondLeg], factor: Factor
    ) -> logins_pb2.LoginOutcome:
        caller = await self._caller(request.client_id, request.origin)
        body = checked(model, {"mfa_token": request.mfa_token, "code": request.code})
        browser = _browser(request.browser)
        return encode_login(
            await self._second_leg.complete(caller, body.mfa_token, factor, body.code, browser)
        )

    async def _caller(self, client_id: str, origin: origin_pb2.Origin) -> CallerContext:
        """Name the browser's caller in its client.

        Raises:
            ClientNotFound: there is no such active client.
        """
        client = await self._clients.get(parse_id(client_id, "client_id"))
        if not client.is_active:
            raise ClientNotFound
        return caller_behind(origin, client.id)


def encode_login(outcome: Outcome) -> logins_pb2.LoginOutcome:
    """Return the message of what a login came to; it holds no token of the session."""
    match outcome:
        case Opened():
            opened = logins_pb2.OpenedLogin(
                session_id=outcome.session.session_id,
                user=outcome.session.user,
                device_token=outcome.device_token or "",
            )
            return logins_pb2.LoginOutcome(opened=opened)
        case Challenged():
            waiting = logins_pb2.WaitingLogin(
                mfa_token=outcome.mfa_token, expires_in=outcome.expires_in, factors=outcome.factors
            )
            return logins_pb2.LoginOutcome(mfa=waiting)
        case EnrollmentDue():
            due = logins_pb2.EnrollmentDue(
                factors=outcome.factors,
                enrollment_token=outcome.enrollment_token,
                expires_in=outcome.expires_in,
            )
            return logins_pb2.LoginOutcome(enrollment=due)


def login_rpc(
    clients: ClientDirectory,
    options: LoginOptions,
    passwords: PasswordService,
    second_leg: SecondFactorLogin,
    passkeys: PasskeyLogins,
    totp: TotpService,
    sessions: SessionClient,
    resets: PasswordResetService,
    links: MagicLinkService,
) -> RpcService:
    """Return the slice's gRPC service."""
    servicer = LoginRpc(clients, options, passwords, second_leg, passkeys, totp, sessions, resets, links)
    return RpcService("internal.identity.v1.LoginService", servicer, add_LoginServiceServicer_to_server)


def _handle(text: str) -> str:
    if not is_handle(text):
        raise InvalidRequest("request names no page.")
    return text


def _browser(message: logins_pb2.LoginBrowser) -> Browser:
    return Browser(
        message.device_token,
        message.remember,
        takes_tokens=False,
        demands_two_factors=message.demands_two_factors,
    )
