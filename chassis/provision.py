"""Create each service's database and roles: `python -m chassis.provision`, once before the migrations.

Needs PROVISION_DATABASE_URL (a superuser, or a role with CREATEROLE and CREATEDB) and, for each service, its
three URLs: `<SERVICE>_DATABASE_URL` (the tenant role), `<SERVICE>_JOBS_DATABASE_URL` (the jobs role) and
`<SERVICE>_MIGRATION_DATABASE_URL` (the owner). Which services there are follows from the variables; `_FILE`
variants count. Safe to run again at any time, also by several at once.

What holds afterwards: the owner owns the database, the other two may connect, nobody else may; only the owner
creates in it; none of the three is a superuser or passes by row-level security.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.sql import SQL, Identifier, Literal

_OWNER_URL = re.compile(r"(?P<service>[A-Z][A-Z0-9_]*)_MIGRATION_DATABASE_URL(_FILE)?")
_LOCK = 0x70726F76


class ProvisionError(Exception):
    """The environment or the server does not allow it; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Role:
    """A login role and its password."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class ServiceDatabase:
    """What one service's URLs describe."""

    name: str
    owner: Role
    tenant: Role
    jobs: Role


def described(environ: Mapping[str, str]) -> list[ServiceDatabase]:
    """Read from the environment which databases there shall be, by name.

    Raises:
        ProvisionError: a service lacks a URL, or its URLs do not name one database and three different roles.
    """
    matches = (_OWNER_URL.fullmatch(name) for name, value in environ.items() if value)
    services = sorted({match["service"] for match in matches if match})
    if not services:
        raise ProvisionError("no <SERVICE>_MIGRATION_DATABASE_URL is set, so there is no database to create")
    return [_described(environ, service) for service in services]


def _described(environ: Mapping[str, str], service: str) -> ServiceDatabase:
    names = [f"{service}_MIGRATION_DATABASE_URL", f"{service}_DATABASE_URL", f"{service}_JOBS_DATABASE_URL"]
    urls = [_value(environ, name) for name in names]
    for name, url in zip(names, urls, strict=True):
        if not url:
            raise ProvisionError(f"{name} is not set: a service needs {', '.join(names)}")
    parts = [urlsplit(url) for url in urls]
    roles = [Role(unquote(part.username or ""), unquote(part.password or "")) for part in parts]
    databases = {unquote(part.path.lstrip("/")) for part in parts}
    if len(databases) != 1 or "" in databases:
        raise ProvisionError(f"{', '.join(names)} must name one database, they name {sorted(databases)}")
    if len({role.name for role in roles}) != len(roles) or not all(
        role.name and role.password for role in roles
    ):
        raise ProvisionError(f"{', '.join(names)} must name three different roles, each with a password")
    return ServiceDatabase(databases.pop(), *roles)


def _value(environ: Mapping[str, str], name: str) -> str:
    if environ.get(name):
        return environ[name]
    file = environ.get(f"{name}_FILE")
    return Path(file).read_text().strip() if file else ""


def provision(admin_url: str, databases: list[ServiceDatabase]) -> None:
    """Bring the server that `admin_url` names to the described state.

    Raises:
        ProvisionError: a role is there already with more power than it may have.
        psycopg.Error: the server refused or is away.
    """
    if not admin_url:
        raise ProvisionError(
            "PROVISION_DATABASE_URL is not set: the URL of a role with CREATEROLE and CREATEDB"
        )
    with psycopg.connect(admin_url, autocommit=True) as admin:
        # Two at once (a Job that was started twice) would both find a role missing.
        admin.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        for database in databases:
            for role in (database.owner, database.tenant, database.jobs):
                _ensure_role(admin, role)
            _ensure_database(admin, database)
            _close_to_others(admin_url, database)


def _ensure_role(admin: psycopg.Connection, role: Role) -> None:
    found = admin.execute(
        "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = %s", [role.name]
    ).fetchone()
    if found is not None and found[0]:
        raise ProvisionError(
            f"role {role.name} is a superuser or passes by row-level security: take that away"
        )
    # The verifier is made here, so that the password itself is in no server log.
    name, password = role.name.encode(), role.password.encode()
    verifier = admin.pgconn.encrypt_password(password, name, b"scram-sha-256").decode()
    verb: LiteralString = "CREATE" if found is None else "ALTER"
    statement = SQL(verb) + SQL(" ROLE {} LOGIN PASSWORD {}").format(Identifier(role.name), Literal(verifier))
    admin.execute(statement)


def _ensure_database(admin: psycopg.Connection, database: ServiceDatabase) -> None:
    name, owner = Identifier(database.name), Identifier(database.owner.name)
    superuser = admin.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if superuser is not None and not superuser[0]:
        # A role with CREATEROLE only may hand ownership to a role it is a member of.
        admin.execute(SQL("GRANT {} TO CURRENT_USER").format(owner))
    owned_by = admin.execute(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [database.name]
    ).fetchone()
    if owned_by is None:
        admin.execute(
            SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(name, owner)
        )
    elif owned_by[0] != database.owner.name:
        admin.execute(SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
    admin.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    roles = Identifier(database.tenant.name), Identifier(database.jobs.name)
    admin.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}, {}").format(name, *roles))


def _close_to_others(admin_url: str, database: ServiceDatabase) -> None:
    roles = Identifier(database.tenant.name), Identifier(database.jobs.name)
    with psycopg.connect(admin_url, dbname=database.name, autocommit=True) as inside:
        # The schema belongs to whoever owns the database.
        inside.execute(SQL("SET ROLE {}").format(Identifier(database.owner.name)))
        inside.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        inside.execute(SQL("GRANT USAGE ON SCHEMA public TO {}, {}").format(*roles))


def main() -> int:
    """Provision what the environment describes; 0, or 2 with one line that says what is wrong."""
    try:
        databases = described(os.environ)
        provision(_value(os.environ, "PROVISION_DATABASE_URL"), databases)
    except (ProvisionError, psycopg.Error, OSError) as error:
        sys.stderr.write(f"cannot provision: {error}\n")
        return 2
    sys.stdout.write(f"provisioned {', '.join(database.name for database in databases)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
