"""deploy/compose.yaml: valid, and as closed as production."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from contracts.topology import GATEWAY, SERVICES
from deploy.secret_files import main
from deploy.tests.manifests import DEPLOY, Manifest

STORES = {"postgres", "valkey", "nats"}
PROCESSES = {GATEWAY, *SERVICES}
ONE_SHOTS = {"provision", *(f"{service}-migrate" for service in SERVICES)}


@pytest.fixture(scope="module")
def compose() -> Manifest:
    parsed: Manifest = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return parsed


def test_compose_reads_the_file(tmp_path: Path) -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed: only the structure is tested")
    # The program in Debian is older than the top-level `name`.
    lines = (DEPLOY / "compose.yaml").read_text().splitlines(keepends=True)
    file = tmp_path / "compose.yaml"
    file.write_text("".join(line for line in lines if not line.startswith("name:")))
    command = ["docker-compose", "--file", str(file), "config", "--services"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == STORES | PROCESSES | ONE_SHOTS


def test_secrets_are_those_that_the_command_makes_and_all_are_used(compose: Manifest, tmp_path: Path) -> None:
    main([str(tmp_path)])
    declared = set(compose["secrets"])
    assert declared <= {file.name for file in tmp_path.iterdir()}
    used = {secret for service in compose["services"].values() for secret in service.get("secrets", [])}
    assert used == declared
    for name, secret in compose["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-./secrets}}/{name}"}


def test_each_process_is_given_its_own_secrets_only(compose: Manifest) -> None:
    for name in PROCESSES:
        foreign = PROCESSES - {name}
        for secret in compose["services"][name]["secrets"]:
            assert secret.partition("_")[0] not in foreign, (name, secret)
            assert not secret.endswith("migration_database_url"), name
    root = {
        name for name, each in compose["services"].items() if "internal_auth_key" in each.get("secrets", [])
    }
    assert root == {GATEWAY}


def test_no_secret_is_a_plain_variable(compose: Manifest) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in ("KEY", "PASSWORD", "DATABASE_URL", "NATS_URL", "REDIS_URL")):
                assert variable.endswith("_FILE"), (name, variable)
                assert str(value).startswith("/run/secrets/"), (name, variable)


def test_only_the_gateway_is_published(compose: Manifest) -> None:
    assert {name for name, service in compose["services"].items() if "ports" in service} == {GATEWAY}
    networks = compose["networks"]
    closed = {name for name, network in networks.items() if network.get("internal")}
    for name, service in compose["services"].items():
        assert (set(service["networks"]) <= closed) == (name != GATEWAY), name
    assert "data" not in compose["services"][GATEWAY]["networks"], "the gateway needs no database"


def test_containers_may_do_nothing_they_need_not(compose: Manifest) -> None:
    for name in PROCESSES | ONE_SHOTS:
        service = compose["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_processes_start_when_what_they_need_is_there(compose: Manifest) -> None:
    for service in SERVICES:
        waits = compose["services"][service]["depends_on"]
        assert waits[f"{service}-migrate"] == {"condition": "service_completed_successfully"}
        waits = compose["services"][f"{service}-migrate"]["depends_on"]
        assert waits == {"provision": {"condition": "service_completed_successfully"}}
    assert set(compose["services"][GATEWAY]["depends_on"]) == {*SERVICES, "valkey", "nats"}


def test_images_of_others_are_pinned(compose: Manifest) -> None:
    for name in STORES:
        assert "." in compose["services"][name]["image"].rpartition(":")[2], name


def test_who_stands_before_the_gateway_can_be_said(compose: Manifest) -> None:
    """Without it all clients behind a balancer share one address, and with it every limit by address."""
    told = compose["services"][GATEWAY]["environment"]
    assert told["TRUSTED_PROXIES"] == "${TRUSTED_PROXIES:-}"
    assert told["FORWARDED_HEADER"] == "${FORWARDED_HEADER:-x-forwarded-for}"
