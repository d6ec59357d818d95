"""Whoever reaches what lies behind the gateway finds every door locked (G-12)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import grpc
import nats
import nats.errors
import pytest
import redis.asyncio as redis
from nats.aio.client import Client
from redis.exceptions import AuthenticationError, ResponseError

from chassis.bus import STREAM
from chassis.context import Access, CallerContext, sign_context
from chassis.ids import new_id
from chassis.internal_keys import InternalKeys
from contracts.gen.auth.v1 import admin_pb2, auth_pb2, token_pb2
from contracts.gen.internal.audit.v1 import ingest_pb2
from contracts.gen.internal.identity.v1 import admins_pb2, logins_pb2, step_up_pb2, users_pb2
from contracts.gen.internal.orgs.v1 import apps_pb2, clients_pb2, registrations_pb2
from contracts.gen.internal.token.v1 import (
    exchange_pb2,
    grants_pb2,
    secrets_pb2,
    sessions_pb2,
    verification_pb2,
)
from contracts.topology import CALLS, PUBLIC_RPC_OWNERS, RPC_CALLERS, SERVICES, pairs_of
from tests.e2e.stack import Login, Stack, Tenant

RPC_MODULES: tuple[ModuleType, ...] = (
    admin_pb2,
    auth_pb2,
    token_pb2,
    ingest_pb2,
    users_pb2,
    admins_pb2,
    logins_pb2,
    step_up_pb2,
    exchange_pb2,
    grants_pb2,
    apps_pb2,
    clients_pb2,
    registrations_pb2,
    secrets_pb2,
    sessions_pb2,
    verification_pb2,
)
GUARDED = {
    "identity": ("GET", "/api/auth/me"),
    "token": ("GET", "/api/auth/sessions"),
    "orgs": ("GET", "/api/admin/clients"),
    "federation": ("GET", "/api/auth/consents"),
    "audit": ("GET", "/api/admin/audit-events"),
}


def context(
    user: Login, service: str, stack: Stack, *, key: bytes | None = None, target: str | None = None
) -> str:
    """A caller context as the gateway signs it for a service; `key` and `target` forge it."""
    method, path = GUARDED[service]
    is_admin = path.startswith("/api/admin")
    caller = CallerContext(
        access=Access.ADMIN if is_admin else Access.USER,
        request_id="forged",
        client_id=None if is_admin else UUID(user.tenant.id),
        user_id=None if is_admin else UUID(user.user_id),
        session_id=None if is_admin else UUID(user.session_id),
    )
    keys = InternalKeys.derive(stack.system.env["INTERNAL_AUTH_KEY"], pairs_of("gateway"))
    return sign_context(
        caller, keys.key("gateway", service) if key is None else key, method, target or path
    ).decode()


@pytest.mark.parametrize("service", SERVICES)
async def test_service_port_when_reached_without_the_gateways_signature_then_is_401(
    stack: Stack, shop: Tenant, service: str
) -> None:
    user = await stack.sign_up(shop)
    base = stack.processes(service)[0].url
    method, path = GUARDED[service]

    async def status(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await stack.call(method, path, base=base, headers=sent)).status_code

    genuine = context(user, service, stack)
    assert await status(x_auth_context=genuine) == 200
    neighbour = next(name for name in SERVICES if name != service)
    keys = InternalKeys.derive(stack.system.env["INTERNAL_AUTH_KEY"], pairs_of("gateway"))
    payload, _, mac = genuine.partition(".")
    for forged in (
        "",
        payload,
        f"{payload}.",
        f"{payload}.{'0' * len(mac)}",
        f"{payload}.{mac[:-1]}",
        f"e30.{mac}",
        context(user, service, stack, key=keys.key("gateway", neighbour)),
        context(user, service, stack, key=b""),
        context(user, service, stack, target="/api/auth/other"),
        context(user, service, stack, target=f"{path}?limit=1"),
    ):
        assert await status(x_auth_context=forged) == 401, forged
    outside = {**user.headers, **stack.admin.headers, "x-user-id": user.user_id}
    assert (await stack.call(method, path, base=base, headers=outside)).status_code == 401
    assert (
        await stack.call(method, f"{path}?limit=1", base=base, headers={"x-auth-context": genuine})
    ).status_code == 401
    assert (await stack.call("GET", "/docs", base=base)).status_code == 401


async def test_service_rpc_when_called_without_proof_then_is_refused(stack: Stack) -> None:
    for name, callers in RPC_CALLERS.items():
        owner = PUBLIC_RPC_OWNERS.get(name) or name.split(".")[1]
        method = f"/{name}/{first_method(name)}"
        address = stack.processes(owner)[0].grpc
        wrong: list[tuple[tuple[str, str], ...]] = [
            (),
            (("x-caller", "gateway"), ("x-caller-proof", "1.00")),
            (("x-auth-context", "e30.00"),),
        ]
        for stranger in SERVICES:
            if stranger not in callers and owner in CALLS[stranger]:
                keys = InternalKeys.derive(stack.system.env["INTERNAL_AUTH_KEY"], pairs_of(stranger))
                wrong.append(
                    (("x-caller", stranger), ("x-caller-proof", keys.prove(stranger, owner, method)))
                )
        for metadata in wrong:
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stack.raw_rpc(address, method, b"", metadata)
            codes = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            assert refusal.value.code() in codes, (name, metadata, refusal.value)


def first_method(service: str) -> str:
    """Some method of an RPC service."""
    package, _, name = service.rpartition(".")
    module = next(
        module
        for module in RPC_MODULES
        if module.DESCRIPTOR.package == package and name in module.DESCRIPTOR.services_by_name
    )
    return str(module.DESCRIPTOR.services_by_name[name].methods[0].name)


async def connect(url: str) -> Client:
    """Connect to NATS, once, and say nothing when refused."""

    async def ignore(_error: Exception) -> None:
        return

    return await nats.connect(
        url, connect_timeout=3, max_reconnect_attempts=0, allow_reconnect=False, error_cb=ignore
    )


def event(service: str, client_id: str) -> bytes:
    """An envelope in a service's name."""
    members: dict[str, Any] = {
        "id": str(new_id()),
        "type": "client_updated",
        "service": service,
        "occurred_at": "2026-11-24T00:00:00Z",
        "client_id": client_id,
        "actor_type": "admin_key",
        "actor_id": None,
        "target_type": None,
        "target_id": None,
        "session_id": None,
        "ip": "",
        "user_agent": "",
        "request_id": "forged-event",
        "data": {},
    }
    return json.dumps(members).encode()


async def test_nats_when_without_credentials_then_refuses(stack: Stack) -> None:
    genuine = urlsplit(stack.system.servers.nats_url("identity"))
    greeted = {"user": genuine.username, "pass": genuine.password}
    for login, answer in (
        (greeted, b"PONG"),
        ({}, b"-ERR 'Authorization Violation'"),
        ({**greeted, "pass": "wrong"}, b"-ERR 'Authorization Violation'"),
        ({"user": "admin", "pass": "admin"}, b"-ERR 'Authorization Violation'"),
        ({"auth_token": genuine.password}, b"-ERR 'Authorization Violation'"),
    ):
        reader, writer = await asyncio.open_connection(genuine.hostname, genuine.port)
        try:
            assert (await reader.readline()).startswith(b"INFO ")
            writer.write(b"CONNECT " + json.dumps({"verbose": False, **login}).encode() + b"\r\nPING\r\n")
            assert (await asyncio.wait_for(reader.readline(), 5)).strip() == answer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_nats_when_a_service_speaks_in_anothers_name_then_nobody_hears(
    stack: Stack, shop: Tenant
) -> None:
    identity = await connect(stack.system.servers.nats_url("identity"))
    gateway = await connect(stack.system.servers.nats_url("gateway"))
    admin = await connect(stack.system.servers.nats_url("admin"))
    try:
        heard = await admin.subscribe("events.>")
        await admin.flush()
        for connection in (identity, gateway):
            await connection.publish("events.orgs.client_updated", event("orgs", shop.id))
            await connection.flush()
        await gateway.publish("invalidate.client", shop.id.encode())
        await gateway.flush()
        await identity.publish("events.identity.client_updated", event("identity", shop.id))
        await identity.flush()
        # The fourth message is allowed and comes last: had another passed, it would be here first.
        assert (await heard.next_msg(timeout=5)).subject == "events.identity.client_updated"
    finally:
        for connection in (identity, gateway, admin):
            await connection.close()


@pytest.mark.parametrize("user", ["identity", "gateway"])
async def test_nats_when_an_application_user_manages_the_stream_then_is_refused(
    stack: Stack, user: str
) -> None:
    """A broken service must not be able to erase what all have said."""
    before = await message_count(stack)
    assert before > 0
    connection = await connect(stack.system.servers.nats_url(user))
    try:
        for action in ("PURGE", "DELETE"):
            with pytest.raises((nats.errors.Error, asyncio.TimeoutError)):
                await connection.request(f"$JS.API.STREAM.{action}.{STREAM}", b"", timeout=1)
    finally:
        await connection.close()
    assert await message_count(stack) >= before


async def message_count(stack: Stack) -> int:
    """How many events the stream has taken."""
    admin = await connect(stack.system.servers.nats_url("admin"))
    try:
        state = (await admin.jetstream().stream_info(STREAM)).state
        return int(state.last_seq)
    finally:
        await admin.close()


async def test_postgres_when_without_the_right_password_then_refuses(stack: Stack) -> None:
    own = stack.system.env["IDENTITY_DATABASE_URL"]
    connection = await asyncpg.connect(own)
    await connection.close()
    base, _, _ = own.rpartition("/")
    password = base.split(":")[2].split("@")[0]
    for url in (
        base.replace(password, "wrong") + "/identity",
        base.replace(f":{password}", "") + "/identity",
        base + "/token",
        base.replace("//identity:", "//identity_owner:") + "/identity",
        base.replace("//identity:", "//postgres:") + "/postgres",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await asyncpg.connect(url)


async def test_row_level_security_when_a_tenant_is_set_then_hides_all_others(
    stack: Stack, shop: Tenant
) -> None:
    """The second wall: what a forgotten WHERE would show."""
    user = await stack.sign_up(await stack.tenant())
    await stack.sign_up(shop)
    connection = await asyncpg.connect(stack.system.env["IDENTITY_DATABASE_URL"])
    try:
        assert await connection.fetch("SELECT id FROM users") == []
        async with connection.transaction():
            await connection.execute("SELECT set_config('auth.client_id', $1, true)", user.tenant.id)
            seen = await connection.fetch("SELECT id FROM users")
            assert [str(row["id"]) for row in seen] == [user.user_id]
            changed = await connection.execute(
                "UPDATE users SET display_name = 'x' WHERE client_id = $1", shop.id
            )
            assert changed == "UPDATE 0"
    finally:
        await connection.close()


async def test_valkey_when_without_the_password_then_refuses(stack: Stack) -> None:
    genuine = stack.system.servers.redis_url
    async with redis.from_url(genuine) as client:
        assert await client.ping()
    scheme, _, rest = genuine.partition("://")
    host = rest.rpartition("@")[2]
    for url in (f"{scheme}://{host}", f"{scheme}://:wrong@{host}"):
        async with redis.from_url(url) as client:
            with pytest.raises((AuthenticationError, ResponseError)):
                await client.ping()


async def test_admin_key_when_asked_of_a_service_then_is_not_in_its_environment(stack: Stack) -> None:
    """A broken service holds no key but its own."""
    for process in stack.system.processes.values():
        has = {
            name: name in process.env
            for name in ("ADMIN_API_KEY", "ADMIN_TOKEN_SECRET", "INTERNAL_AUTH_KEY", "MASTER_KEY")
        }
        is_gateway = process.kind == "gateway"
        assert has == {
            "ADMIN_API_KEY": is_gateway,
            "ADMIN_TOKEN_SECRET": process.kind in ("gateway", "identity"),
            "INTERNAL_AUTH_KEY": is_gateway,
            "MASTER_KEY": not is_gateway,
        }
        foreign = [f"{name.upper()}_DATABASE_URL" for name in SERVICES if name != process.kind]
        assert not set(foreign) & set(process.env)
