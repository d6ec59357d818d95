"""Sweeps of the status lists: whatever stops them and however many are at it, each place dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from chassis.bus import Bus
from chassis.database import Database, DatabaseUnavailable
from chassis.ids import new_id
from services.token.revocations import store
from services.token.revocations.feed import RevocationFeed
from services.token.revocations.service import Revocations
from services.token.revocations.sweeps import StatusSweeps
from services.token.status_lists.bits import LIST_BITS, StatusBits
from tests.harness import System

ACCESS_TTL = timedelta(minutes=15)
_TABLES = ("sessions", "revocations", "status_sweeps")
_SCHEMA = "sweeps_of_a_test"


@dataclass(frozen=True, slots=True)
class World:
    """Tables of the same shape that no running process sweeps."""

    system: System
    url: str
    admin: asyncpg.Connection[asyncpg.Record]

    @contextlib.asynccontextmanager
    async def process(self, *, batch: int) -> AsyncIterator[tuple[Database, Revocations, StatusSweeps]]:
        """What one process has."""
        db = Database(self.url, self.url, service="token", pool_size=2, statement_timeout=5)
        await db.start()
        bus = Bus("nats://localhost:1", process="token")  # never connected: they find all by looking
        revocations = Revocations(db, bus, self.system.clock, ACCESS_TTL)
        yield db, revocations, StatusSweeps(db, self.system.clock, revocations, ACCESS_TTL, batch=batch)
        await db.stop()

    async def open(
        self, client_id: UUID, count: int, *, at: datetime, used_at: datetime | None = None
    ) -> dict[UUID, int]:
        """Open sessions of as many users; their places."""
        rows = [(new_id(), client_id, new_id(), at, used_at or at) for _ in range(count)]
        await self.admin.executemany(
            """
            INSERT INTO sessions (id, client_id, user_id, created_at, last_used_at, expires_at,
                                  absolute_expires_at, ip, user_agent, amr, acr, status_index)
            VALUES ($1, $2, $3, $4, $5, $4::timestamptz + interval '1 day',
                    $4::timestamptz + interval '1 day', '', '', '{pwd}', '', nextval('status_indices'))
            """,
            rows,
        )
        return {
            key: place for key, place in (await self.places(client_id)).items() if key in {r[0] for r in rows}
        }

    async def places(self, client_id: UUID) -> dict[UUID, int]:
        """The places of a client's sessions now."""
        rows = await self.admin.fetch("SELECT id, status_index FROM sessions WHERE client_id = $1", client_id)
        return {row["id"]: row["status_index"] for row in rows}

    async def dead(self) -> set[int]:
        """The places that a process which starts now finds dead."""
        async with self.process(batch=1) as (db, _, _):
            bits = StatusBits()
            feed = RevocationFeed(db, Bus("nats://localhost:1", process="token"), self.system.clock, bits)
            run = asyncio.create_task(feed.run())
            while not feed.is_loaded:
                await asyncio.sleep(0.01)
            run.cancel()
        last: int = await self.admin.fetchval("SELECT last_value FROM status_indices")
        found = {number: bits.of(number) for number in range((last >> LIST_BITS) + 1)}
        return {
            place + (number << LIST_BITS)
            for number, listed in found.items()
            if listed is not None
            for place in listed.expiries
        }


@pytest.fixture
async def world(system: System) -> AsyncIterator[World]:
    """The tables, empty."""
    base, _, _ = system.servers.postgres_url.rpartition("/")
    url = f"{base}/token?search_path={_SCHEMA},public"
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE SCHEMA {_SCHEMA}; CREATE SEQUENCE {_SCHEMA}.status_indices")
    for table in _TABLES:
        await admin.execute(f"CREATE TABLE {_SCHEMA}.{table} (LIKE public.{table} INCLUDING ALL)")
    yield World(system, url, admin)
    await admin.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")
    await admin.close()


async def test_sweep_when_its_process_dies_in_the_middle_then_another_goes_on_where_it_stopped(
    world: World,
) -> None:
    now, client_id, other_id = world.system.clock.now(), new_id(), new_id()
    dying = await world.open(client_id, 20, at=now - timedelta(minutes=1))
    renewed = await world.open(client_id, 1, at=now - timedelta(hours=5), used_at=now - timedelta(minutes=14))
    staying = await world.open(client_id, 2, at=now + timedelta(seconds=2))
    # Their last token has expired.
    staying |= await world.open(client_id, 2, at=now - timedelta(minutes=30))
    ended = await world.open(client_id, 1, at=now - timedelta(minutes=1))
    await world.admin.execute("UPDATE sessions SET ended_at = now() WHERE id = ANY($1)", list(ended))
    others = await world.open(other_id, 3, at=now - timedelta(minutes=1))
    dying |= renewed
    async with world.process(batch=4) as (db, revocations, sweeps):
        async with db.tenant(client_id) as tx:
            await revocations.client(tx, client_id, now)
        assert await world.dead() == set()
        assert await sweeps.step() == 0
        assert await sweeps.step() == 0
        async with db.platform() as tx:
            assert (await store.pending_sweeps(tx))[0] == 1
        before, dead = await world.places(client_id), await world.dead()
        assert len(dead) < len(dying)
        # The third batch waits where it writes the dead places down, and its process is gone.
        async with world.admin.transaction():
            await world.admin.execute("LOCK TABLE revocations IN EXCLUSIVE MODE")
            batch = asyncio.create_task(sweeps.step())
            stuck = (
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE "
                "'%INSERT INTO revocations%' AND pid <> pg_backend_pid() AND pg_blocking_pids(pid) @> $1"
            )
            own = [world.admin.get_server_pid()]
            async with asyncio.timeout(5):
                while (pid := await world.admin.fetchval(stuck, own)) is None:
                    await asyncio.sleep(0.01)
            await world.admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
            with pytest.raises(DatabaseUnavailable):
                await batch
    assert (await world.places(client_id), await world.dead()) == (before, dead)
    async with world.process(batch=4) as (db, _, sweeps):
        await sweeps.sweep()
        async with db.platform() as tx:
            assert await store.pending_sweeps(tx) == (0, 0.0)
    after = await world.places(client_id)
    assert await world.dead() == set(dying.values())
    assert {key: after[key] for key in (*staying, *ended)} == staying | ended
    assert await world.places(other_id) == others
    moved = {after[key] for key in dying}
    assert len(moved) == len(dying)
    assert min(moved) > max(*dying.values(), *staying.values(), *others.values())


async def test_sweeps_when_many_processes_are_at_them_and_sessions_are_locked_then_each_place_dies(
    world: World,
) -> None:
    now, client_ids = world.system.clock.now(), [new_id() for _ in range(3)]
    dying: dict[UUID, int] = {}
    for client_id in client_ids:
        dying |= await world.open(client_id, 15, at=now - timedelta(seconds=5))
    busy = list(dying)[::15]
    async with contextlib.AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(world.process(batch=2)) for _ in range(4)]
        for client_id, (db, revocations, _) in zip(client_ids, processes, strict=False):
            # Two at once of one client, and the key's counts whenever a session was opened.
            async with db.tenant(client_id) as tx:
                await revocations.key(tx, client_id, "a-key", now)
                await revocations.client(tx, client_id, now)

        async def work() -> None:
            await asyncio.gather(*(sweeps.sweep() for _, _, sweeps in processes))

        async with world.admin.transaction():
            await world.admin.execute("SELECT FROM sessions WHERE id = ANY($1) FOR UPDATE", busy)
            async with asyncio.timeout(10):
                await work()
            free = {place for key, place in dying.items() if key not in busy}
            # Those who are locked are passed over, and nobody else is.
            assert await world.dead() & set(dying.values()) == free
        async with asyncio.timeout(10):
            db = processes[0][0]
            while True:
                await work()
                async with db.platform() as tx:
                    if (await store.pending_sweeps(tx))[0] == 0:
                        break
    assert set(dying.values()) <= await world.dead()
    after = [place for client_id in client_ids for place in (await world.places(client_id)).values()]
    assert len(set(after)) == len(dying)
    assert set(after).isdisjoint(await world.dead())


async def test_sweep_when_its_tokens_have_expired_then_forgotten(world: World) -> None:
    now, client_id = world.system.clock.now(), new_id()
    places = await world.open(client_id, 1, at=now)
    async with world.process(batch=2) as (db, revocations, sweeps):
        async with db.tenant(client_id) as tx:
            await revocations.client(tx, client_id, now)
        with world.system.clock.advanced(ACCESS_TTL + timedelta(minutes=3)):
            assert await sweeps.step() == 0
            assert await sweeps.step() is None
    assert await world.places(client_id) == places
