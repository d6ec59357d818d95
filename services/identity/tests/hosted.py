"""The hosted login page's calls, as federation makes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from contracts.gen.internal.identity.v1 import logins_pb2
from contracts.gen.internal.identity.v1.logins_pb2_grpc import LoginServiceStub
from contracts.gen.internal.origin.v1 import origin_pb2
from services.identity.tests.conftest import PASSWORD
from services.identity.tests.pages import ORIGIN
from tests.harness import System, Tenant
from tests.webauthn_device import Device


@dataclass(frozen=True, slots=True)
class Hosted:
    """A browser at a tenant's login page; `device_token` is of its cookie."""

    system: System
    tenant: Tenant
    stub: Any
    device_token: str = ""
    ip: str = "198.51.100.23"

    @classmethod
    def at(cls, system: System, tenant: Tenant, channel: Any, **more: Any) -> Hosted:
        """The page, over federation's channel to identity."""
        return cls(system, tenant, LoginServiceStub(cast("Any", channel)), **more)

    @property
    def _who(self) -> dict[str, Any]:
        return {
            "client_id": str(self.tenant.id),
            "origin": origin_pb2.Origin(
                ip=self.ip, user_agent="pytest", request_id="hosted-1", access="public"
            ),
        }

    def _browser(self, *, remember: bool = False) -> logins_pb2.LoginBrowser:
        return logins_pb2.LoginBrowser(device_token=self.device_token, remember=remember)

    async def options(self) -> logins_pb2.LoginOptions:
        """What the page may offer."""
        request = logins_pb2.GetLoginOptionsRequest(client_id=str(self.tenant.id))
        return cast("logins_pb2.LoginOptions", await self.stub.GetLoginOptions(request))

    async def password(
        self, email: str, password: str = PASSWORD, captcha_token: str = ""
    ) -> logins_pb2.LoginOutcome:
        """Log in by password."""
        request = logins_pb2.PasswordLoginRequest(
            email=email,
            password=password,
            captcha_token=captcha_token,
            browser=self._browser(),
            **self._who,
        )
        return cast("logins_pb2.LoginOutcome", await self.stub.PasswordLogin(request))

    async def code(
        self, mfa_token: str, code: str, factor: str = "totp", *, remember: bool = False
    ) -> logins_pb2.LoginOutcome:
        """Complete a login by a code."""
        request = logins_pb2.CompleteLoginRequest(
            mfa_token=mfa_token, code=code, browser=self._browser(remember=remember), **self._who
        )
        call = self.stub.CompleteWithTotp if factor == "totp" else self.stub.CompleteWithRecoveryCode
        return cast("logins_pb2.LoginOutcome", await call(request))

    async def passkey(self, device: Device, mfa_token: str = "", email: str = "") -> logins_pb2.LoginOutcome:
        """Log in by a passkey, or complete a login by it."""
        begin = logins_pb2.BeginPasskeyRequest(mfa_token=mfa_token, email=email, **self._who)
        begun = await self.stub.BeginPasskey(begin)
        shown = device.get(json.loads(begun.options_json), origin=ORIGIN)
        return await self.finish(begun.session_id, json.dumps(shown))

    async def finish(self, session_id: str, credential_json: str) -> logins_pb2.LoginOutcome:
        """End a ceremony."""
        finish = logins_pb2.FinishPasskeyRequest(
            session_id=session_id,
            credential_json=credential_json,
            browser=self._browser(),
            **self._who,
        )
        return cast("logins_pb2.LoginOutcome", await self.stub.FinishPasskey(finish))

    async def sign_up(
        self, email: str, password: str = PASSWORD, captcha_token: str = ""
    ) -> logins_pb2.LoginOutcome:
        """Make an account."""
        request = logins_pb2.SignUpRequest(
            email=email,
            password=password,
            captcha_token=captcha_token,
            browser=self._browser(),
            **self._who,
        )
        return cast("logins_pb2.LoginOutcome", await self.stub.SignUp(request))

    async def ask_link(self, email: str, handle: str) -> None:
        """Have a link mailed that logs in on a page."""
        request = logins_pb2.AskMailRequest(email=email, request=handle, **self._who)
        await self.stub.AskLoginLink(request)

    async def link(self, token: str, handle: str) -> logins_pb2.LoginOutcome:
        """Log in by it."""
        request = logins_pb2.FollowLoginLinkRequest(
            token=token, request=handle, browser=self._browser(), **self._who
        )
        return cast("logins_pb2.LoginOutcome", await self.stub.FollowLoginLink(request))

    async def reset(self, email: str, handle: str) -> None:
        """Have a link mailed that resets the password and leads back to a page."""
        request = logins_pb2.AskMailRequest(email=email, request=handle, **self._who)
        await self.stub.AskPasswordReset(request)

    async def enroll(self, enrollment_token: str, code: str) -> logins_pb2.TotpEnabled:
        """Turn an authenticator app on, without which there is no login."""
        request = logins_pb2.EnableTotpRequest(
            enrollment_token=enrollment_token, code=code, browser=self._browser(), **self._who
        )
        return cast("logins_pb2.TotpEnabled", await self.stub.EnableTotp(request))

    async def set_up(self, enrollment_token: str) -> logins_pb2.TotpSetup:
        """Make a secret for it."""
        request = logins_pb2.SetUpTotpRequest(enrollment_token=enrollment_token, **self._who)
        return cast("logins_pb2.TotpSetup", await self.stub.SetUpTotp(request))


async def came_to(call: Any) -> str:
    """What became of a hosted login, as `outcome` tells it of an HTTP answer."""
    outcome = await call
    return (
        "challenged" if outcome.HasField("mfa") else "opened" if outcome.HasField("opened") else "enrollment"
    )
