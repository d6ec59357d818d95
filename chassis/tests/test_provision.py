"""Databases and roles from URLs: who may do what afterwards, how little power it takes, and refusals."""

from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest

from chassis.provision import ProvisionError, described, provision
from local.servers import Servers, delete_folder, start_servers

_PASSWORD = "p@ss/wörd'%"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A PostgreSQL of these tests' own: they create roles, which belong to the whole server."""
    folder = tmp_path_factory.mktemp("provision") / "local"
    servers = start_servers(
        folder, environ={"REDIS_URL": "redis://none", "NATS_URL": "nats://none"}, durable=False
    )
    yield servers
    servers.stop()
    delete_folder(folder)


def environment(servers: Servers, service: str, password: str = _PASSWORD) -> dict[str, str]:
    """The three URLs of a service."""
    assert servers.postgres
    place = f"127.0.0.1:{servers.postgres.port}/{service}"
    roles = {"": service, "JOBS_": f"{service}_jobs", "MIGRATION_": f"{service}_owner"}
    secret = quote(password, safe="")
    return {
        f"{service.upper()}_{name}DATABASE_URL": f"postgresql://{role}:{secret}@{place}"
        for name, role in roles.items()
    }


def test_provision_when_run_twice_then_roles_may_what_they_need_and_no_more(servers: Servers) -> None:
    env = environment(servers, "first") | environment(servers, "second")
    for _ in range(2):
        provision(servers.postgres_url, described(env))
    privileges = "SELECT has_schema_privilege('public', 'USAGE'), has_schema_privilege('public', 'CREATE')"
    found = {}
    for name in ("", "JOBS_", "MIGRATION_"):
        with psycopg.connect(env[f"FIRST_{name}DATABASE_URL"]) as connection:
            found[name] = connection.execute(privileges).fetchone()
    assert found == {"": (True, False), "JOBS_": (True, False), "MIGRATION_": (True, True)}
    with psycopg.connect(servers.postgres_url) as connection:
        powers = "rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication"
        row = connection.execute(
            f"SELECT bool_or({powers}) FROM pg_roles WHERE rolname ~ '^(first|second)'"
        ).fetchone()
    assert row == (False,)


def test_provision_when_done_then_another_services_role_may_not_connect(servers: Servers) -> None:
    env = environment(servers, "mine") | environment(servers, "theirs")
    provision(servers.postgres_url, described(env))
    for name in ("", "JOBS_", "MIGRATION_"):
        foreign = env[f"MINE_{name}DATABASE_URL"].removesuffix("/mine") + "/theirs"
        with pytest.raises(psycopg.OperationalError, match="does not have CONNECT privilege"):
            psycopg.connect(foreign)


def test_provision_when_a_password_changed_then_only_the_new_one_opens(servers: Servers) -> None:
    old, new = environment(servers, "rotated", "old"), environment(servers, "rotated", "new")
    for env in (old, new):
        provision(servers.postgres_url, described(env))
    psycopg.connect(new["ROTATED_DATABASE_URL"]).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(old["ROTATED_DATABASE_URL"])


def test_provision_when_the_admin_is_no_superuser_then_createrole_and_createdb_suffice(
    servers: Servers,
) -> None:
    assert servers.postgres
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
    env = environment(servers, "made")
    for _ in range(2):
        provision(f"postgresql://maker:x@127.0.0.1:{servers.postgres.port}/postgres", described(env))
    with psycopg.connect(env["MADE_MIGRATION_DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE t (id int)")


def test_provision_when_a_role_passes_by_row_level_security_then_refuses(servers: Servers) -> None:
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE strong_jobs LOGIN BYPASSRLS")
    with pytest.raises(
        ProvisionError, match="role strong_jobs is a superuser or passes by row-level security"
    ):
        provision(servers.postgres_url, described(environment(servers, "strong")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"A_DATABASE_URL": ""}, "A_DATABASE_URL is not set"),
        (
            {"A_JOBS_DATABASE_URL": "postgresql://a_jobs:x@h/b"},
            r"must name one database, they name \['a', 'b'\]",
        ),
        ({"A_JOBS_DATABASE_URL": "postgresql://a:x@h/a"}, "must name three different roles"),
        ({"A_JOBS_DATABASE_URL": "postgresql://a_jobs@h/a"}, "each with a password"),
        ({"A_MIGRATION_DATABASE_URL": ""}, "no <SERVICE>_MIGRATION_DATABASE_URL is set"),
    ],
)
def test_described_when_urls_do_not_fit_together_then_names_what_is_wrong(
    change: dict[str, str], complaint: str
) -> None:
    env = {
        "A_DATABASE_URL": "postgresql://a:x@h/a",
        "A_JOBS_DATABASE_URL": "postgresql://a_jobs:x@h/a",
        "A_MIGRATION_DATABASE_URL": "postgresql://a_owner:x@h/a",
    }
    with pytest.raises(ProvisionError, match=complaint):
        described(env | change)


def test_described_when_urls_stand_in_files_then_reads_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("urls")
    env = {}
    for name, role in {"": "a", "JOBS_": "a_jobs", "MIGRATION_": "a_owner"}.items():
        file = folder / role
        file.write_text(f"postgresql://{role}:x@h/a\n")
        env[f"A_{name}DATABASE_URL_FILE"] = str(file)
    assert [database.name for database in described(env)] == ["a"]
