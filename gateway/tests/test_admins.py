"""Admin tokens at the edge: whose are good, for what, and when they die."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from chassis.ids import new_id
from contracts.admin_roles import ROLES, Role
from contracts.admin_tokens import AdminTokens
from contracts.gen.auth.v1 import admin_pb2
from contracts.gen.auth.v1.admin_pb2_grpc import AdminServiceStub
from gateway.tests.people import sign_up
from gateway.tests.running import ADMIN_KEY, RunningGateway, running_gateway
from tests.admins import USERS, TestAdmin, new_admin
from tests.contract.operations import Operation, operations
from tests.harness import BASE_URL, System, Tenant

CLIENTS = "/api/admin/clients"
OF_ADMINS = [operation for operation in operations() if operation.access == "admin"]


async def status_of(gateway: RunningGateway, token: str, path: str = CLIENTS) -> tuple[int, str]:
    """Call an admin route by a token; the status and the error code."""
    headers = [(b"authorization", f"Bearer {token}".encode())]
    answer = await gateway.client.get(path, headers=headers)
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]


async def plain_token(admin: TestAdmin) -> str:
    """The token of an admin who needs no app."""
    return str((await admin.log_in()).json["access_token"])


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: dict[str, Any], claims: Any, key: bytes, digest: str = "sha256") -> str:
    text = f"{encoded(header)}.{claims if isinstance(claims, str) else encoded(claims)}"
    return f"{text}.{encoded(hmac.digest(key, text.encode(), digest))}"


async def test_token_of_a_login_opens_what_the_roles_allow_and_no_more(
    system: System, gateway: RunningGateway, tenant: Tenant
) -> None:
    """A-02 at the gateway: every operation, every role."""
    seen = set()
    for role in (Role.OWNER, Role.BILLING_ADMIN, Role.READ_ONLY_AUDITOR):
        admin = await new_admin(system, roles=[role], mfa_required=False)
        headers = {"Authorization": f"Bearer {await plain_token(admin)}"}
        for operation in OF_ADMINS:
            is_allowed = permission_of(operation) in ROLES[role]
            if is_allowed and operation.method != "GET":
                continue  # the services' own matrix has these, and does what they do
            ids = {name: str(new_id()) for name in operation.path_parameters}
            answer = await gateway.client.request(
                operation.method, operation.path(ids), headers=headers, json=operation.body()
            )
            is_refused = answer.status_code == 403 and answer.json()["code"] == "permission_missing"
            assert is_refused is not is_allowed, (role, operation, answer.text)
            seen.add(answer.status_code)
    assert seen == {200, 403, 404}
    recorded = await system.event("access_refused", client_id=None, path="/api/admin/metrics")
    assert (recorded.service, recorded.actor_type) == ("gateway", "admin")


def permission_of(operation: Operation) -> str:
    return str(operation.declared["x-permission"])


async def test_token_when_its_admin_changes_then_follows_at_once(
    system: System, gateway: RunningGateway, tenant: Tenant
) -> None:
    admin = await new_admin(system, mfa_required=False)
    token = await plain_token(admin)
    assert await status_of(gateway, token) == (200, "")

    async def change(**members: Any) -> None:
        answer = await gateway.client.patch(
            f"{USERS}/{admin.id}", headers={"X-Admin-Key": ADMIN_KEY}, json=members
        )
        assert answer.status_code == 200, answer.text

    await change(scopes=[f"client:{tenant.id}"])
    listed = await gateway.client.get(CLIENTS, headers={"Authorization": f"Bearer {token}"})
    assert [client["id"] for client in listed.json()["items"]] == [str(tenant.id)]
    assert await status_of(gateway, token, f"{CLIENTS}/{(await system.tenant()).id}") == (404, "not_found")
    assert await status_of(gateway, token, "/api/admin/metrics") == (403, "scope_too_narrow")
    await change(roles=["read_only_auditor"], scopes=["all"])
    assert await status_of(gateway, token, "/api/admin/metrics") == (403, "permission_missing")
    await change(status="suspended")
    assert await status_of(gateway, token) == (401, "token_revoked")
    await change(status="active")
    assert await status_of(gateway, token) == (401, "token_revoked"), "an old token does not come back"
    fresh = await plain_token(admin)
    assert await status_of(gateway, fresh) == (200, "")
    await change(password="another-long-phrase-8")
    assert await status_of(gateway, fresh) == (401, "token_revoked")
    last = str((await admin.log_in("another-long-phrase-8")).json["access_token"])
    assert await status_of(gateway, last) == (200, "")
    with system.clock.advanced(timedelta(hours=8, seconds=1)):
        assert await status_of(gateway, last) == (401, "token_expired")
    removed = await gateway.client.delete(f"{USERS}/{admin.id}", headers={"X-Admin-Key": ADMIN_KEY})
    assert removed.status_code == 204
    assert await status_of(gateway, last) == (401, "token_revoked")


async def test_session_in_a_users_name_is_dead_with_the_right_to_have_one(
    system: System, gateway: RunningGateway, tenant: Tenant
) -> None:
    admin = await new_admin(system, roles=["support_admin"], mfa_required=False)
    person = await sign_up(gateway, tenant)
    first = await gateway.client.post(
        f"{CLIENTS}/{tenant.id}/users/{person.id}/impersonate",
        headers={"X-Admin-Key": ADMIN_KEY},
        json={"reason": "look"},
    )
    by_key = first.json()["access_token"]
    caller = admin.caller()
    opened = await system.call(
        "identity",
        "POST",
        f"{CLIENTS}/{tenant.id}/users/{person.id}/impersonate",
        caller=replace(caller, auth_time=int(system.clock.now().timestamp())),
        json={"reason": "look"},
    )
    assert opened.status == 200, opened.body
    acted = opened.json["access_token"]

    async def me(token: str) -> tuple[int, str]:
        headers = {"X-API-Key": tenant.api_key, "Authorization": f"Bearer {token}"}
        answer = await gateway.client.get("/api/auth/me", headers=headers)
        return answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]

    async def change(**members: Any) -> None:
        answer = await gateway.client.patch(
            f"{USERS}/{admin.id}", headers={"X-Admin-Key": ADMIN_KEY}, json=members
        )
        assert answer.status_code == 200, answer.text

    assert await me(acted) == (200, "")
    changes: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"roles": ["read_only_auditor"]}, {"roles": ["support_admin"]}),
        ({"scopes": [f"client:{new_id()}"]}, {"scopes": [f"client:{tenant.id}"]}),
        ({"status": "suspended"}, {"status": "active"}),
    )
    for taken, back in changes:
        await change(**taken)
        assert await me(acted) == (401, "token_revoked"), taken
        await change(**back)
        assert await me(acted) == (200, "")
    removed = await gateway.client.delete(f"{USERS}/{admin.id}", headers={"X-Admin-Key": ADMIN_KEY})
    assert removed.status_code == 204
    assert await me(acted) == (401, "token_revoked")
    assert await me(by_key) == (200, "")


async def test_forged_admin_tokens_are_401(system: System, gateway: RunningGateway) -> None:
    """J-01, J-03, J-06 to J-09: one good token, and everything near it."""
    admin = await new_admin(system, mfa_required=False)
    good = await plain_token(admin)
    assert await status_of(gateway, good) == (200, "")
    header, payload, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    key = system.admin_token_secret.get_secret_value().encode()
    ours = {"alg": "HS256", "typ": "admin+jwt"}
    now = int(system.clock.now().timestamp())
    derived = hmac.digest(ADMIN_KEY.encode(), b"authservice admin tokens", "sha256")
    forged = [
        *(f"{encoded({**ours, 'alg': alg})}.{payload}." for alg in ("none", "None", "NONE", "nOnE")),
        f"{encoded({**ours, 'alg': 'none'})}.{payload}.{signature}",
        *(signed(ours, claims, secret) for secret in (b"", b"\0", b"secret", ADMIN_KEY.encode(), derived)),
        signed({"alg": "HS512", "typ": "admin+jwt"}, claims, key, "sha512"),
        *(
            signed({**ours, **more}, claims, key)
            for more in (
                {"kid": "../../../../dev/null"},
                {"crit": ["x"]},
                {"b64": False},
                {"zip": "DEF"},
                {"jwk": {"kty": "oct", "k": encoded(key)}},
                {"jku": "https://evil.example/keys"},
                {"typ": "JWT"},
                {"typ": "at+jwt"},
            )
        ),
        *(
            signed(ours, {**claims, **changes}, b"x" * 32)
            for changes in ({}, {"sub": str(new_id())}, {"exp": now + 10**6})
        ),
        f"{header}.{encoded({**claims, 'epoch': 9})}.{signature}",
        f"{header}.{payload}.{signature}=",
        f"{header}.{payload}.{signature[:-1]}",
        f"{header}.{payload}.{signature}.x",
        f"{header}.{payload}",
        f"x.{good}",
        good + "é",
        "a" * 5000,
        encoded({"payload": payload, "protected": header, "signature": signature}),
        "..",
        ADMIN_KEY,
    ]
    for token in forged:
        assert await status_of(gateway, token) == (401, "invalid_token"), token[:120]
    # Signed by the secret, and still nothing that identity would issue.
    constant = {"alg": "HS256", "typ": "admin+jwt"}
    compact = (
        base64.urlsafe_b64encode(json.dumps(constant, separators=(",", ":")).encode()).rstrip(b"=").decode()
    )
    assert compact == header
    for changes in (
        {"aud": "other"},
        {"iss": "https://other.example"},
        {"token_use": "access"},
        {"iat": now + 3600},
        {"sub": "x"},
        {"epoch": None},
    ):
        text = f"{header}.{encoded({**claims, **changes})}"
        token = f"{text}.{encoded(hmac.digest(key, text.encode(), hashlib.sha256))}"
        assert (await status_of(gateway, token))[0] == 401, changes
    issued = AdminTokens(key, issuer=BASE_URL)
    for token, code in (
        (issued.issue(new_id(), 0, ("pwd",), now, timedelta(hours=1)), "token_revoked"),
        (issued.issue(new_id(), 0, ("pwd",), now - 7200, timedelta(hours=1)), "token_expired"),
    ):
        assert await status_of(gateway, token) == (401, code)


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_tokens_of_admins_and_of_users_open_nothing_of_the_other(
    system: System, gateway: RunningGateway, mode: str
) -> None:
    """J-05, both ways, with each token good at its own door."""
    tenant = await system.tenant(token_mode=mode)
    person = await sign_up(gateway, tenant)
    admin = await new_admin(system, mfa_required=False)
    token = await plain_token(admin)
    assert await status_of(gateway, token) == (200, "")
    assert (await gateway.client.get("/api/auth/me", headers=person.headers)).status_code == 200

    for path in (CLIENTS, USERS, "/api/admin/audit-events"):
        assert await status_of(gateway, person.access_token, path) == (401, "invalid_token")
        both = await gateway.client.get(path, headers=person.headers)
        assert both.status_code == 401
    as_user = {"X-API-Key": tenant.api_key, "Authorization": f"Bearer {token}"}
    for method, path in (("GET", "/api/auth/me"), ("GET", "/_authz"), ("POST", "/api/auth/change-password")):
        answer = await gateway.client.request(
            method, path, headers=as_user, json={} if method == "POST" else None
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), path


async def test_break_glass_key_when_disabled_then_tokens_still_open(
    system: System, service_urls: dict[str, str], gateway: RunningGateway
) -> None:
    """A-04."""
    admin = await new_admin(system, mfa_required=False)
    token = await plain_token(admin)
    async with running_gateway(system, service_urls, admin_key_enabled=False) as closed:
        assert await status_of(closed, token) == (200, "")
        refused = await closed.client.get(CLIENTS, headers={"X-Admin-Key": ADMIN_KEY})
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_admin_key")
    assert (await gateway.client.get(CLIENTS, headers={"X-Admin-Key": ADMIN_KEY})).status_code == 200


async def test_admin_token_over_grpc_has_the_same_rights(
    system: System, gateway: RunningGateway, tenant: Tenant
) -> None:
    admin = await new_admin(system, mfa_required=False, scopes=[f"client:{tenant.id}"])
    other = await system.tenant()
    auditor = await new_admin(system, mfa_required=False, roles=["read_only_auditor"])
    metadata = (("authorization", f"Bearer {await plain_token(admin)}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel:
        stub: Any = AdminServiceStub(channel)
        listed = await stub.ListClients(admin_pb2.ListClientsRequest(), metadata=metadata)
        assert [client.id for client in listed.items] == [str(tenant.id)]
        rotate = admin_pb2.RotateApiKeyRequest(client_id=str(tenant.id))
        assert (await stub.RotateApiKey(rotate, metadata=metadata)).api_key.startswith("ask_")
        for call, request, sent, code in (
            (
                stub.RotateApiKey,
                admin_pb2.RotateApiKeyRequest(client_id=str(other.id)),
                metadata,
                "NOT_FOUND",
            ),
            (stub.CreateClient, admin_pb2.CreateClientRequest(name="x"), metadata, "PERMISSION_DENIED"),
            (
                stub.RotateApiKey,
                rotate,
                (("authorization", f"Bearer {await plain_token(auditor)}"),),
                "PERMISSION_DENIED",
            ),
            (
                stub.ListClients,
                admin_pb2.ListClientsRequest(),
                (("authorization", "Bearer x.y.z"),),
                "UNAUTHENTICATED",
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(request, metadata=sent)
            assert refused.value.code().name == code


async def test_tokens_when_identity_is_slow_to_say_then_share_nothing_stale(
    system: System, gateway: RunningGateway
) -> None:
    """A change while many ask: whatever was answered before, after it nothing opens."""
    admin = await new_admin(system, mfa_required=False)
    token = await plain_token(admin)

    async def suspend() -> None:
        answer = await gateway.client.patch(
            f"{USERS}/{admin.id}", headers={"X-Admin-Key": ADMIN_KEY}, json={"status": "suspended"}
        )
        assert answer.status_code == 200

    answers = await asyncio.gather(suspend(), *(status_of(gateway, token) for _ in range(20)))
    assert {answer for answer in answers if answer} <= {(200, ""), (401, "token_revoked")}
    assert await status_of(gateway, token) == (401, "token_revoked")
