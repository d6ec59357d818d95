"""The gRPC faces: clients for other processes, and administration for the public."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from chassis.context import Access, CallerContext, sign_context
from chassis.errors import AppError
from chassis.ids import new_id
from chassis.internal_keys import InternalKeys
from chassis.rpc import CONTEXT, Channel
from contracts.gen.auth.v1 import admin_pb2
from contracts.gen.auth.v1.admin_pb2_grpc import AdminServiceStub
from contracts.gen.internal.orgs.v1 import clients_pb2
from contracts.gen.internal.orgs.v1.clients_pb2_grpc import ClientServiceStub
from tests.harness import System, Tenant


class ForwardingChannel(Channel):
    """A channel that carries a caller's context, as the gateway's does."""

    def __init__(self, address: str, keys: InternalKeys, caller: CallerContext) -> None:
        super().__init__(address, caller="gateway", callee="orgs", keys=keys)
        self._context = caller
        self._context_key = keys.key("gateway", "orgs")

    def metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        context = sign_context(self._context, self._context_key, "RPC", method).decode()
        return (*super().metadata(method), (CONTEXT, context))


@contextlib.asynccontextmanager
async def admin_stub(system: System, caller: CallerContext) -> AsyncIterator[Any]:
    keys = InternalKeys.derive(system.root_key, [("gateway", "orgs")])
    channel = ForwardingChannel(f"127.0.0.1:{system.ports['orgs']}", keys, caller)
    await channel.start()
    try:
        yield AdminServiceStub(cast("Any", channel))
    finally:
        await channel.stop()


async def refusal(call: Any) -> str:
    with pytest.raises(AppError) as caught:
        await call
    return caught.value.code


async def test_resolve_when_key_is_live_then_the_whole_client(system: System) -> None:
    settings = {"brand": "B", "smtp_password": "shh"}
    tenant = await system.tenant(settings=settings)
    async with system.channel("orgs", caller="token") as channel:
        stub: Any = ClientServiceStub(cast("Any", channel))
        digest = hashlib.sha256(tenant.api_key.encode()).digest()
        answer = await stub.ResolveApiKey(clients_pb2.ResolveApiKeyRequest(key_sha256=digest))
        assert (answer.kind, answer.expires_at) == ("secret", 0)
        client = answer.client
        assert (client.id, client.slug, client.status) == (str(tenant.id), tenant.document["slug"], "active")
        assert (client.token_mode, client.cell) == ("v3_es256", "default")
        assert list(client.allowed_origins) == ["https://app.example.com"]
        assert json.loads(client.settings_json) == settings
        assert await stub.GetClient(clients_pb2.GetClientRequest(client_id=str(tenant.id))) == client


async def test_resolve_when_client_is_suspended_then_said_so(system: System, tenant: Tenant) -> None:
    path = f"/api/admin/clients/{tenant.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})
    async with system.channel("orgs", caller="token") as channel:
        stub: Any = ClientServiceStub(cast("Any", channel))
        digest = hashlib.sha256(tenant.api_key.encode()).digest()
        answer = await stub.ResolveApiKey(clients_pb2.ResolveApiKeyRequest(key_sha256=digest))
        assert answer.client.status == "suspended"


async def test_client_service_when_nothing_is_there_then_not_found(system: System) -> None:
    async with system.channel("orgs", caller="audit") as channel:
        stub: Any = ClientServiceStub(cast("Any", channel))
        for digest in (b"", b"x", hashlib.sha256(b"ask_unknown").digest(), b"\x00" * 4096):
            call = stub.ResolveApiKey(clients_pb2.ResolveApiKeyRequest(key_sha256=digest))
            assert await refusal(call) == "api_key_not_found"
        for client_id in ("", "x", str(new_id()), "' OR 1=1 --"):
            call = stub.GetClient(clients_pb2.GetClientRequest(client_id=client_id))
            assert await refusal(call) == "client_not_found"


async def test_allows_origin_when_an_active_client_lists_it_then_true(system: System) -> None:
    origin = f"https://{secrets.token_hex(6)}.example.com"
    tenant = await system.tenant(allowed_origins=[origin])
    async with system.channel("orgs", caller="gateway") as channel:
        stub: Any = ClientServiceStub(cast("Any", channel))

        async def allowed(text: str) -> bool:
            return bool((await stub.AllowsOrigin(clients_pb2.AllowsOriginRequest(origin=text))).allowed)

        assert await allowed(origin)
        for other in ("", "*", "null", origin + ".evil.example", origin[:-1], origin + "/"):
            assert not await allowed(other), other
        path = f"/api/admin/clients/{tenant.id}"
        await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})
        assert not await allowed(origin)


async def test_admin_create_and_list_when_admin_then_as_over_http(system: System) -> None:
    word = secrets.token_hex(4)
    wanted = admin_pb2.CreateClientRequest(
        name=f"Rpc {word}", allowed_origins=["https://APP.example.com:443"], token_mode="v3_eddsa"
    )
    wanted.settings.update({"brand": "B", "ttl": 900, "smtp_password": "shh"})
    async with admin_stub(system, system.admin()) as admin:
        made = await admin.CreateClient(wanted)
        assert made.api_key.startswith("ask_")
        assert made.publishable_key.startswith("apk_")
        path = f"/api/admin/clients/{made.client.id}"
        shown = (await system.call("orgs", "GET", path, caller=system.admin())).json
        assert shown["settings"] == {"brand": "B", "ttl": 900, "smtp_password": "********"}
        assert (made.client.slug, made.client.token_mode) == (f"rpc-{word}", "v3_eddsa")
        assert list(made.client.allowed_origins) == shown["allowed_origins"] == ["https://app.example.com"]
        assert made.client.created_at.ToJsonString() == shown["created_at"]
        assert made.client.settings["smtp_password"] == "********"
        first = await admin.ListClients(admin_pb2.ListClientsRequest(limit=1))
        second = await admin.ListClients(admin_pb2.ListClientsRequest(limit=1, cursor=first.next_cursor))
        assert len(first.items) == len(second.items) == 1
        assert first.items[0].id > second.items[0].id
    event = await system.event("client_created", client_id=UUID(made.client.id))
    assert event.actor_type == "admin_key"
    used = await system.event("admin_key_used", client_id=None, path="/auth.v1.AdminService/CreateClient")
    assert (used.ip, used.data["method"]) == ("203.0.113.1", "RPC")


async def test_admin_rotate_api_key_when_admin_then_old_keys_die(system: System, tenant: Tenant) -> None:
    request = admin_pb2.RotateApiKeyRequest(client_id=str(tenant.id), grace_seconds=60)
    async with admin_stub(system, system.admin(admin_id=new_id())) as admin:
        # gRPC has no way to carry a proof: what needs one is for the break-glass key, or for HTTP.
        assert await refusal(admin.RotateApiKey(request)) == "step_up_required"
    async with admin_stub(system, system.admin()) as admin:
        in_grace = (await admin.RotateApiKey(request)).api_key
        alone = (await admin.RotateApiKey(admin_pb2.RotateApiKeyRequest(client_id=str(tenant.id)))).api_key
    async with system.channel("orgs", caller="token") as channel:
        stub: Any = ClientServiceStub(cast("Any", channel))
        for key in (tenant.api_key, in_grace):
            digest = hashlib.sha256(key.encode()).digest()
            call = stub.ResolveApiKey(clients_pb2.ResolveApiKeyRequest(key_sha256=digest))
            assert await refusal(call) == "api_key_not_found"
        digest = hashlib.sha256(alone.encode()).digest()
        answer = await stub.ResolveApiKey(clients_pb2.ResolveApiKeyRequest(key_sha256=digest))
        assert answer.client.id == str(tenant.id)
    event = await system.event("api_key_rotated", client_id=tenant.id, grace_seconds=60)
    assert event.actor_type == "admin_key"


async def test_admin_rotate_secret_and_signing_key_when_admin_then_tokens_answer(system: System) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    async with admin_stub(system, system.admin()) as admin:
        request = admin_pb2.RotateSecretRequest(client_id=str(tenant.id))
        secrets_made = {(await admin.RotateSecret(request)).jwt_secret for _ in range(2)}
        assert len(secrets_made) == 2
        assert min(map(len, secrets_made)) >= 32
    signing = await system.tenant(token_mode="v3_es256")
    async with admin_stub(system, system.admin()) as admin:
        wanted = admin_pb2.RotateSigningKeyRequest(client_id=str(signing.id))
        # A key is promoted only when every validator has had time to learn it; token says so.
        assert await refusal(admin.RotateSigningKey(wanted)) == "rotation_too_soon"
        with system.clock.advanced(timedelta(days=1)):
            first = await admin.RotateSigningKey(wanted)
        with system.clock.advanced(timedelta(days=2)):
            second = await admin.RotateSigningKey(wanted)
        assert (second.active_kid, second.retiring_kid) == (first.next_kid, first.active_kid)


async def test_admin_service_when_caller_is_no_admin_then_refused(system: System, tenant: Tenant) -> None:
    own = str(tenant.id)
    for access in (Access.PUBLIC, Access.API_KEY, Access.USER):
        async with admin_stub(system, tenant.caller(access=access)) as admin:
            for call in (
                admin.CreateClient(admin_pb2.CreateClientRequest(name="x")),
                admin.ListClients(admin_pb2.ListClientsRequest()),
                admin.RotateApiKey(admin_pb2.RotateApiKeyRequest(client_id=own)),
                admin.RotateSecret(admin_pb2.RotateSecretRequest(client_id=own)),
                admin.RotateSigningKey(admin_pb2.RotateSigningKeyRequest(client_id=own)),
            ):
                assert await refusal(call) == "unauthenticated"
    async with system.channel("orgs", caller="gateway") as channel:
        stub: Any = AdminServiceStub(cast("Any", channel))
        assert await refusal(stub.ListClients(admin_pb2.ListClientsRequest())) == "forbidden"


async def test_admin_service_when_request_is_bad_then_the_detail_names_the_field(system: System) -> None:
    async with admin_stub(system, system.admin()) as admin:
        for request, field in (
            (admin_pb2.CreateClientRequest(), "name"),
            (admin_pb2.CreateClientRequest(name="a", slug="Admin"), "slug"),
            (admin_pb2.CreateClientRequest(name="a", token_mode="none"), "token_mode"),
            (admin_pb2.CreateClientRequest(name="a", allowed_origins=["*"]), "allowed_origins.0"),
        ):
            with pytest.raises(AppError) as caught:
                await admin.CreateClient(request)
            assert (caught.value.code, caught.value.detail.partition(":")[0]) == ("validation_failed", field)
        for number in (math.nan, math.inf, -math.inf, 1e300, 1e-300):
            wanted = admin_pb2.CreateClientRequest(name="a")
            wanted.settings.update({"list": [{"deep": number}]})
            with pytest.raises(AppError) as caught:
                await admin.CreateClient(wanted)
            assert (caught.value.code, caught.value.detail.partition(":")[0]) == (
                "validation_failed",
                "settings",
            )
        for limit in (-1, 101):
            call = admin.ListClients(admin_pb2.ListClientsRequest(limit=limit))
            assert await refusal(call) == "validation_failed"
        assert await refusal(admin.ListClients(admin_pb2.ListClientsRequest(cursor="x"))) == "invalid_cursor"
        for grace in (-1, 604_801):
            rotation = admin_pb2.RotateApiKeyRequest(client_id=str(new_id()), grace_seconds=grace)
            assert await refusal(admin.RotateApiKey(rotation)) == "validation_failed"
        for client_id in ("", "x", str(new_id())):
            for call in (
                admin.RotateApiKey(admin_pb2.RotateApiKeyRequest(client_id=client_id)),
                admin.RotateSecret(admin_pb2.RotateSecretRequest(client_id=client_id)),
                admin.RotateSigningKey(admin_pb2.RotateSigningKeyRequest(client_id=client_id)),
            ):
                assert await refusal(call) == "client_not_found"
