"""Valkey, NATS and PostgreSQL go away in turn: what still works, what is refused and how it heals."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import httpx
import pytest
import redis.asyncio as redis

from local.servers import await_ready
from tests.chaos.conftest import LOGINS_PER_MINUTE
from tests.e2e.stack import PASSWORD, Caller, Login, Stack, Tenant, eventually

RECOVERED_WITHIN = 10.0
REVOKED_WITHIN = 2.0
LOCKOUT_THRESHOLD = 5


async def attempt(
    stack: Stack, tenant: Tenant, email: str, password: str = PASSWORD, *, key: str | None = None
) -> httpx.Response:
    """Try to log in."""
    body = {"email": email, "password": password, "token_transport": "json"}
    headers = {"x-api-key": key} if key else {}
    return await stack.call("POST", "/api/auth/login", tenant, json=body, headers=headers)


def pids(stack: Stack) -> dict[str, int]:
    """The process ids; the same afterwards means that nothing was restarted."""
    return {name: process.pid for name, process in stack.system.processes.items() if process.is_running}


async def test_valkey_when_away_then_sessions_work_and_no_limit_is_lost(stack: Stack, shop: Tenant) -> None:
    """F-01."""
    user = await stack.sign_up(shop)
    running = pids(stack)
    valkey = stack.system.servers.valkey
    assert valkey is not None
    valkey.kill()

    again = await stack.log_in(user)
    assert (await stack.call("GET", "/api/auth/me", again)).status_code == 200
    assert (await stack.validate(again.access_token, shop.api_key)).valid
    assert (await stack.refresh(shop, again.refresh_token)).status_code == 200
    await stack.sign_up(shop)

    wrong = [
        (await attempt(stack, shop, user.email, f"wrong-{number}")).status_code
        for number in range(LOCKOUT_THRESHOLD + 3)
    ]
    assert wrong == [401] * LOCKOUT_THRESHOLD + [429] * 3, "lockouts are PostgreSQL's"
    assert await until_limited(stack, shop) <= LOGINS_PER_MINUTE

    valkey.start()
    await_ready([valkey])
    assert (await stack.refresh(shop, user.refresh_token)).status_code == 200
    assert await until_limited(stack, await stack.tenant()) <= LOGINS_PER_MINUTE
    assert pids(stack) == running


async def until_limited(stack: Stack, tenant: Tenant) -> int:
    """How many logins a gateway lets a browser try before it is rate limited."""
    for number in range(2 * LOGINS_PER_MINUTE):
        answer = await attempt(stack, tenant, f"guess-{number}@example.org", "x", key=tenant.publishable_key)
        if answer.status_code == 429:
            assert answer.json()["code"] == "rate_limited"
            assert int(answer.headers["retry-after"]) > 0
            return number
        assert answer.status_code == 401, answer.text
    raise AssertionError("never limited")


async def test_valkey_when_flushed_then_used_tokens_and_lockouts_stay(stack: Stack, shop: Tenant) -> None:
    """F-02, O-17."""
    user = await stack.sign_up(shop)
    ended = await stack.log_in(user)
    first = Login.of(shop, await stack.refresh(shop, user.refresh_token))
    second = Login.of(shop, await stack.refresh(shop, first.refresh_token))
    assert (await stack.call("DELETE", f"/api/auth/sessions/{ended.session_id}", second)).status_code == 204
    locked = await stack.sign_up(shop)
    for number in range(LOCKOUT_THRESHOLD):
        await attempt(stack, shop, locked.email, f"wrong-{number}")
    async with redis.from_url(stack.system.servers.redis_url) as client:
        await client.flushall()
    assert (await attempt(stack, shop, locked.email)).status_code == 429
    assert (await stack.refresh(shop, ended.refresh_token)).status_code == 401
    assert (await stack.refresh(shop, user.refresh_token)).status_code == 401
    assert (await stack.refresh(shop, second.refresh_token)).status_code == 401, (
        "the family died of the reuse"
    )


async def test_nats_when_away_under_load_then_nothing_is_refused_and_nothing_lost(
    stack: Stack, shop: Tenant
) -> None:
    """F-05: events wait in the outbox; revocations reach the gateways without NATS."""
    user = await stack.sign_up(shop)
    running = pids(stack)
    nats = stack.system.servers.nats
    assert nats is not None
    nats.kill()

    async def work(number: int) -> list[str]:
        one = await stack.sign_up(shop, gateway=number % 2)
        two = await stack.log_in(one, gateway=number % 2)
        answer = await stack.refresh(shop, two.refresh_token)
        assert answer.status_code == 200, answer.text
        return [one.user_id, two.session_id]

    done = await asyncio.gather(*(work(number) for number in range(15)))
    ended = await stack.log_in(user)
    assert (await stack.call("GET", "/api/auth/me", ended, gateway=1)).status_code == 200
    assert (await stack.call("DELETE", f"/api/auth/sessions/{ended.session_id}", user)).status_code == 204
    assert not (await stack.validate(ended.access_token, shop.api_key)).valid

    async def refused() -> bool:
        return (await stack.call("GET", "/api/auth/me", ended, gateway=1)).status_code == 401

    await eventually(refused, within=REVOKED_WITHIN, what="a revocation without NATS")
    rotated = await stack.call("POST", f"/api/admin/clients/{shop.id}/rotate-secret", stack.admin)
    assert rotated.status_code == 200, rotated.text

    nats.start()
    await_ready([nats])
    expected = Counter(user_created=16, login_succeeded=16, session_opened=32, session_refreshed=15)

    async def all_recorded() -> bool:
        found = Counter(event["type"] for event in await stack.events(shop.id))
        assert not {name: found[name] for name in expected if found[name] > expected[name]}, "recorded twice"
        return all(found[name] == expected[name] for name in expected)

    await eventually(all_recorded, within=20, what="the outboxes have drained")
    created = {event["target"]["id"] for event in await stack.events(shop.id, event_type="user_created")}
    assert {one for one, _ in done} < created
    assert (await stack.verify_chain(shop.id))["intact"] is True
    assert pids(stack) == running


async def test_postgres_when_away_then_tokens_are_still_judged_and_all_else_is_503(
    stack: Stack, shop: Tenant
) -> None:
    """F-03: never a 500, told when to come back, and back within seconds without a restart."""
    user = await stack.sign_up(shop)
    ended = await stack.log_in(user)
    assert (await stack.call("DELETE", f"/api/auth/sessions/{ended.session_id}", user)).status_code == 204
    jwks = {"client_id": shop.id}
    for gateway in (0, 1):
        assert (await stack.call("GET", "/api/auth/me", user, gateway=gateway)).status_code == 200
        assert (await stack.validate(user.access_token, shop.api_key, gateway=gateway)).valid
        answer = await stack.call("GET", "/.well-known/jwks.json", gateway=gateway, params=jwks)
        assert answer.status_code == 200
    running = pids(stack)
    postgres = stack.system.servers.postgres
    assert postgres is not None
    postgres.kill()

    began = time.monotonic()
    for method, path, caller, body in (
        ("POST", "/api/auth/login", shop, {"email": user.email, "password": PASSWORD}),
        ("POST", "/api/auth/signup", shop, {"email": "late@example.org", "password": PASSWORD}),
        ("POST", "/api/auth/refresh", shop, {"refresh_token": user.refresh_token}),
        ("GET", "/api/auth/me", user, None),
        ("GET", "/api/auth/sessions", user, None),
        ("GET", "/api/admin/clients", stack.admin, None),
        ("GET", "/api/admin/audit-events", stack.admin, None),
    ):
        for gateway in (0, 1):
            answer = await stack.call(method, path, caller, gateway=gateway, json=body)
            assert answer.status_code == 503, (path, answer.text)
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["code"]
            for leaked in ("postgres", "asyncpg", "connection refused", "127.0.0.1", "traceback"):
                assert leaked not in answer.text.lower()
    assert time.monotonic() - began < 14 * 5, "the refusals came slowly"

    for gateway in (0, 1):
        assert (await stack.validate(user.access_token, shop.api_key, gateway=gateway)).valid
        assert not (await stack.validate(ended.access_token, shop.api_key, gateway=gateway)).valid
        known = await stack.call("GET", "/.well-known/jwks.json", gateway=gateway, params=jwks)
        assert known.status_code == 200
        forged = {**user.headers, "authorization": f"Bearer {user.access_token[:-9]}AAAAAAAAA"}
        assert (await stack.call("GET", "/api/auth/me", gateway=gateway, headers=forged)).status_code == 401
        assert (await stack.call("GET", "/healthz", gateway=gateway)).status_code == 200
    for service in ("identity", "token", "orgs", "audit"):
        base = stack.processes(service)[0].url
        ready = await stack.call("GET", "/readyz", base=base)
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"] == "away"

    postgres.start()
    await_ready([postgres])
    back = time.monotonic()

    async def recovered() -> bool:
        body = {"email": user.email, "password": PASSWORD}
        answers = [
            await stack.call("POST", "/api/auth/login", shop, gateway=gateway % 2, json=body)
            for gateway in range(4)
        ]
        assert {answer.status_code for answer in answers} <= {200, 503}
        return all(answer.status_code == 200 for answer in answers)

    await eventually(recovered, within=RECOVERED_WITHIN, what="logins after PostgreSQL came back")
    left = RECOVERED_WITHIN - (time.monotonic() - back)

    async def all_recovered() -> bool:
        answers = [
            await stack.call("GET", "/api/auth/me", user),
            await stack.call("GET", "/api/auth/sessions", user),
            await stack.call("GET", "/api/admin/clients", stack.admin),
            await stack.call("GET", "/api/admin/audit-events", stack.admin),
        ]
        return all(answer.status_code == 200 for answer in answers)

    await eventually(all_recovered, within=max(left, 0.1), what="everything after PostgreSQL came back")
    assert (await stack.refresh(shop, user.refresh_token)).status_code == 200
    await stack.event(shop.id, "session_refreshed")
    assert (await stack.verify_chain(shop.id))["intact"] is True
    assert pids(stack) == running


@pytest.mark.parametrize("service", ["identity", "token", "orgs", "audit"])
async def test_service_when_away_then_only_its_routes_are_503(
    stack: Stack, shop: Tenant, service: str
) -> None:
    """One service down is one service down."""
    user = await stack.sign_up(shop)
    for gateway in (0, 1):
        assert (await stack.call("GET", "/api/auth/me", user, gateway=gateway)).status_code == 200
    for process in stack.processes(service):
        process.kill()
    probes: dict[str, tuple[str, str, Caller]] = {
        "identity": ("GET", "/api/auth/me", user),
        "token": ("GET", "/api/auth/sessions", user),
        "orgs": ("GET", "/api/admin/clients", stack.admin),
        "audit": ("GET", "/api/admin/audit-events", stack.admin),
    }
    for gateway in (0, 1):
        for owner, (method, path, caller) in probes.items():
            answer = await stack.call(method, path, caller, gateway=gateway)
            if owner == service:
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "service_unavailable"
                assert int(answer.headers["retry-after"]) > 0
            else:
                assert answer.status_code == 200, (owner, answer.text)
        assert (await stack.call("GET", "/healthz", gateway=gateway)).status_code == 200
