"""Nobody changes the log: what the service's roles may do with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from chassis.database import Database
from services.audit.ingest import store
from services.audit.tests.chain_log import ChainLog

FORBIDDEN = [
    "UPDATE audit_events SET ip = ''",
    "DELETE FROM audit_events",
    "TRUNCATE audit_events",
    "UPDATE checkpoints SET signed = ''",
    "DELETE FROM checkpoints",
    "TRUNCATE checkpoints",
    "UPDATE checkpoint_keys SET kid = ''",
    "DELETE FROM checkpoint_keys",
    "DELETE FROM chain_heads",
    "TRUNCATE chain_heads",
    "DROP TABLE audit_events",
    "ALTER TABLE audit_events DISABLE ROW LEVEL SECURITY",
    "CREATE TABLE mine (id int)",
]


async def partition_of(log: ChainLog) -> str:
    (row,) = await log.system.sql(
        "audit", "SELECT tableoid::regclass::text AS name FROM audit_events LIMIT 1"
    )
    return str(row["name"])


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_jobs_role_when_changing_the_log_then_refused(
    log: ChainLog, database: Database, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.platform() as tx:
            await tx.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        *FORBIDDEN,
        "INSERT INTO audit_events (client_id) VALUES (current_client())",
        "INSERT INTO checkpoints (client_id) VALUES (current_client())",
        "SELECT * FROM chain_heads",
        "SELECT * FROM checkpoint_keys",
        "SELECT ensure_audit_partition(now())",
    ],
)
async def test_tenant_role_when_writing_or_reading_secrets_then_refused(
    log: ChainLog, database: Database, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.tenant(log.client_id) as tx:
            await tx.execute(statement)


async def test_partition_when_addressed_itself_then_refused_for_both_roles(
    log: ChainLog, database: Database
) -> None:
    """Row-level security and grants are on the log; a partition must not be a way around them."""
    await log.happen(1)
    partition = await partition_of(log)
    assert partition.startswith("partitions.")
    for statement in (f"SELECT * FROM {partition}", f"DELETE FROM {partition}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.platform() as tx:
                await tx.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.tenant(log.client_id) as tx:
                await tx.execute(statement)


async def test_tenant_role_when_reading_then_sees_its_own_rows_only(
    log: ChainLog, other_log: ChainLog, database: Database
) -> None:
    await log.happen(2)
    await other_log.happen(3)
    async with database.tenant(log.client_id) as tx:
        seen = await tx.fetch("SELECT client_id FROM audit_events")
    assert [row["client_id"] for row in seen] == [log.client_id] * 2
    async with database.append() as tx:
        assert await tx.fetch("SELECT client_id FROM audit_events") == []


@pytest.mark.parametrize("moment", ["2019-12-31 23:59:59Z", "2100-01-01 00:00:00Z", "infinity"])
async def test_partition_when_time_is_out_of_sense_then_none_is_made(database: Database, moment: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError):
        async with database.platform() as tx:
            await tx.execute(f"SELECT ensure_audit_partition('{moment}')")


async def test_partition_when_many_make_it_at_once_then_made_once(database: Database) -> None:
    months = [datetime(2090, month, 1, tzinfo=UTC) for month in range(1, 7)]

    async def make(moment: datetime) -> None:
        async with database.platform() as tx:
            await store.ensure_partition(tx, moment)

    await asyncio.gather(*(make(moment) for moment in months for _ in range(4)))
    async with database.platform() as tx:
        made = await tx.fetch("SELECT relname FROM pg_class WHERE relname ~ '^audit_events_2090_..$'")
    assert len(made) == len(months)
