"""Bring every service's database to the newest revision, and skip cheaply what is current already."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import psycopg

from chassis.provision import described, provision
from contracts.topology import SERVICES
from local.environment import of_process
from local.errors import LocalError
from local.processes import ManagedProcess
from local.service_process import REPOSITORY, module_of

_TIMEOUT = 300.0


def migrate_all(
    folder: Path, admin_url: str, env: Mapping[str, str], services: Iterable[str] = SERVICES
) -> None:
    """Create databases and roles, then migrate the services side by side.

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
    runs = {service: _migration(folder, service, env) for service in stale}
    try:
        for run in runs.values():
            run.start()
        for service, run in runs.items():
            code = run.wait_ended(_TIMEOUT)
            if code != 0:
                raise LocalError(f"migrating {service} failed with code {code}:\n{run.log_tail()}")
            _remember(folder, service, env)
    finally:
        for run in runs.values():
            run.stop()


def _migration(folder: Path, service: str, env: Mapping[str, str]) -> ManagedProcess:
    return ManagedProcess(
        f"migrate-{service}",
        [sys.executable, "-m", module_of(service), "migrate"],
        folder=folder,
        env=of_process(service, env, migrates=True),
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
