"""Migrations: Alembic under an advisory lock, then privileges and row-level security, from the tables.

Two instances may run it at once: one migrates, the other waits and finds nothing to do. Security is derived
from the declared tables each time, so that a new table cannot be forgotten (`chassis.tables` says how it is
declared).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, Table, create_engine, text

from chassis.tables import ALL_PRIVILEGES, OUTBOX_SHARDS

log = structlog.get_logger()

_LOCK = 0x41555448  # "AUTH"
_LOCK_POLL_SECONDS = 0.2

_FUNCTIONS = """
CREATE OR REPLACE FUNCTION current_client() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT nullif(current_setting('auth.client_id', true), '')::uuid $$;
"""

# Only when missing: each of these statements locks the table, and services may be running.
_POLICIES = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE tablename = '{table}' AND policyname = 'tenant') THEN
        ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON "{table}" TO "{tenant_role}"
            USING (client_id = current_client()) WITH CHECK (client_id = current_client());
        CREATE POLICY jobs ON "{table}" TO "{jobs_role}" USING (true) WITH CHECK (true);
    END IF;
END $$
"""


async def migrate(url: str, *, folder: Path, metadata: MetaData, tenant_url: str, jobs_url: str) -> None:
    """Bring the database at `url` (as owner) to the newest revision in `folder`, and secure it."""
    await asyncio.to_thread(_migrate, url, folder, metadata, role_of(tenant_url), role_of(jobs_url))


def draft_migration(url: str, *, folder: Path, metadata: MetaData, message: str) -> None:
    """Write the revision that brings the migrated database at `url` to the declared tables."""
    with create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1)).connect() as connection:
        config = alembic_config(folder, metadata, connection)
        command.revision(config, message=message, autogenerate=True, version_path=str(folder / "versions"))


def role_of(url: str) -> str:
    """Return the user named in a database URL.

    Raises:
        ValueError: it names none.
    """
    user = urlsplit(url).username
    if not user:
        raise ValueError("the database URL names no user")
    return unquote(user)


def _migrate(url: str, folder: Path, metadata: MetaData, tenant_role: str, jobs_role: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        _lock(connection)
        try:
            # A change that waits for a lock makes everyone behind it wait: better to fail and be run again.
            connection.execute(text("SET lock_timeout = '5s'"))
            connection.execute(text(_FUNCTIONS))
            connection.commit()
            command.upgrade(alembic_config(folder, metadata, connection), "head")
            connection.commit()
            for statement in security_statements(metadata, tenant_role, jobs_role):
                connection.execute(text(statement))
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
    engine.dispose()
    log.info("database is current", folder=folder.parent.name)


def _lock(connection: Connection) -> None:
    """Wait for the lock, without a transaction: an index that is built concurrently waits for every one."""
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
        connection.rollback()
        time.sleep(_LOCK_POLL_SECONDS)
    connection.commit()


def alembic_config(folder: Path, metadata: MetaData, connection: Connection | None) -> Config:
    """Return Alembic's configuration for one service's folder; its `env.py` is the chassis's."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    config.set_main_option("version_locations", str(folder / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, metadata=metadata)
    return config


def security_statements(metadata: MetaData, tenant_role: str, jobs_role: str) -> list[str]:
    """Return the statements that give both roles what the tables declare; repeatable."""
    statements = [
        f'GRANT USAGE ON SCHEMA public TO "{tenant_role}", "{jobs_role}"',
        f"INSERT INTO outbox_shards SELECT generate_series(0, {OUTBOX_SHARDS - 1}) ON CONFLICT DO NOTHING",
    ]
    for table in metadata.sorted_tables:
        statements += _table_security(table, tenant_role, jobs_role)
    for sequence in metadata.info.get("sequences", ()):
        statements.append(f'GRANT USAGE, SELECT ON SEQUENCE {sequence} TO "{tenant_role}", "{jobs_role}"')
    for function in metadata.info.get("jobs_functions", ()):
        statements += [
            f'REVOKE ALL ON FUNCTION {function} FROM PUBLIC, "{tenant_role}"',
            f'GRANT EXECUTE ON FUNCTION {function} TO "{jobs_role}"',
        ]
    return statements


def _table_security(table: Table, tenant_role: str, jobs_role: str) -> list[str]:
    name = f'"{table.name}"'
    is_tenants = "client_id" in table.columns
    tenant = table.info.get("tenant_role", ALL_PRIVILEGES if is_tenants else "")
    jobs = table.info.get("jobs_role", ALL_PRIVILEGES)
    statements = [f'REVOKE ALL ON {name} FROM PUBLIC, "{tenant_role}", "{jobs_role}"']
    statements += [f'GRANT {jobs} ON {name} TO "{jobs_role}"'] if jobs else []
    statements += [f'GRANT {tenant} ON {name} TO "{tenant_role}"'] if tenant else []
    if not is_tenants:
        return statements
    return [*statements, _POLICIES.format(table=table.name, tenant_role=tenant_role, jobs_role=jobs_role)]
