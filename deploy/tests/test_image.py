"""An image, built and run: not as root, on a read-only root, with nothing to install with."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.secret_files import main
from deploy.tests.engine import Engine, base_image, engine
from local.ports import Ports

ROOT = Path(__file__).parent.parent.parent
IMAGE = "authservice-orgs:test"
NAME = f"authservice-image-test-{os.getpid()}"

pytestmark = [pytest.mark.container, pytest.mark.timeout(900), pytest.mark.xdist_group("container")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has built the image of orgs."""
    with engine() as running:
        base = os.environ.get("TEST_BASE_IMAGE") or base_image(running, tmp_path_factory.mktemp("base"))
        arguments = ["--network=host", "--file=deploy/Dockerfile", f"--build-arg=BASE_IMAGE={base}"]
        running.run("build", *arguments, "--build-arg=SERVICE=orgs", f"--tag={IMAGE}", str(ROOT), timeout=600)
        yield running


@pytest.fixture(scope="module")
def probe_port(built: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the probes of a container that runs as it is deployed, with all stores away."""
    folder = tmp_path_factory.mktemp("run")
    ports = Ports(folder)
    numbers = {name: ports.take(name) for name in ("PORT", "GRPC_PORT", "PROBE_PORT")}
    away = f"127.0.0.1:{ports.take('nothing')}"
    main([str(folder / "secrets"), "--postgres", away, "--redis", away, "--nats", away])
    # The secrets' folder itself is closed to the container's user; what is mounted is each file.
    files = {
        name: folder / "secrets" / f"orgs_{name.lower()}"
        for name in ("DATABASE_URL", "JOBS_DATABASE_URL", "MASTER_KEY", "INTERNAL_KEYS", "NATS_URL")
    }
    mounts = [f"--volume={file}:/run/secrets/{name}:ro" for name, file in files.items()]
    variables = [f"--env={name}_FILE=/run/secrets/{name}" for name in files]
    variables += [f"--env={name}={number}" for name, number in numbers.items()]
    hardened = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    built.run(
        "run",
        "--detach",
        "--network=host",
        f"--name={NAME}",
        "--env=ENVIRONMENT=production",
        "--env=TOKEN_GRPC=127.0.0.1:1",
        *hardened,
        *mounts,
        *variables,
        IMAGE,
    )
    try:
        yield numbers["PROBE_PORT"]
    finally:
        built.run("rm", "--force", NAME)


def test_container_when_its_stores_are_away_then_lives_and_says_so(built: Engine, probe_port: int) -> None:
    status, answer = until_answering(built, probe_port, "/healthz")
    assert (status, answer) == (200, {"status": "ok"})
    status, answer = until_answering(built, probe_port, "/readyz")
    assert (status, answer["checks"]) == (503, {"database": "away", "nats": "away"})


def test_container_is_not_root_and_cannot_write(built: Engine, probe_port: int) -> None:
    until_answering(built, probe_port, "/healthz")
    assert inside(built, "id -u; id -g") == "10001\n10001\n"
    assert inside(built, "touch /app/x 2>&1 || touch /x 2>&1 || touch /tmp/x && echo only /tmp").endswith(
        "only /tmp\n"
    )


def test_image_holds_one_process_and_nothing_to_install_with(built: Engine, probe_port: int) -> None:
    until_answering(built, probe_port, "/healthz")
    assert inside(built, "ls services").split() == ["__init__.py", "__pycache__", "orgs"]
    assert inside(built, "ls").split() == ["chassis", "contracts", "services"]
    assert (
        inside(built, "find / -name tests -path '/app/*' -not -path '*/site-packages/*' 2>/dev/null || true")
        == ""
    )
    assert inside(built, "command -v pip pip3 uv gcc cc make || echo nothing") == "nothing\n"
    for module in ("pip", "ensurepip", "pytest", "grpc_tools", "bcrypt", "uv"):
        missing = inside(built, f"python -c 'import {module}' 2>&1 | grep -c ModuleNotFoundError")
        assert missing == "1\n", module
    assert inside(
        built, "python -c 'import authservice_validator; print(authservice_validator.__file__)'"
    ).startswith("/app/.venv/")


def test_image_checks_its_own_health(built: Engine, probe_port: int) -> None:
    until_answering(built, probe_port, "/healthz")
    check = json.loads(built.run("image", "inspect", "--format={{json .Config.Healthcheck.Test}}", IMAGE))
    assert check[0] == "CMD"
    built.run("exec", NAME, *check[1:])


def test_container_when_stopped_then_drains_and_ends_well(built: Engine, probe_port: int) -> None:
    until_answering(built, probe_port, "/healthz")
    began = time.monotonic()
    built.run("stop", "--time=30", NAME)
    assert time.monotonic() - began < 20
    assert built.run("inspect", "--format={{.State.ExitCode}}", NAME) == "0\n"


def inside(running: Engine, script: str) -> str:
    """What a shell command prints in the container."""
    return running.run("exec", NAME, "sh", "-c", script)


def until_answering(running: Engine, port: int, path: str) -> tuple[int, dict[str, object]]:
    """Ask until somebody answers; a container that has ended instead fails with its log."""
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError:
            state = running.run("inspect", "--format={{.State.Status}}", NAME).strip()
            assert state == "running", running.run("logs", NAME)
            assert time.monotonic() < deadline, running.run("logs", NAME)
            time.sleep(0.1)
        finally:
            connection.close()
