"""Bring every service's database to the newest revision, and skip cheaply what is current already."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psycopg

from chassis.provision import described, provision
from contracts.topology import SERVICES
from local.environment import of_process
from local.errors import LocalError
from local.processes import ManagedProcess
from local.service_process import REPOSITORY

_TIMEOUT = 300.0


def migrate_all(
    folder: Path, admin_url: str, env: Mapping[str, str], services: Iterable[str] = SERVICES
) -> None:
    """Create databases and roles, then migrate the services in one process.

    A service is skipped only when none of the code that migrates it has changed since the last migration from
    this folder, and its database still is at the revision that this led to.

    Raises:
        LocalError: a migration failed; holds the end of its output.
    """
    try:
        provision(admin_url, described(env))
    except psycopg.Error as error:
        raise LocalError(f"PostgreSQL refused to create databases and roles: {error}") from error
    stale = [service for service in services if not _is_current(folder, service, env)]
    if not stale:
        return
    run = _migration(folder, stale, env)
    try:
        run.start()
        code = run.wait_ended(_TIMEOUT)
        if code != 0:
            raise LocalError(f"migrating {', '.join(stale)} failed with code {code}:\n{run.log_tail()}")
    finally:
        run.stop()
    for service in stale:
        _remember(folder, service, env)


def _migration(folder: Path, services: Sequence[str], env: Mapping[str, str]) -> ManagedProcess:
    given: dict[str, str] = {}
    for service in services:
        given |= of_process(service, env, migrates=True)
    return ManagedProcess(
        "migrate",
        [sys.executable, "-m", "local.migrating", *services],
        folder=folder,
        env=given,
        cwd=REPOSITORY,
    )


def _is_current(folder: Path, service: str, env: Mapping[str, str]) -> bool:
    stamp = _stamp(folder, service)
    if not stamp.exists():
        return False
    revisions = _revisions(service, env)
    return bool(revisions) and json.loads(stamp.read_text()) == {
        "code": _code(service),
        "revisions": revisions,
    }


def _remember(folder: Path, service: str, env: Mapping[str, str]) -> None:
    stamp = _stamp(folder, service)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(json.dumps({"code": _code(service), "revisions": _revisions(service, env)}))


def _stamp(folder: Path, service: str) -> Path:
    return folder / "migrated" / f"{service}.json"


def _code(service: str) -> str:
    """A digest of everything that a migration may depend on."""
    digest = hashlib.sha256()
    for root in (REPOSITORY / "chassis", REPOSITORY / "services" / service):
        for file in sorted(root.rglob("*.py")):
            if "tests" not in file.parts:
                digest.update(f"{file}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _revisions(service: str, env: Mapping[str, str]) -> list[str]:
    """The revisions the database is at, with its identity: another one of that name is not it."""
    url = env[f"{service.upper()}_MIGRATION_DATABASE_URL"]
    try:
        with psycopg.connect(url) as connection:
            rows = connection.execute(
                "SELECT version_num || '@' || oid FROM alembic_version, pg_database"
                " WHERE datname = current_database() ORDER BY 1"
            ).fetchall()
    except psycopg.Error:
        return []
    return [row[0] for row in rows]
