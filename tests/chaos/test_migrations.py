"""Migrations run twice, and by two at once (F-13)."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from local.environment import of_process
from local.service_process import REPOSITORY
from tests.e2e.stack import Stack, Tenant

AT_ONCE = 2


async def migrate(service: str, env: dict[str, str]) -> tuple[int, str]:
    """Run a service's migrations as its own job does; answers exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{service}", "migrate",
        env={**os.environ, **env}, cwd=Path(REPOSITORY),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("service", ["identity", "audit"])
async def test_migrations_when_run_by_several_at_once_then_one_runs_and_the_others_wait(
    stack: Stack, shop: Tenant, service: str
) -> None:
    """On an empty database; then again, where nothing is left to do, while the system serves."""
    database = f"{service}_again"
    base = stack.system.servers.postgres_url.rpartition("/")[0]
    superuser = await asyncpg.connect(stack.system.servers.postgres_url)
    await superuser.execute(f'CREATE DATABASE "{database}" OWNER "{service}_owner"')
    env = of_process(service, stack.system.env, migrates=True)
    fresh = {
        name: value.rpartition("/")[0] + f"/{database}" if name.endswith("DATABASE_URL") else value
        for name, value in env.items()
    }
    try:
        runs = await asyncio.gather(*(migrate(service, fresh) for _ in range(AT_ONCE)))
        assert [code for code, _ in runs] == [0] * AT_ONCE, runs
        made, original = await tables(f"{base}/{database}"), await tables(f"{base}/{service}")
        assert made == original
        assert made
    finally:
        await superuser.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
        await superuser.close()
    code, output = await migrate(service, env)
    assert code == 0, output
    assert (await stack.call("GET", "/api/auth/me", await stack.sign_up(shop))).status_code == 200


async def tables(url: str) -> set[tuple[str, str, str]]:
    """Every column of every table, and every policy."""
    connection = await asyncpg.connect(url)
    try:
        columns = await connection.fetch(
            "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        )
        policies = await connection.fetch(
            "SELECT tablename::text, policyname::text, roles::text FROM pg_policies"
        )
        return {(row[0], row[1], row[2]) for row in [*columns, *policies]}
    finally:
        await connection.close()
