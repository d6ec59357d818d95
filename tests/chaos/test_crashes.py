"""kill -9 of every process under load: what was answered is true, once, and recorded (F-06)."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from tests.chaos.load import Actor, Ledger, Standing, User
from tests.e2e.stack import Stack, Tenant, eventually

ACTORS = 6
OPERATIONS = 300
BETWEEN_KILLS = 12
DRAINED_WITHIN = 30.0
SEED = 20261124


@pytest.mark.timeout(240)
async def test_processes_when_killed_under_load_then_all_that_was_answered_holds(stack: Stack) -> None:
    tenants = [await stack.tenant() for _ in range(2)]
    ledger = Ledger()
    done = asyncio.Event()
    actors = [
        Actor(stack, tenants[number % len(tenants)], ledger, SEED + number).act(
            lambda: done.is_set() and ledger.operations >= OPERATIONS
        )
        for number in range(ACTORS)
    ]
    async with asyncio.TaskGroup() as group:
        for actor in actors:
            group.create_task(actor)
        await kill_each(stack, ledger)
        done.set()
    await asyncio.to_thread(stack.system.await_ready)

    assert ledger.faults == []
    assert len(ledger.promised) > OPERATIONS / 3, "hardly anything was done"
    for user in ledger.users:
        await assert_holds(stack, user)
    for tenant in tenants:
        await assert_recorded(stack, tenant, ledger)


async def kill_each(stack: Stack, ledger: Ledger) -> None:
    """Kill every process once, in random order, in the midst of work, and start it again."""
    names = list(stack.system.processes)
    random.Random(SEED).shuffle(names)
    for name in names:
        seen = ledger.operations

        async def worked(seen: int = seen) -> bool:
            return ledger.operations >= seen + BETWEEN_KILLS

        await eventually(worked, within=30, what=f"work goes on before {name} is killed")
        process = stack.system.process(name)
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(stack.system.await_ready, [name])


async def assert_holds(stack: Stack, user: User) -> None:
    """The user can log in, and each session is as it was last answered to be."""
    tenant = user.login.tenant
    statuses = []
    for password in user.passwords:
        body = {"email": user.login.email, "password": password, "token_transport": "json"}
        answer = await stack.call("POST", "/api/auth/login", tenant, json=body)
        statuses.append(answer.status_code)
    assert sorted(statuses) == [200] + [401] * (len(statuses) - 1), "not one good password"
    for session in user.sessions:
        login = session.login
        if session.standing is Standing.OPEN:
            assert (await stack.call("GET", "/api/auth/me", login)).status_code == 200
            listed = await stack.call("GET", "/api/auth/sessions", login)
            assert login.session_id in {one["id"] for one in listed.json()["items"]}
            assert (await stack.refresh(tenant, login.refresh_token)).status_code == 200
        elif session.standing is Standing.ENDED:
            assert (await stack.refresh(tenant, login.refresh_token)).status_code == 401
            assert not (await stack.validate(login.access_token, tenant.api_key)).valid


async def assert_recorded(stack: Stack, tenant: Tenant, ledger: Ledger) -> None:
    """Each answered change has its event, exactly once; no row is without one; the chain is whole."""
    promised = {(request_id, event) for client, request_id, event in ledger.promised if client == tenant.id}
    users = (await stack.sql("identity", "SELECT count(*) FROM users WHERE client_id = $1", tenant.id))[0][0]
    sessions = (await stack.sql("token", "SELECT count(*) FROM sessions WHERE client_id = $1", tenant.id))[0][
        0
    ]
    deadline = time.monotonic() + DRAINED_WITHIN

    async def recorded() -> bool:
        events = await stack.events(tenant.id, limit=10_000)
        counted = Counter((event["request_id"], event["type"]) for event in events)
        assert len({event["id"] for event in events}) == len(events)
        assert {key: counted[key] for key in promised if counted[key] > 1} == {}
        missing = [key for key in promised if not counted[key]]
        types = Counter(event["type"] for event in events)
        made = (types["user_created"], types["session_opened"])
        if time.monotonic() > deadline:
            assert missing == []
            assert made == (users, sessions)
        return not missing and made == (users, sessions)

    await eventually(recorded, within=DRAINED_WITHIN + 5, what="every change is recorded once")
    verdict = await stack.verify_chain(tenant.id)
    assert verdict["intact"] is True, verdict
