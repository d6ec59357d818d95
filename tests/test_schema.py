"""The migrated databases are what the tables declare, and every table is guarded."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from contracts.topology import SERVICES
from tests.harness import System


@pytest.mark.parametrize("service", SERVICES)
async def test_migrated_schema_is_the_declared_one(system: System, service: str) -> None:
    url = system.environment[f"{service.upper()}_MIGRATION_DATABASE_URL"]
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, system.definitions[service].tables)
    engine.dispose()
    assert [item for item in differences if not _is_partition(item)] == []


@pytest.mark.parametrize("service", SERVICES)
async def test_migration_run_again_changes_nothing(system: System, service: str) -> None:
    await system.migrate(service)


@pytest.mark.parametrize("service", SERVICES)
async def test_every_tenant_table_has_row_security_and_the_tenant_role_owns_nothing(
    system: System, service: str
) -> None:
    rows = await system.sql(
        service,
        """
        SELECT c.relname, c.relrowsecurity, pg_get_userbyid(c.relowner) AS owner
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'client_id')
        """,
    )
    assert rows
    assert [row["relname"] for row in rows if not row["relrowsecurity"]] == []
    assert {row["owner"] for row in rows} == {f"{service}_owner"}


def _is_partition(difference: object) -> bool:
    """True for a partition, which no declaration names: it is made when its month comes."""
    if isinstance(difference, tuple) and difference[0] in ("remove_table", "remove_index"):
        table = getattr(difference[1], "table", difference[1])
        return table is not None and "_y2" in str(table.name)
    return False
