"""gRPC through the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.ratelimit import Limit
from chassis.settings import Environment
from contracts.gen.auth.v1 import admin_pb2, auth_pb2, token_pb2
from contracts.gen.auth.v1.admin_pb2_grpc import AdminServiceStub
from contracts.gen.auth.v1.auth_pb2_grpc import AuthServiceStub
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceStub
from contracts.gen.internal.orgs.v1 import clients_pb2
from contracts.gen.internal.orgs.v1.clients_pb2_grpc import ClientServiceStub
from gateway.tests.people import PASSWORD, sign_up
from gateway.tests.running import ADMIN_KEY, RunningGateway, running_gateway
from tests.harness import System, Tenant


@pytest.fixture
async def channel(gateway: RunningGateway) -> AsyncIterator[Any]:
    """A client's channel to the public port."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as made:
        yield cast("Any", made)


async def _refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """The status and the stable code of a refused call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    for key, value in caught.value.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(cast("bytes", value))
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            return caught.value.code(), info.reason
    return caught.value.code(), ""


async def test_login_and_validation_pass_through(
    gateway: RunningGateway, channel: Any, tenant: Tenant
) -> None:
    person = await sign_up(gateway, tenant)

    session = await AuthServiceStub(channel).Login(
        auth_pb2.LoginRequest(api_key=tenant.api_key, email=person.email, password=PASSWORD)
    )
    verdict = await TokenServiceStub(channel).ValidateToken(
        token_pb2.ValidateTokenRequest(access_token=session.access_token, api_key=tenant.api_key)
    )

    assert (verdict.valid, verdict.user_id, verdict.client_id) == (True, person.id, str(tenant.id))
    seen = await gateway.client.get(
        "/api/auth/me", headers={**person.headers, "Authorization": f"Bearer {session.access_token}"}
    )
    assert seen.status_code == 200


async def test_owner_is_told_the_callers_address_and_not_the_clients_metadata(
    system: System, gateway: RunningGateway, channel: Any, tenant: Tenant
) -> None:
    person = await sign_up(gateway, tenant)
    call = AuthServiceStub(channel).Login(
        auth_pb2.LoginRequest(api_key=tenant.api_key, email=person.email, password="wrong-Password-1"),
        metadata=(
            ("x-request-id", "grpc-test-1"),
            ("x-auth-context", "forged"),
            ("x-caller", "gateway"),
            ("x-caller-proof", "forged"),
            ("x-user-id", "1"),
            ("x-user-id-bin", b"1"),
            ("x-forwarded-for", "198.51.100.77"),
        ),
    )

    assert await _refusal(call) == (grpc.StatusCode.UNAUTHENTICATED, "invalid_credentials")
    assert ("x-request-id", "grpc-test-1") in [tuple(pair) for pair in await call.initial_metadata()]
    event = await system.event("login_failed", client_id=tenant.id)
    assert (event.ip, event.request_id) == ("198.51.100.77", "grpc-test-1")


async def test_admin_service_needs_the_admin_key(gateway: RunningGateway, channel: Any) -> None:
    admin = AdminServiceStub(channel)
    request = admin_pb2.ListClientsRequest(limit=1)

    for metadata in ((), (("x-admin-key", "wrong"),), (("x-admin-key", ""),)):
        code, _ = await _refusal(admin.ListClients(request, metadata=metadata))
        assert code is grpc.StatusCode.UNAUTHENTICATED
    twice = (("x-admin-key", "wrong"), ("x-admin-key", ADMIN_KEY))
    assert await _refusal(admin.ListClients(request, metadata=twice)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "invalid_request",
    )
    answer = await admin.ListClients(request, metadata=(("x-admin-key", ADMIN_KEY),))
    assert len(answer.items) <= 1


async def test_internal_services_and_unknown_methods_do_not_exist(channel: Any) -> None:
    code, _ = await _refusal(
        ClientServiceStub(channel).GetClient(
            clients_pb2.GetClientRequest(), metadata=(("x-admin-key", ADMIN_KEY),)
        )
    )
    assert code is grpc.StatusCode.UNIMPLEMENTED
    for method in ("/auth.v1.AuthService/Nothing", "auth.v1.AuthService/Login", "/auth.v1.AuthService/../x"):
        code, _ = await _refusal(channel.unary_unary(method)(b""))
        assert code is grpc.StatusCode.UNIMPLEMENTED, method


async def test_malformed_message_is_refused_without_a_trace(channel: Any) -> None:
    code, _ = await _refusal(channel.unary_unary("/auth.v1.AuthService/Login")(b"\xff\xff\xff"))

    assert code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT}


async def test_health_and_reflection_answer(channel: Any) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", "auth.v1.AuthService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def ask() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    reflection: Any = reflection_pb2_grpc.ServerReflectionStub
    async for listed in reflection(channel).ServerReflectionInfo(ask()):
        names = {service.name for service in listed.list_services_response.service}
        assert {"auth.v1.AuthService", "auth.v1.TokenService", "auth.v1.AdminService"} <= names
        assert not {name for name in names if name.startswith("internal.")}
        break


async def test_production_has_no_reflection(system: System, service_urls: dict[str, str]) -> None:
    async with (
        running_gateway(
            system,
            service_urls,
            environment=Environment.PRODUCTION,
            base_url="https://auth.example.com",
            allow_origin=["https://app.example.com"],
        ) as gateway,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel,
    ):
        method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in cast("Any", channel).unary_stream(method)(b""):
                pass
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_revocations_stream_through(gateway: RunningGateway, channel: Any, tenant: Tenant) -> None:
    person = await sign_up(gateway, tenant)
    stream = TokenServiceStub(channel).WatchRevocations(
        token_pb2.WatchRevocationsRequest(api_key=tenant.api_key)
    )
    async with asyncio.timeout(10):
        async for message in stream:
            if message.synced:
                break
        await gateway.client.delete("/api/auth/sessions", headers=person.headers)
        async for message in stream:
            if person.session_id in {revocation.id for revocation in message.revocations}:
                break
    stream.cancel()


@contextlib.asynccontextmanager
async def _limited(
    system: System, urls: dict[str, str], tenant: Tenant, **changes: Any
) -> AsyncIterator[tuple[RunningGateway, Any]]:
    """A gateway with narrow limits, and a channel to it."""
    async with (
        running_gateway(system, urls, redis_key_prefix=f"{tenant.id}:", **changes) as gateway,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as made,
    ):
        yield gateway, cast("Any", made)


async def test_what_could_be_guessed_has_no_servers_limit(
    system: System, service_urls: dict[str, str], tenant: Tenant
) -> None:
    """The key stands in the message: who calls may as well be a page with a publishable key."""
    narrow = Limit(3, 3600)
    limits = {f"rate_limit_{name}": narrow for name in ("login", "signup", "sensitive")}
    async with _limited(system, service_urls, tenant, **limits) as (_, channel):
        stub, key = AuthServiceStub(channel), tenant.publishable_key
        calls: list[Callable[[], Any]] = [
            lambda: stub.Login(auth_pb2.LoginRequest(api_key=key, email="a@example.com", password="x")),
            lambda: stub.Signup(auth_pb2.SignupRequest(api_key=key, email="no address", password="x")),
            lambda: stub.ChangePassword(auth_pb2.ChangePasswordRequest(api_key=key)),
        ]
        for call in calls:
            refusals = [await _refusal(call()) for _ in range(4)]
            assert grpc.StatusCode.RESOURCE_EXHAUSTED not in {code for code, _ in refusals[:3]}
            assert refusals[3] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited")


async def test_renewal_has_a_servers_limit(
    system: System, service_urls: dict[str, str], tenant: Tenant
) -> None:
    async with _limited(
        system, service_urls, tenant, rate_limit_refresh=Limit(2, 3600), rate_limit_server_factor=2
    ) as (_, channel):
        request = auth_pb2.RefreshRequest(api_key=tenant.api_key, refresh_token="rt_x")
        codes = [(await _refusal(AuthServiceStub(channel).Refresh(request)))[0] for _ in range(5)]

    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 4 + [grpc.StatusCode.RESOURCE_EXHAUSTED]


async def _validate(channel: Any, key: str) -> str:
    request = token_pb2.ValidateTokenRequest(access_token="x", api_key=key)
    return str((await TokenServiceStub(channel).ValidateToken(request)).error)


async def _validate_many(channel: Any, key: str) -> str:
    request = token_pb2.ValidateTokensRequest(access_tokens=["x", "y"], api_key=key)
    return str((await TokenServiceStub(channel).ValidateTokens(request)).results[0].error)


async def _watch(channel: Any, key: str) -> str:
    stream = TokenServiceStub(channel).WatchRevocations(token_pb2.WatchRevocationsRequest(api_key=key))
    return (await _refusal(stream.read()))[1]


async def _profile(channel: Any, key: str) -> str:
    request = auth_pb2.GetProfileRequest(api_key=key, access_token="x")
    return (await _refusal(AuthServiceStub(channel).GetProfile(request)))[1]


@pytest.mark.parametrize("ask", [_validate, _validate_many, _watch, _profile])
async def test_guessed_keys_are_refused_without_asking(
    system: System, service_urls: dict[str, str], tenant: Tenant, ask: Callable[[Any, str], Awaitable[str]]
) -> None:
    async with _limited(
        system, service_urls, tenant, rate_limit_refused=Limit(2, 3600), rate_limit_server_factor=2
    ) as (_, channel):
        for _ in range(5):
            assert await _validate(channel, tenant.api_key) == "invalid_token"
        refused = [await ask(channel, "ask_" + secrets.token_hex(20)) for _ in range(4)]
        assert refused == ["invalid_api_key"] * 4

        stub = TokenServiceStub(channel)
        call = stub.ValidateToken(token_pb2.ValidateTokenRequest(access_token="x", api_key="ask_x"))
        assert await _refusal(call) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited")
        elsewhere = stub.ValidateToken(
            token_pb2.ValidateTokenRequest(access_token="x", api_key=tenant.api_key),
            metadata=(("x-forwarded-for", "203.0.113.51"),),
        )
        assert (await elsewhere).error == "invalid_token"


async def test_revocation_streams_of_all_tenants_have_a_bound(
    system: System, service_urls: dict[str, str], tenant: Tenant
) -> None:
    other = await system.tenant()
    async with _limited(system, service_urls, tenant, max_revocation_streams=1) as (_, channel):

        def watch(key: str) -> Any:
            return TokenServiceStub(channel).WatchRevocations(token_pb2.WatchRevocationsRequest(api_key=key))

        first = watch(tenant.api_key)
        await first.read()
        refused = await _refusal(watch(other.api_key).read())
        assert refused == (grpc.StatusCode.UNAVAILABLE, "unavailable")

        first.cancel()
        async with asyncio.timeout(5):
            while True:
                second = watch(other.api_key)
                try:
                    await second.read()
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.02)
        second.cancel()
