"""Valkey, NATS and PostgreSQL go away in turn: what still works, what is refused and how it heals."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest
import redis.asyncio as redis

from contracts.topology import SERVICES
from local.servers import await_ready
from tests.chaos.conftest import LOGINS_PER_MINUTE
from tests.e2e.stack import PASSWORD, Caller, Login, Stack, Tenant, eventually

RECOVERED_WITHIN = 10.0
REVOKED_WITHIN = 2.0
QUICKLY = 3.0
"""Seconds until an absent service is told: the gateway gives one that starts anew one second."""
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

    created = await asyncio.gather(*(work(stack, shop, number % 2) for number in range(15)))
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
    # A sign-up is the first login.
    expected = Counter(user_created=16, login_succeeded=32, session_opened=32, session_refreshed=15)

    async def all_recorded() -> bool:
        found = Counter(event["type"] for event in await stack.events(shop.id))
        assert not {name: found[name] for name in expected if found[name] > expected[name]}, "recorded twice"
        return all(found[name] == expected[name] for name in expected)

    await eventually(all_recorded, within=20, what="the outboxes have drained")
    recorded = await stack.events(shop.id, event_type="user_created")
    assert {*created, user.user_id} == {event["target"]["id"] for event in recorded}
    assert (await stack.verify_chain(shop.id))["intact"] is True
    assert pids(stack) == running


async def work(stack: Stack, shop: Tenant, gateway: int) -> str:
    """Sign up, log in, refresh; answers the user's id."""
    user = await stack.log_in(await stack.sign_up(shop, gateway=gateway), gateway=gateway)
    answer = await stack.refresh(shop, user.refresh_token, gateway=gateway)
    assert answer.status_code == 200, answer.text
    return user.user_id


async def test_postgres_when_away_then_tokens_are_still_judged_and_all_else_is_503(
    stack: Stack, shop: Tenant
) -> None:
    """F-03: never a 500, told when to come back, and back within seconds without a restart."""
    user = await stack.sign_up(shop)
    ended = await stack.log_in(user)
    assert (await stack.call("DELETE", f"/api/auth/sessions/{ended.session_id}", user)).status_code == 204
    for gateway in (0, 1):
        assert (await stack.call("GET", "/api/auth/me", user, gateway=gateway)).status_code == 200
        await assert_judged(stack, user, ended, gateway)
    # Each of the two token processes publishes what it has known: both are asked before.
    parameters = {"client_id": user.tenant.id}
    for number in range(20):
        await stack.call("GET", "/.well-known/jwks.json", gateway=number % 2, params=parameters)
    running = pids(stack)
    postgres = stack.system.servers.postgres
    assert postgres is not None
    postgres.kill()

    for gateway in (0, 1):
        await assert_refused_for_now(stack, user, gateway)
        await assert_judged(stack, user, ended, gateway)
        assert (await stack.call("GET", "/healthz", gateway=gateway)).status_code == 200
    for service in SERVICES:
        ready = await stack.call("GET", "/readyz", base=stack.processes(service)[0].url)
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"] == "away"

    postgres.start()
    await_ready([postgres])
    await eventually(
        lambda: all_answer(stack, user), within=RECOVERED_WITHIN, what="everything after PostgreSQL came back"
    )
    assert (await stack.refresh(shop, user.refresh_token)).status_code == 200
    await stack.event(shop.id, "session_refreshed")
    assert (await stack.verify_chain(shop.id))["intact"] is True
    assert pids(stack) == running


async def assert_refused_for_now(stack: Stack, user: Login, gateway: int) -> None:
    """Whatever needs the database is 503 before the gateway's own patience ends, and tells nothing of why."""
    shop = user.tenant
    requests: list[tuple[str, str, Caller, object]] = [
        ("POST", "/api/auth/login", shop, {"email": user.email, "password": PASSWORD}),
        ("POST", "/api/auth/signup", shop, {"email": "late@example.org", "password": PASSWORD}),
        ("POST", "/api/auth/refresh", shop, {"refresh_token": user.refresh_token}),
        ("GET", "/api/auth/me", user, None),
        ("GET", "/api/auth/sessions", user, None),
        ("GET", "/api/admin/clients", stack.admin, None),
        ("GET", "/api/admin/audit-events", stack.admin, None),
    ]
    for method, path, caller, body in requests:
        answer = await stack.call(method, path, caller, gateway=gateway, json=body, timeout=10)
        assert answer.status_code == 503, (path, answer.text)
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"]
        for leaked in ("postgres", "asyncpg", "connection refused", "127.0.0.1", "traceback"):
            assert leaked not in answer.text.lower()


async def assert_judged(stack: Stack, user: Login, ended: Login, gateway: int) -> None:
    """Tokens are told good from bad, and keys are published, whatever is away."""
    api_key = user.tenant.api_key
    assert (await stack.validate(user.access_token, api_key, gateway=gateway)).valid
    assert not (await stack.validate(ended.access_token, api_key, gateway=gateway)).valid
    parameters = {"client_id": user.tenant.id}
    known = await stack.call("GET", "/.well-known/jwks.json", gateway=gateway, params=parameters)
    assert known.status_code == 200
    forged = {**user.headers, "authorization": f"Bearer {user.access_token[:-9]}AAAAAAAAA"}
    assert (await stack.call("GET", "/api/auth/me", gateway=gateway, headers=forged)).status_code == 401


async def all_answer(stack: Stack, user: Login) -> bool:
    """Whether everything works again at both gateways; until then it is 503 and nothing else."""
    body = {"email": user.email, "password": PASSWORD}
    statuses = set()
    for gateway in (0, 1):
        login = await stack.call("POST", "/api/auth/login", user.tenant, gateway=gateway, json=body)
        statuses.add(login.status_code)
        asked: list[tuple[str, Caller]] = [
            ("/api/auth/me", user),
            ("/api/auth/sessions", user),
            ("/api/admin/clients", stack.admin),
            ("/api/admin/audit-events", stack.admin),
        ]
        for path, caller in asked:
            statuses.add((await stack.call("GET", path, caller, gateway=gateway)).status_code)
    assert statuses <= {200, 503}
    return statuses == {200}


@pytest.mark.parametrize("service", SERVICES)
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
        "federation": ("GET", "/api/auth/consents", user),
        "audit": ("GET", "/api/admin/audit-events", stack.admin),
    }
    for gateway in (0, 1):
        for owner, (method, path, caller) in probes.items():
            answer = await stack.call(method, path, caller, gateway=gateway)
            if owner == service:
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "service_unavailable"
                assert answer.elapsed.total_seconds() < QUICKLY
                assert int(answer.headers["retry-after"]) > 0
            else:
                assert answer.status_code == 200, (owner, answer.text)
        assert (await stack.call("GET", "/healthz", gateway=gateway)).status_code == 200
