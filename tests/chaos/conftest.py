"""A system of its own, since these tests take parts of it away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from local.servers import await_ready
from tests.e2e.stack import PASSWORD, Stack, Tenant, eventually

PROCESSES = {"gateway": 2, "token": 2, "identity": 2}
HEALED_WITHIN = 5.0
LOGINS_PER_MINUTE = 40
"""Low enough that a test can reach it with the publishable key; a secret key may do ten times as much."""


@pytest.fixture(scope="session")
async def shaken() -> AsyncIterator[Stack]:
    """The system whose parts go away."""
    env = {"RATE_LIMIT_LOGIN": f"{LOGINS_PER_MINUTE}/60", "RATE_LIMIT_SERVER_FACTOR": "1000"}
    async with Stack.started(PROCESSES, env) as running:
        yield running


@pytest.fixture
async def stack(shaken: Stack) -> AsyncIterator[Stack]:
    """The same, whole again after each test."""
    yield shaken
    for server in shaken.system.servers:
        if not server.is_running:
            server.start()
    await_ready(shaken.system.servers)
    for process in shaken.system.processes.values():
        if not process.is_running:
            process.start()
    await asyncio.to_thread(shaken.system.await_ready)
    await eventually(lambda: serves(shaken), within=HEALED_WITHIN, what="the system serves again")


async def serves(stack: Stack) -> bool:
    """Whether clients and users can be made, and tokens judged, at both gateways: all have met again."""
    for gateway in (0, 1):
        body = {"name": "Healed"}
        made = await stack.call("POST", "/api/admin/clients", stack.admin, gateway=gateway, json=body)
        if made.status_code != 201:
            return False
        user = {"password": PASSWORD}
        key = {"x-api-key": made.json()["api_key"]}
        for other in (0, 1):
            user["email"] = f"healed-{other}@example.org"
            answer = await stack.call("POST", "/api/auth/signup", gateway=other, json=user, headers=key)
            if answer.status_code != 201:
                return False
            # The keys of a new client: a gateway that has not found `token` again answers 503.
            bearer = {**key, "authorization": f"Bearer {answer.json()['access_token']}"}
            me = await stack.call("GET", "/api/auth/me", gateway=other, headers=bearer)
            if me.status_code != 200:
                return False
    return True


@pytest.fixture
async def shop(stack: Stack) -> Tenant:
    """A fresh client."""
    return await stack.tenant()
