"""Who may call what: each class with its credential, and each refusal with its control."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from chassis.context import Access, KeyKind, verify_context
from chassis.internal_keys import InternalKeys
from contracts.topology import pairs_of
from gateway.tests.echo import Echo
from gateway.tests.people import sign_up
from gateway.tests.running import ADMIN_KEY, RunningGateway
from tests.harness import ORIGIN, System, Tenant

EVIL = "https://evil.example"


def _caller(system: System, echo: Echo) -> Any:
    """The caller that the echo was told, checked as a service checks it."""
    last = echo.last()
    header = last.header("x-auth-context")
    assert header is not None
    key = InternalKeys.derive(system.root_key, pairs_of("gateway")).key("gateway", "identity")
    return verify_context(header.encode(), key, last.method, last.target)


async def test_public_route_is_nobodys(system: System, echo_gateway: RunningGateway, echo: Echo) -> None:
    answer = await echo_gateway.client.get("/echo/public?a=1", headers={"User-Agent": "agent/1"})

    assert answer.status_code == 200
    caller = _caller(system, echo)
    assert (caller.access, caller.client_id, caller.user_agent) == (Access.PUBLIC, None, "agent/1")
    assert caller.ip == "127.0.0.1"
    assert caller.request_id == answer.headers["x-request-id"]


async def test_public_route_is_narrowed_by_a_key(
    system: System, echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    good = await echo_gateway.client.get("/echo/public", headers={"X-API-Key": tenant.publishable_key})
    assert (good.status_code, _caller(system, echo).client_id) == (200, tenant.id)

    bad = await echo_gateway.client.get("/echo/public", headers={"X-API-Key": "apk_" + "x" * 43})
    assert (bad.status_code, bad.json()["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("kind", [KeyKind.SECRET, KeyKind.PUBLISHABLE])
async def test_api_key_names_the_client(
    system: System, echo_gateway: RunningGateway, echo: Echo, tenant: Tenant, kind: KeyKind
) -> None:
    key = tenant.api_key if kind is KeyKind.SECRET else tenant.publishable_key

    answer = await echo_gateway.client.get("/echo/key", headers={"X-API-Key": key, "Origin": ORIGIN})

    assert answer.status_code == 200
    caller = _caller(system, echo)
    assert (caller.access, caller.client_id, caller.key_kind) == (Access.API_KEY, tenant.id, kind)
    assert (caller.origin, caller.user_id) == (ORIGIN, None)


@pytest.mark.parametrize(
    "key", [None, "", "ask_", "ask_" + "x" * 43, "ask_\xfc", "bearer", "ask_" + "a" * 5000]
)
async def test_bad_api_key_is_401(echo_gateway: RunningGateway, echo: Echo, key: str | None) -> None:
    before = len(echo.arrived)

    sent = [] if key is None else [(b"X-API-Key", key.encode("latin-1"))]
    answer = await echo_gateway.client.get("/echo/key", headers=sent)

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert len(echo.arrived) == before


async def test_api_key_is_not_taken_from_query_cookie_or_basic(
    echo_gateway: RunningGateway, tenant: Tenant
) -> None:
    key = tenant.api_key
    basic = base64.b64encode(f"{key}:".encode()).decode()
    for url, headers in (
        (f"/echo/key?api_key={key}", {}),
        ("/echo/key", {"Cookie": f"X-API-Key={key}"}),
        ("/echo/key", {"Authorization": f"Basic {basic}"}),
        ("/echo/key", {"Authorization": f"Bearer {key}"}),
    ):
        answer = await echo_gateway.client.get(url, headers=headers)
        assert answer.status_code == 401, (url, headers)


async def test_publishable_key_needs_an_allowed_origin_when_one_is_sent(
    system: System, echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    key = {"X-API-Key": tenant.publishable_key}
    before = len(echo.arrived)

    for origin in (EVIL, "null", f"{ORIGIN}.evil.example", "https://evil" + ORIGIN[8:], ORIGIN.upper()):
        refused = await echo_gateway.client.get("/echo/key", headers={**key, "Origin": origin})
        assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed"), origin
        assert "access-control-allow-origin" not in refused.headers
    assert len(echo.arrived) == before

    assert (await echo_gateway.client.get("/echo/key", headers=key)).status_code == 200
    assert (await echo_gateway.client.get("/echo/key", headers={**key, "Origin": ORIGIN})).status_code == 200


async def test_secret_key_of_another_origin_gets_no_origin(
    system: System, echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    answer = await echo_gateway.client.get("/echo/key", headers={"X-API-Key": tenant.api_key, "Origin": EVIL})

    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert _caller(system, echo).origin is None


@pytest.mark.parametrize("mode", ["v1_hs256", "v2_jwks", "v3_es256", "v3_eddsa"])
async def test_access_token_names_the_user(
    system: System, gateway: RunningGateway, echo_gateway: RunningGateway, echo: Echo, mode: str
) -> None:
    tenant = await system.tenant(token_mode=mode)
    person = await sign_up(gateway, tenant)

    for _ in range(2):
        answer = await echo_gateway.client.get("/echo/user", headers=person.headers)
        assert answer.status_code == 200, answer.text
        caller = _caller(system, echo)
        assert (caller.access, str(caller.user_id)) == (Access.USER, person.id)
        assert (str(caller.session_id), caller.client_id) == (person.session_id, tenant.id)
        assert (caller.role, caller.email, caller.amr) == ("user", person.email, ("pwd",))
    assert echo.last().header("authorization") is None


def _tampered(token: str, **claims: object) -> str:
    header, payload, signature = token.split(".")
    members = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    changed = base64.urlsafe_b64encode(json.dumps({**members, **claims}).encode()).decode().rstrip("=")
    return f"{header}.{changed}.{signature}"


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_forged_token_is_401(
    system: System, gateway: RunningGateway, echo_gateway: RunningGateway, echo: Echo, mode: str
) -> None:
    tenant = await system.tenant(token_mode=mode)
    person = await sign_up(gateway, tenant)
    token = person.access_token
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt","kid":"x"}').decode().rstrip("=")
    payload = token.split(".")[1]
    before = len(echo.arrived)

    for forged in (
        "x",
        "..",
        token[:-2],
        token + "=",
        token + ".",
        f"{none}.{payload}.",
        f"{none}.{payload}.{token.split('.')[2]}",
        _tampered(token, sub="0191f3a0-0000-7000-8000-000000000001"),
        _tampered(token, role="admin"),
        "a" * 20_000,
    ):
        answer = await echo_gateway.client.get(
            "/echo/user", headers={**person.headers, "Authorization": f"Bearer {forged}"}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), forged[:80]
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert len(echo.arrived) == before
    assert (await echo_gateway.client.get("/echo/user", headers=person.headers)).status_code == 200


async def test_missing_token_is_401_with_a_plain_challenge(
    echo_gateway: RunningGateway, tenant: Tenant
) -> None:
    answer = await echo_gateway.client.get("/echo/user", headers={"X-API-Key": tenant.api_key})

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_token_of_another_client_is_401(
    system: System, gateway: RunningGateway, echo_gateway: RunningGateway, tenant: Tenant
) -> None:
    other = await system.tenant()
    person, stranger = await sign_up(gateway, tenant), await sign_up(gateway, other)

    for key, token in ((tenant.api_key, stranger.access_token), (other.api_key, person.access_token)):
        answer = await echo_gateway.client.get(
            "/echo/user", headers={"X-API-Key": key, "Authorization": f"Bearer {token}"}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    # A verdict that was cached under one client says nothing under the other.
    assert (await echo_gateway.client.get("/echo/user", headers=person.headers)).status_code == 200
    assert (await echo_gateway.client.get("/echo/user", headers=stranger.headers)).status_code == 200


async def test_token_without_the_key_is_401(gateway: RunningGateway, tenant: Tenant) -> None:
    person = await sign_up(gateway, tenant)

    answer = await gateway.client.get(
        "/api/auth/me", headers={"Authorization": f"Bearer {person.access_token}"}
    )

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_revoked_session_is_refused_within_a_second(
    system: System, gateway: RunningGateway, echo_gateway: RunningGateway, mode: str
) -> None:
    tenant = await system.tenant(token_mode=mode)
    person = await sign_up(gateway, tenant)
    for door in (gateway, echo_gateway):
        path = "/api/auth/me" if door is gateway else "/echo/user"
        assert (await door.client.get(path, headers=person.headers)).status_code == 200

    ended = await gateway.client.delete("/api/auth/sessions", headers=person.headers)
    assert ended.status_code == 204, ended.text

    async with asyncio.timeout(1):
        for door, path in ((gateway, "/api/auth/me"), (echo_gateway, "/echo/user")):
            while (await door.client.get(path, headers=person.headers)).status_code != 401:
                await asyncio.sleep(0.02)
    refused = await echo_gateway.client.get("/echo/user", headers=person.headers)
    assert refused.json()["code"] == "token_revoked"


async def test_suspended_client_is_401_at_once(
    system: System, gateway: RunningGateway, tenant: Tenant
) -> None:
    person = await sign_up(gateway, tenant)
    assert (await gateway.client.get("/api/auth/me", headers=person.headers)).status_code == 200

    await gateway.client.patch(
        f"/api/admin/clients/{tenant.id}", headers={"X-Admin-Key": ADMIN_KEY}, json={"status": "suspended"}
    )

    async with asyncio.timeout(1):
        while (await gateway.client.get("/api/auth/me", headers=person.headers)).status_code != 401:
            await asyncio.sleep(0.02)


async def test_admin_key_opens_admin_routes(system: System, echo_gateway: RunningGateway, echo: Echo) -> None:
    answer = await echo_gateway.client.get("/echo/admin", headers={"X-Admin-Key": ADMIN_KEY})

    assert answer.status_code == 200
    caller = _caller(system, echo)
    assert (caller.access, caller.is_break_glass) == (Access.ADMIN, True)
    assert echo.last().header("x-admin-key") is None


async def test_admin_route_refuses_everything_else(
    gateway: RunningGateway, echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    person = await sign_up(gateway, tenant)
    before = len(echo.arrived)

    for url, headers in (
        ("/echo/admin", {}),
        ("/echo/admin", {"X-Admin-Key": ""}),
        ("/echo/admin", {"X-Admin-Key": ADMIN_KEY[:-1]}),
        ("/echo/admin", {"X-Admin-Key": ADMIN_KEY + " x"}),
        ("/echo/admin", {"X-Admin-Key": "ü" * 10}),
        (f"/echo/admin?admin_key={ADMIN_KEY}", {}),
        ("/echo/admin", {"Cookie": f"X-Admin-Key={ADMIN_KEY}"}),
        ("/echo/admin", {"Authorization": f"Basic {ADMIN_KEY}"}),
        ("/echo/admin", {"X-API-Key": tenant.api_key}),
        ("/echo/admin", {"X-API-Key": tenant.publishable_key}),
    ):
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        answer = await echo_gateway.client.get(url, headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_admin_key"), (url, headers)
    for headers in ({"Authorization": f"Bearer {ADMIN_KEY}"}, person.headers):
        answer = await echo_gateway.client.get("/echo/admin", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert len(echo.arrived) == before


async def test_wrong_admin_key_is_audited_with_its_address(
    system: System, echo_gateway: RunningGateway
) -> None:
    answer = await echo_gateway.client.get("/echo/admin", headers={"X-Admin-Key": "wrong"})
    assert answer.status_code == 401

    request_id = answer.headers["x-request-id"]
    async with asyncio.timeout(10):
        while not (found := [event for event in system.events if event.request_id == request_id]):
            await asyncio.sleep(0.05)
    event = found[0]
    assert (event.type, event.service, event.ip) == ("admin_key_refused", "gateway", "127.0.0.1")
    assert event.data == {"method": "GET", "path": "/echo/admin"}
    assert event.actor_type == "anonymous"


async def test_refused_api_key_is_audited_without_the_key(
    system: System, echo_gateway: RunningGateway
) -> None:
    key = "ask_" + "y" * 43
    answer = await echo_gateway.client.get(
        "/echo/key?secret=1", headers={"X-API-Key": key, "X-Forwarded-For": "198.51.100.9"}
    )
    assert answer.status_code == 401

    request_id = answer.headers["x-request-id"]
    async with asyncio.timeout(10):
        while not (found := [event for event in system.events if event.request_id == request_id]):
            await asyncio.sleep(0.05)
    assert (found[0].type, found[0].ip) == ("credential_refused", "198.51.100.9")
    assert found[0].data == {"reason": "invalid_api_key", "method": "GET", "path": "/echo/key"}
    assert key.encode() not in found[0].encode()
