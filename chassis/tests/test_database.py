"""Tenancy by the database: what the roles may see, and that nothing leaks between borrowers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis.database import Database, DatabaseUnavailable, TransactionLost
from chassis.ids import new_id
from chassis.tests.conftest import Notes, NotesSettings


@pytest.fixture(scope="session")
async def narrow(notes_settings: NotesSettings, notes: Notes) -> AsyncIterator[Database]:
    """A database with pools of two connections, so that borrowers meet."""
    database = Database(
        notes_settings.database_url.get_secret_value(),
        notes_settings.jobs_database_url.get_secret_value(),
        service="narrow",
        pool_size=2,
        statement_timeout=1,
    )
    await database.start()
    yield database
    await database.stop()


async def test_tenant_sees_only_its_rows_even_without_a_where(narrow: Database) -> None:
    ours, theirs = new_id(), new_id()
    for client_id in (ours, theirs):
        async with narrow.tenant(client_id) as tx:
            await tx.execute("INSERT INTO notes VALUES ($1, $2, 'x')", new_id(), client_id)
    async with narrow.tenant(ours) as tx:
        assert [row["client_id"] for row in await tx.fetch("SELECT client_id FROM notes")] == [ours]
        assert await tx.execute("UPDATE notes SET text = 'y' WHERE client_id = $1", theirs) == "UPDATE 0"
    async with narrow.platform() as tx:
        assert len(await tx.fetch("SELECT FROM notes WHERE client_id = ANY($1)", [ours, theirs])) == 2


async def test_tenant_cannot_write_rows_of_another(narrow: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with narrow.tenant(new_id()) as tx:
            await tx.execute("INSERT INTO notes VALUES ($1, $2, 'x')", new_id(), new_id())


async def test_tenant_role_cannot_read_the_outbox_or_disable_security(narrow: Database) -> None:
    for statement in (
        "SELECT * FROM outbox",
        "SELECT * FROM idempotency_keys",
        "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
        "SET ROLE notes_jobs",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with narrow.tenant(new_id()) as tx:
                await tx.execute(statement)


async def test_nothing_leaks_between_borrowers(narrow: Database) -> None:
    client_id = new_id()

    async def borrow(number: int) -> None:
        async with narrow.tenant(client_id) as tx:
            await tx.execute("INSERT INTO notes VALUES ($1, current_client(), 'leak')", new_id())
            if number % 3 == 0:
                raise LookupError

    await asyncio.gather(*(borrow(number) for number in range(30)), return_exceptions=True)
    for _ in range(4):
        async with narrow.append() as tx:
            assert await tx.fetchval("SELECT current_client()") is None
            assert await tx.fetch("SELECT * FROM notes") == []
    async with narrow.tenant(client_id) as tx:
        assert await tx.fetchval("SELECT count(*) FROM notes") == 20


async def test_cancelled_borrower_leaves_no_open_transaction(narrow: Database) -> None:
    client_id = new_id()

    async def slow() -> None:
        async with narrow.tenant(client_id) as tx:
            await tx.execute("INSERT INTO notes VALUES ($1, current_client(), 'cancelled')", new_id())
            await tx.execute("SELECT pg_sleep(0.8)")

    tasks = [asyncio.create_task(slow()) for _ in range(2)]
    await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(4):
        async with narrow.tenant(client_id) as tx:
            assert await tx.fetchval("SELECT count(*) FROM notes") == 0


async def test_callbacks_run_after_commit_only(narrow: Database) -> None:
    ran: list[str] = []
    async with narrow.tenant(new_id()) as tx:
        tx.after_commit(lambda: ran.append("committed"))
        assert ran == []
    with pytest.raises(LookupError):
        async with narrow.tenant(new_id()) as tx:
            tx.after_commit(lambda: ran.append("rolled back"))
            raise LookupError
    assert ran == ["committed"]


async def test_statement_over_its_time_is_unavailable(narrow: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with narrow.tenant(new_id()) as tx:
            await tx.execute("SELECT pg_sleep(5)")


async def test_connection_lost_inside_a_transaction_is_unavailable_and_the_next_one_works(
    narrow: Database, notes: Notes
) -> None:
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            async with narrow.platform() as tx:
                pid = await tx.fetchval("SELECT pg_backend_pid()")
                await notes.sql("SELECT pg_terminate_backend($1)", pid)
                await tx.fetchval("SELECT 1")
        async with narrow.platform() as tx:
            assert await tx.fetchval("SELECT 1") == 1


async def test_transaction_when_a_failed_statement_was_passed_over_then_not_taken_for_committed(
    narrow: Database,
) -> None:
    # PostgreSQL answers COMMIT with ROLLBACK then, and no error.
    client_id = new_id()
    told: list[str] = []
    with pytest.raises(TransactionLost):
        async with narrow.tenant(client_id) as tx:
            await tx.execute("INSERT INTO notes VALUES ($1, $2, 'x')", new_id(), client_id)
            tx.after_commit(lambda: told.append("committed"))
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                await tx.execute("SELECT 1 / 0")
    assert told == []
    async with narrow.tenant(client_id) as tx:
        assert await tx.fetch("SELECT FROM notes") == []
