"""The identity service, as the login page calls it: it alone checks proofs and opens sessions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from chassis.context import CallerContext
from chassis.rpc import Channel
from contracts.gen.internal.identity.v1 import logins_pb2
from contracts.gen.internal.identity.v1.logins_pb2_grpc import LoginServiceStub
from contracts.origins import origin_of

if TYPE_CHECKING:
    from contracts.gen.internal.identity.v1.logins_pb2_grpc import LoginServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is at a tenant's page, and what its browser carries.

    `remember` asks that the device be trusted. `demands_two_factors` is the app's wish.
    """

    client_id: UUID
    caller: CallerContext
    device_token: str = ""
    remember: bool = False
    demands_two_factors: bool = False

    @property
    def members(self) -> dict[str, Any]:
        """What every call says of it."""
        return {"client_id": str(self.client_id), "origin": origin_of(self.caller)}

    @property
    def browser(self) -> logins_pb2.LoginBrowser:
        """The browser's part."""
        return logins_pb2.LoginBrowser(
            device_token=self.device_token,
            remember=self.remember,
            demands_two_factors=self.demands_two_factors,
        )


class IdentityLogins:
    """Logs users in; every method raises what the HTTP routes refuse with, or `Unavailable`."""

    def __init__(self, identity: Channel) -> None:
        """Take the way to the identity service."""
        self._stub = cast("LoginServiceAsyncStub", LoginServiceStub(cast("Any", identity.for_stubs)))

    async def options(self, client_id: UUID) -> logins_pb2.LoginOptions:
        """Return what a tenant's page may offer."""
        return await self._stub.GetLoginOptions(logins_pb2.GetLoginOptionsRequest(client_id=str(client_id)))

    async def by_password(
        self, visitor: Visitor, email: str, password: str, captcha_token: str
    ) -> logins_pb2.LoginOutcome:
        """Log in by email and password."""
        return await self._stub.PasswordLogin(
            logins_pb2.PasswordLoginRequest(
                email=email,
                password=password,
                captcha_token=captcha_token,
                browser=visitor.browser,
                **visitor.members,
            )
        )

    async def sign_up(
        self, visitor: Visitor, email: str, password: str, display_name: str, captcha_token: str
    ) -> logins_pb2.LoginOutcome:
        """Create a user, which is a login of it."""
        return await self._stub.SignUp(
            logins_pb2.SignUpRequest(
                email=email,
                password=password,
                display_name=display_name,
                captcha_token=captcha_token,
                browser=visitor.browser,
                **visitor.members,
            )
        )

    async def ask_reset(self, visitor: Visitor, email: str, handle: str) -> None:
        """Have a link mailed to choose another password, which leads back to the page of a request."""
        await self._stub.AskPasswordReset(
            logins_pb2.AskMailRequest(email=email, request=handle, **visitor.members)
        )

    async def ask_link(self, visitor: Visitor, email: str, handle: str) -> None:
        """Have a link mailed to log in by, on the page of a request."""
        await self._stub.AskLoginLink(
            logins_pb2.AskMailRequest(email=email, request=handle, **visitor.members)
        )

    async def by_link(self, visitor: Visitor, handle: str, token: str) -> logins_pb2.LoginOutcome:
        """Log in by such a link, on the page of a request."""
        return await self._stub.FollowLoginLink(
            logins_pb2.FollowLoginLinkRequest(
                request=handle, token=token, browser=visitor.browser, **visitor.members
            )
        )

    async def by_code(
        self, visitor: Visitor, mfa_token: str, factor: str, code: str
    ) -> logins_pb2.LoginOutcome:
        """Complete a login by a code of a factor, `totp` or `recovery_code`."""
        request = logins_pb2.CompleteLoginRequest(
            mfa_token=mfa_token, code=code, browser=visitor.browser, **visitor.members
        )
        if factor == "totp":
            return await self._stub.CompleteWithTotp(request)
        return await self._stub.CompleteWithRecoveryCode(request)

    async def begin_passkey(self, visitor: Visitor, mfa_token: str = "") -> logins_pb2.PasskeyCeremony:
        """Begin a ceremony: a login, or the second factor of one."""
        return await self._stub.BeginPasskey(
            logins_pb2.BeginPasskeyRequest(mfa_token=mfa_token, **visitor.members)
        )

    async def finish_passkey(
        self, visitor: Visitor, session_id: str, credential: Mapping[str, Any]
    ) -> logins_pb2.LoginOutcome:
        """End a ceremony."""
        return await self._stub.FinishPasskey(
            logins_pb2.FinishPasskeyRequest(
                session_id=session_id,
                credential_json=json.dumps(credential),
                browser=visitor.browser,
                **visitor.members,
            )
        )

    async def set_up_totp(self, visitor: Visitor, enrollment_token: str) -> logins_pb2.TotpSetup:
        """Make a secret for the authenticator app of who must have one first."""
        request = logins_pb2.SetUpTotpRequest(enrollment_token=enrollment_token, **visitor.members)
        return await self._stub.SetUpTotp(request)

    async def enable_totp(self, visitor: Visitor, enrollment_token: str, code: str) -> logins_pb2.TotpEnabled:
        """Turn that app on by a code of it, which completes the login."""
        return await self._stub.EnableTotp(
            logins_pb2.EnableTotpRequest(
                enrollment_token=enrollment_token,
                code=code,
                browser=visitor.browser,
                **visitor.members,
            )
        )
