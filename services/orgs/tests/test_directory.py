"""The cache of clients in other processes: what one caller may not do to the others."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis import deadlines
from contracts import remembered
from contracts.clients import ApiKey, ClientDirectory
from services.orgs.tests.directories import code_of, directory
from tests.harness import System, Tenant


@contextlib.asynccontextmanager
async def no_answers(system: System) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Keep `orgs` from answering anything about clients for as long as the block."""
    base, _, _ = system.servers.postgres_url.rpartition("/")
    connection = await asyncpg.connect(f"{base}/orgs")
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE clients IN ACCESS EXCLUSIVE MODE")
            yield connection
    finally:
        await connection.close()


async def until_asked(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until a question to `orgs` waits for the lock."""
    async with asyncio.timeout(5):
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'clients'::regclass)"
        ):
            await asyncio.sleep(0.01)


async def test_resolve_when_the_first_to_ask_has_no_time_then_the_others_still_get_the_answer(
    system: System, tenant: Tenant
) -> None:
    async def in_a_hurry(clients: ClientDirectory) -> ApiKey:
        deadlines.set_budget(0.2)
        return await clients.resolve_key(tenant.api_key)

    async with directory(system) as clients:
        async with no_answers(system) as connection:
            hurried = asyncio.create_task(in_a_hurry(clients))
            await until_asked(connection)
            patient = asyncio.create_task(clients.resolve_key(tenant.api_key))
            await asyncio.wait([hurried], timeout=0.5)
        assert (await patient).client.id == tenant.id
        await asyncio.wait([hurried])
        assert hurried.exception() is None


async def test_resolve_when_many_invented_keys_were_tried_then_known_ones_are_still_remembered(
    system: System, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_MAX_ENTRIES", 3)
    async with directory(system) as clients:
        assert await code_of(clients, tenant.api_key) == str(tenant.id)
        for _ in range(10):
            assert await code_of(clients, f"ask_{secrets.token_urlsafe(32)}") == "invalid_api_key"
        async with no_answers(system), asyncio.timeout(1):
            assert await code_of(clients, tenant.api_key) == str(tenant.id)
