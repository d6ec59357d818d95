"""The gRPC faces: AuthService through the gateway, UserService for token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from chassis.context import HEADER, Access, CallerContext, sign_context
from chassis.errors import AppError, Kind
from chassis.ids import new_id
from chassis.internal_keys import InternalKeys
from chassis.rpc import Channel
from contracts.gen.auth.v1 import auth_pb2
from contracts.gen.auth.v1.auth_pb2_grpc import AuthServiceStub
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.gen.internal.identity.v1.users_pb2_grpc import UserServiceStub
from services.identity.tests.conftest import PASSWORD, Person, address, log_in
from tests.harness import System, Tenant


class GatewayChannel(Channel):
    """A channel that names a client behind the gateway, as its gRPC pass-through does."""

    key: bytes
    behind: CallerContext | None = None

    def metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        """Add the signed context."""
        own = super().metadata(method)
        if self.behind is None:
            return own
        signed = sign_context(self.behind, self.key, "RPC", method).decode()
        return (*own, (HEADER.decode(), signed))


@pytest.fixture
async def gateway(system: System) -> AsyncIterator[GatewayChannel]:
    """The gateway's channel to identity."""
    keys = InternalKeys.derive(system.root_key, [("gateway", "identity")])
    channel = GatewayChannel(
        f"127.0.0.1:{system.ports['identity']}", caller="gateway", callee="identity", keys=keys
    )
    channel.key = keys.key("gateway", "identity")
    channel.behind = CallerContext(
        access=Access.PUBLIC, request_id="rpc-1", ip="198.51.100.77", user_agent="grpc"
    )
    await channel.start()
    yield channel
    await channel.stop()


@pytest.fixture
def auth(gateway: GatewayChannel) -> Any:
    """The stub."""
    return AuthServiceStub(cast("Any", gateway))


async def refusal(call: Any) -> AppError:
    """Return what an RPC is refused with."""
    with pytest.raises(AppError) as caught:
        await call
    return caught.value


async def test_the_whole_journey_over_grpc(system: System, tenant: Tenant, auth: Any) -> None:
    email, key = address(), tenant.api_key
    signup = auth_pb2.SignupRequest(api_key=key, email=email, password=PASSWORD, display_name="Ada")
    signup.metadata.update({"seats": 3, "share": 0.5, "tags": ["a", None, True]})
    signed_up = await auth.Signup(signup)
    assert signed_up.user.email == email
    assert dict(signed_up.user.metadata)["seats"] == 3
    assert signed_up.refresh_token.startswith("rt_")
    created = await system.event("user_created", client_id=tenant.id)
    assert (created.ip, created.request_id) == ("198.51.100.77", "rpc-1")

    opened = await auth.Login(auth_pb2.LoginRequest(api_key=key, email=email, password=PASSWORD))
    assert opened.user.HasField("last_login_at")
    renewed = await auth.Refresh(auth_pb2.RefreshRequest(api_key=key, refresh_token=opened.refresh_token))
    assert renewed.session_id == opened.session_id

    token = renewed.access_token
    profile = await auth.GetProfile(auth_pb2.GetProfileRequest(api_key=key, access_token=token))
    assert (profile.id, profile.display_name) == (signed_up.user.id, "Ada")
    update = auth_pb2.UpdateProfileRequest(api_key=key, access_token=token, locale="en", phone="")
    updated = await auth.UpdateProfile(update)
    assert (updated.locale, updated.display_name) == ("en", "Ada")
    await auth.ChangePassword(
        auth_pb2.ChangePasswordRequest(
            api_key=key, access_token=token, current_password=PASSWORD, new_password="another fine passphrase"
        )
    )
    assert (await log_in(system, tenant, email, "another fine passphrase")).status == 200

    logout = auth_pb2.LogoutRequest(api_key=key, refresh_token=renewed.refresh_token)
    await auth.Logout(logout)
    await auth.Logout(logout)
    gone = await refusal(auth.GetProfile(auth_pb2.GetProfileRequest(api_key=key, access_token=token)))
    assert gone.kind is Kind.UNAUTHENTICATED
    rows = await system.sql("identity", "SELECT metadata FROM users WHERE client_id = $1", tenant.id)
    assert rows[0]["metadata"] == '{"tags": ["a", null, true], "seats": 3, "share": 0.5}'


async def test_the_rules_are_those_of_http(system: System, person: Person, auth: Any) -> None:
    key = person.tenant.api_key

    taken = await refusal(
        auth.Signup(auth_pb2.SignupRequest(api_key=key, email=person.email.upper(), password=PASSWORD))
    )
    weak = await refusal(
        auth.Signup(auth_pb2.SignupRequest(api_key=key, email=address(), password="Password1"))
    )
    nul = await refusal(
        auth.Signup(auth_pb2.SignupRequest(api_key=key, email=address(), password="with\x00nul in it"))
    )
    wrong = [
        await refusal(auth.Login(auth_pb2.LoginRequest(api_key=key, email=person.email, password="wrong")))
        for _ in range(6)
    ]

    assert (taken.kind, taken.code) == (Kind.CONFLICT, "email_taken")
    assert (weak.kind, weak.code) == (Kind.UNPROCESSABLE, "weak_password")
    assert (nul.kind, nul.code) == (Kind.UNPROCESSABLE, "validation_failed")
    assert [error.code for error in wrong] == ["invalid_credentials"] * 5 + ["account_locked"]
    assert wrong[-1].retry_after
    assert (await person.log_in(ip="198.51.100.77")).code == "account_locked"


async def test_a_key_or_token_that_is_not_good_opens_nothing(
    system: System, person: Person, auth: Any
) -> None:
    other = await system.tenant()
    token = person.document["access_token"]
    get = auth_pb2.GetProfileRequest

    assert (await auth.GetProfile(get(api_key=person.tenant.api_key, access_token=token))).id == person.id
    refused = [
        await refusal(auth.GetProfile(get(api_key=key, access_token=given)))
        for key, given in [
            (other.api_key, token),
            (person.tenant.api_key, ""),
            (person.tenant.api_key, token[:-4] + "AAAA"),
            ("ask_unknown", token),
            ("", token),
        ]
    ]

    assert {error.kind for error in refused} == {Kind.UNAUTHENTICATED}
    assert [error.code for error in refused[-2:]] == ["invalid_api_key"] * 2


async def test_auth_service_needs_the_client_behind_the_gateway(
    person: Person, gateway: GatewayChannel
) -> None:
    gateway.behind = None
    auth: Any = AuthServiceStub(cast("Any", gateway))
    request = auth_pb2.LoginRequest(api_key=person.tenant.api_key, email=person.email, password=PASSWORD)

    error = await refusal(auth.Login(request))

    assert error.kind is Kind.FORBIDDEN


async def test_user_service_answers_token_with_users_of_the_named_client_only(
    system: System, person: Person
) -> None:
    other = await system.tenant()
    async with system.channel("identity", caller="token") as channel:
        users: Any = UserServiceStub(cast("Any", channel))
        request = users_pb2.GetUserRequest(client_id=str(person.tenant.id), user_id=person.id)
        user = await users.GetUser(request)
        refused = [
            await refusal(users.GetUser(users_pb2.GetUserRequest(client_id=client_id, user_id=user_id)))
            for client_id, user_id in [
                (str(other.id), person.id),
                (str(person.tenant.id), str(new_id())),
                ("", person.id),
                (str(person.tenant.id), "x"),
            ]
        ]

    assert (user.email, user.version) == (person.email, 1)
    assert [error.kind for error in refused] == [Kind.NOT_FOUND, Kind.NOT_FOUND, Kind.INVALID, Kind.INVALID]


async def test_user_service_refuses_the_gateway(person: Person, gateway: GatewayChannel) -> None:
    users: Any = UserServiceStub(cast("Any", gateway))
    request = users_pb2.GetUserRequest(client_id=str(person.tenant.id), user_id=person.id)

    assert (await refusal(users.GetUser(request))).kind is Kind.FORBIDDEN


async def test_captcha_token_is_judged_by_the_rules_of_the_http_route(person: Person, auth: Any) -> None:
    request = auth_pb2.LoginRequest(
        api_key=person.tenant.api_key, email=person.email, password=PASSWORD, captcha_token="x" * 9000
    )
    refused = await refusal(auth.Login(request))
    request.captcha_token = "of no provider"

    assert (refused.code, refused.detail.partition(":")[0]) == ("validation_failed", "captcha_token")
    assert (await auth.Login(request)).access_token
