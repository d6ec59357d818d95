"""What each process is told, and what it is not."""

import pytest

from contracts.topology import GATEWAY, SERVICES
from local.environment import of_process, parse, render

_ENV = {
    "ADMIN_API_KEY": "admin",
    "ADMIN_TOKEN_SECRET": "admins",
    "INTERNAL_AUTH_KEY": "root",
    "MASTER_KEY": "master",
    "REDIS_URL": "redis://",
    **{
        f"{service.upper()}_{name}": f"{service} {name}"
        for service in (*SERVICES, GATEWAY)
        for name in (
            "DATABASE_URL",
            "JOBS_DATABASE_URL",
            "MIGRATION_DATABASE_URL",
            "NATS_URL",
            "INTERNAL_KEYS",
        )
    },
    **{f"{service.upper()}_URL": f"http://{service}" for service in SERVICES},
    **{f"{service.upper()}_GRPC": f"{service}:1" for service in SERVICES},
}


@pytest.mark.parametrize("service", SERVICES)
def test_service_when_started_then_holds_its_own_secrets_and_nobody_elses(service: str) -> None:
    given = of_process(service, _ENV)
    secrets = {name for name in given if name in _ENV and not name.endswith(("_URL", "_GRPC"))}
    of_admins = {"ADMIN_TOKEN_SECRET"} if service == "identity" else set()
    assert secrets == {"MASTER_KEY", f"{service.upper()}_INTERNAL_KEYS"} | of_admins
    urls = {name for name in given if name.endswith(("DATABASE_URL", "NATS_URL"))}
    assert urls == {f"{service.upper()}_{name}" for name in ("DATABASE_URL", "JOBS_DATABASE_URL", "NATS_URL")}


def test_gateway_when_started_then_holds_no_master_key_and_no_database() -> None:
    given = of_process(GATEWAY, _ENV)
    assert {
        "ADMIN_API_KEY",
        "ADMIN_TOKEN_SECRET",
        "INTERNAL_AUTH_KEY",
        "GATEWAY_NATS_URL",
        "IDENTITY_URL",
        "AUDIT_GRPC",
    } <= given.keys()
    assert not [name for name in given if name.startswith("MASTER_KEY")]
    assert not [
        name for name in given if name.startswith(tuple(s.upper() for s in SERVICES)) and "DATABASE" in name
    ]


def test_process_when_our_own_environment_holds_a_secret_of_another_then_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ADMIN_API_KEY", "DATABASE_URL", "IDENTITY_DATABASE_URL_FILE", "PORT"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("BCRYPT_COST", "10")
    given = of_process("token", {})
    assert given["BCRYPT_COST"] == "10"
    assert not given.keys() & {"ADMIN_API_KEY", "DATABASE_URL", "IDENTITY_DATABASE_URL_FILE", "PORT"}


def test_migration_when_run_then_is_given_the_owners_url() -> None:
    assert (
        of_process("orgs", _ENV, migrates=True)["ORGS_MIGRATION_DATABASE_URL"]
        == "orgs MIGRATION_DATABASE_URL"
    )


def test_env_file_when_read_back_then_is_the_same() -> None:
    env = {"A": "plain", "B": "a>b=c,d>e=f", "C": "http://x?y=1&z=2", "D": ""}
    assert parse(render(env).splitlines()) == env
