"""Attacks on administration and the break-glass key (group A)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import pytest

from tests.e2e.stack import Stack, Tenant, eventually

CLIENTS = "/api/admin/clients"
WRONG_KEYS_ALLOWED = 30


@pytest.fixture
async def elsewhere() -> AsyncIterator[httpx.AsyncClient]:
    """A client at another address, so that what is counted against it is not counted against other tests."""
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.77")
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    async with httpx.AsyncClient(transport=transport, cookies=jar, timeout=30) as client:
        yield client


async def test_admin_key_when_guessed_then_is_limited_and_recorded(
    stack: Stack, elsewhere: httpx.AsyncClient
) -> None:
    """A-04: per address over both gateways; and who is limited cannot tell the right key from a wrong one."""
    statuses = []
    for number in range(WRONG_KEYS_ALLOWED + 5):
        guess = {"x-admin-key": f"aak_guess-{number}", "user-agent": "guesser"}
        answer = await elsewhere.get(stack.gateways[number % 2] + CLIENTS, headers=guess)
        statuses.append(answer.status_code)
    assert statuses == [401] * WRONG_KEYS_ALLOWED + [429] * 5
    assert int(answer.headers["retry-after"]) > 0
    right = await elsewhere.get(stack.gateways[0] + CLIENTS, headers=stack.admin.headers)
    assert right.status_code == 429
    assert (await stack.call("GET", CLIENTS, stack.admin)).status_code == 200

    async def recorded() -> bool:
        params = {"event_type": "admin_key_refused", "limit": 1000}
        events = (await stack.call("GET", "/api/admin/audit-events", stack.admin, params=params)).json()[
            "items"
        ]
        ours = [event for event in events if event["ip"] == "127.0.0.77"]
        assert "aak_guess" not in repr(ours)
        return bool(ours) and ours[0]["user_agent"] == "guesser" and ours[0]["actor"]["type"] == "anonymous"

    await eventually(recorded, within=10, what="the wrong keys are recorded")


async def test_admin_key_when_not_in_its_header_then_is_no_credential(stack: Stack, shop: Tenant) -> None:
    key = stack.admin.key
    for headers, params in (
        ({}, {"admin_key": key}),
        ({}, {"X-Admin-Key": key}),
        ({"cookie": f"x-admin-key={key}; admin_key={key}"}, {}),
        ({"authorization": f"Bearer {key}"}, {}),
        ({"x-api-key": key}, {}),
        ({"x-admin-key": ""}, {}),
        ({"x-admin-key": key[:-1]}, {}),
        ({"x-admin-key": key.upper()}, {}),
        (shop.headers, {}),
    ):
        answer = await stack.call("GET", CLIENTS, headers=headers, params=params)
        assert answer.status_code == 401, (headers.keys(), params.keys())
    twice = [("x-admin-key", key), ("x-admin-key", "aak_other")]
    assert (await stack.http.get(stack.gateways[0] + CLIENTS, headers=twice)).status_code == 400


async def test_client_when_patched_with_what_is_not_offered_then_stays(stack: Stack, shop: Tenant) -> None:
    """A-05."""
    path = f"{CLIENTS}/{shop.id}"
    neighbour = await stack.tenant()
    wanted = {
        "id": neighbour.id,
        "api_key": "ask_known",
        "api_key_hash": "00",
        "publishable_key": "apk_known",
        "jwt_secret": "known",
        "created_at": "2020-01-01T00:00:00Z",
        "name": "Renamed",
    }
    patched = await stack.call("PATCH", path, stack.admin, json=wanted)
    assert patched.status_code == 200, patched.text
    changed = {name for name, value in patched.json().items() if value != shop.document[name]}
    assert changed == {"name", "updated_at"}
    assert (
        await stack.call("POST", "/api/auth/logout", headers={"x-api-key": "ask_known"})
    ).status_code == 401
    downgrade = await stack.call("PATCH", path, stack.admin, json={"token_mode": "v1_hs256"})
    assert (downgrade.status_code, downgrade.json()["code"]) == (409, "token_mode_downgrade")
    for caller in (shop, await stack.sign_up(shop), None):
        answer = await stack.call("PATCH", path, caller, json={"status": "suspended"})
        assert answer.status_code == 401


async def test_api_key_when_created_without_the_right_then_is_401(stack: Stack, shop: Tenant) -> None:
    """A-06."""
    user = await stack.sign_up(shop)
    body = {"name": "mine", "kind": "secret", "client_id": shop.id, "userId": user.user_id}
    for caller in (None, shop, user):
        for path in (f"{CLIENTS}/{shop.id}/api-keys", f"{CLIENTS}/{shop.id}/rotate-api-key", CLIENTS):
            answer = await stack.call("POST", path, caller, json=body)
            assert answer.status_code == 401, (path, answer.text)
    made = await stack.call("POST", f"{CLIENTS}/{shop.id}/api-keys", stack.admin, json=body)
    assert made.status_code == 201, made.text


async def test_secrets_when_read_again_then_are_not_there(stack: Stack) -> None:
    """A-09."""
    secret = {"google": {"client_secret": "GOCSPX-very-secret"}, "smtp_password": "very-secret-too"}
    tenant = await stack.tenant(settings={"oauth_providers": secret, "brand": "Lamp"})
    made = await stack.call(
        "POST", f"{CLIENTS}/{tenant.id}/api-keys", stack.admin, json={"name": "b", "kind": "secret"}
    )
    key = made.json()["api_key"]
    assert isinstance(key, str)
    assert key.startswith("ask_")
    for path in (CLIENTS, f"{CLIENTS}/{tenant.id}", f"{CLIENTS}/{tenant.id}/api-keys"):
        answer = await stack.call(
            "GET", path, stack.admin, params={"limit": 100} if path != f"{CLIENTS}/{tenant.id}" else {}
        )
        assert answer.status_code == 200
        for value in (tenant.api_key, tenant.publishable_key, key, "very-secret"):
            assert value not in answer.text, path
    hashed = await stack.sql(
        "orgs", "SELECT count(*) FROM api_keys WHERE api_keys::text LIKE $1", f"%{tenant.api_key}%"
    )
    assert hashed[0]["count"] == 0


@pytest.mark.parametrize("path", [CLIENTS, "/api/admin/audit-events"])
async def test_cursor_when_tampered_with_then_is_400(stack: Stack, path: str) -> None:
    """A-08."""
    for _ in range(3):
        await stack.tenant()
    params = {"limit": 1}
    first = await stack.call("GET", path, stack.admin, params=params)
    cursor = first.json()["next_cursor"]
    second = await stack.call("GET", path, stack.admin, params={**params, "cursor": cursor})
    assert second.status_code == 200, second.text
    assert second.json()["items"] != first.json()["items"]
    other = {CLIENTS: "/api/admin/audit-events", "/api/admin/audit-events": CLIENTS}[path]
    foreign = (await stack.call("GET", other, stack.admin, params=params)).json()["next_cursor"]
    middle = len(cursor) // 2
    flipped = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1 :]
    injected = base64.urlsafe_b64encode(json.dumps(["' OR 1=1 --", 1]).encode()).decode()
    for tampered in (flipped, cursor[:-2], cursor + "AA", foreign, injected, "x", "\N{SNOWMAN}"):
        answer = await stack.call("GET", path, stack.admin, params={**params, "cursor": tampered})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), tampered


async def test_open_pages_when_read_by_anybody_then_name_no_tenant(stack: Stack) -> None:
    """A-10, G-13."""
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    await stack.call("GET", "/api/auth/me", user)
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/docs/openapi.json", "/docs/openapi.yaml"):
        answer = await stack.call("GET", path)
        assert answer.status_code == 200, path
        for value in (
            tenant.id,
            user.user_id,
            user.email,
            "example.com:8443",
            "postgresql://",
            "nats://",
            "redis://",
        ):
            assert value not in answer.text, (path, value)
    assert (await stack.call("GET", "/healthz")).json() == {"status": "ok"}
    ready = (await stack.call("GET", "/readyz")).json()
    assert all(name in json.dumps(ready) for name in ("identity", "token", "orgs", "federation", "audit"))


async def test_unknown_path_when_asked_then_reaches_no_service(stack: Stack, shop: Tenant) -> None:
    user = await stack.sign_up(shop)
    for path in (
        "/",
        "/api",
        "/api/auth",
        "/api/auth/unknown",
        "/api/admin/unknown",
        "/.env",
        "/openapi.json",
        "/dev",
    ):
        for caller in (None, user, stack.admin):
            answer = await stack.call("GET", path, caller)
            assert answer.status_code == 404, path
            assert answer.json()["code"] == "not_found"
