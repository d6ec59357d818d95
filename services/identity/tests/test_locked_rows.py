"""A row that somebody else keeps locked (F-04): the wait is bounded, and nobody else waits."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg

from services.identity.tests.conftest import PASSWORD, Person, address, sign_up
from tests.harness import System


async def test_change_when_the_row_stays_locked_then_503_in_time_and_others_go_on(
    system: System, person: Person
) -> None:
    base, _, _ = system.servers.postgres_url.rpartition("/")
    stranger = await asyncpg.connect(f"{base}/identity")
    other = await system.tenant()
    email = address()
    assert (await sign_up(system, other, email)).status == 201
    body = {"display_name": "After"}
    try:
        async with stranger.transaction():
            await stranger.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", UUID(person.id))
            blocked = asyncio.create_task(
                system.call("identity", "PATCH", "/api/auth/me", caller=person.caller(), json=body)
            )
            login = {"email": email, "password": PASSWORD, "token_transport": "json"}
            answer = await system.call(
                "identity", "POST", "/api/auth/login", caller=other.caller(), json=login
            )
            assert answer.status == 200
            assert not blocked.done()
            refused = await blocked
        assert (refused.status, refused.code) == (503, "database_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
    finally:
        await stranger.close()
    changed = await system.call("identity", "PATCH", "/api/auth/me", caller=person.caller(), json=body)
    assert (changed.status, changed.json["display_name"]) == (200, "After")
