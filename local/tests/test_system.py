"""`make up` as its user sees it: a whole system, its refusals, and its end."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.topology import GATEWAY, SERVICES
from local.ports import Ports
from local.processes import start_time
from local.servers import delete_folder
from local.service_process import REPOSITORY

_START_SECONDS = 90.0


class Command:
    """`python -m local up` in a folder, as a process of its own."""

    def __init__(self, folder: Path, port: int, grpc_port: int) -> None:
        self.folder = folder
        self.env = {"PORT": str(port), "GRPC_PORT": str(grpc_port), "LOCAL_DIR": str(folder)}
        self.output = folder.with_suffix(".out")
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local", "up"],
                cwd=REPOSITORY,
                env={**os.environ, **self.env},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def await_up(self) -> dict[str, Any]:
        """Wait until it is up; answers `up.json`."""
        assert eventually(
            lambda: (self.folder / "up.json").exists() or self.process.poll() is not None, _START_SECONDS
        )
        assert self.process.poll() is None, self.output.read_text()
        return self.up

    @property
    def up(self) -> dict[str, Any]:
        """What `up.json` holds now."""
        up: dict[str, Any] = json.loads((self.folder / "up.json").read_text())
        return up

    def end(self) -> None:
        """Stop it if it runs, and delete its folder."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        delete_folder(self.folder)


def eventually(claim: Callable[[], bool], within: float) -> bool:
    """Whether the claim becomes true in time."""
    deadline = time.monotonic() + within
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def local(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "local", command],
        cwd=REPOSITORY,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def is_ready(url: str) -> bool:
    """Whether the process at `url` says so."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def pids(up: dict[str, Any]) -> list[int]:
    """All processes of a system except its supervisor."""
    return [entry["pid"] for entry in (*up["processes"].values(), *up["servers"].values())]


# Several starts in one test, on machines that are busy with other tests.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A system that runs while this module's tests do."""
    parent = tmp_path_factory.mktemp("system")
    ports = Ports(parent)
    command = Command(parent / "first", ports.take("http"), ports.take("grpc"))
    try:
        command.await_up()
        yield command
    finally:
        command.end()


def test_up_when_ready_then_tells_where_everything_is(running: Command) -> None:
    up = running.up
    assert up["gateway_url"] == f"http://127.0.0.1:{running.env['PORT']}"
    assert up["grpc_address"] == f"127.0.0.1:{running.env['GRPC_PORT']}"
    assert set(up["processes"]) == {*SERVICES, GATEWAY}
    assert all(is_ready(process["url"]) for process in up["processes"].values())
    assert up["demo"]["api_key"].startswith("ask_")
    assert up["demo"]["publishable_key"].startswith("apk_")
    shown = running.output.read_text()
    assert all(text in shown for text in (up["gateway_url"], up["admin_key"], up["demo"]["api_key"]))


def test_up_when_ready_then_its_secrets_are_readable_for_us_only(running: Command) -> None:
    for name in ("up.json", "env", "credentials.json", "demo.json"):
        assert stat.S_IMODE((running.folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(running.folder.stat().st_mode) & 0o066 == 0


def test_up_when_ready_then_the_demo_user_can_log_in(running: Command) -> None:
    demo = running.up["demo"]
    request = urllib.request.Request(
        f"{running.up['gateway_url']}/api/auth/login",
        json.dumps({"email": demo["email"], "password": demo["password"]}).encode(),
        {"Content-Type": "application/json", "X-API-Key": demo["api_key"]},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
        assert json.load(answer)["access_token"]


def test_up_when_a_system_runs_in_the_folder_then_says_where_and_fails(running: Command) -> None:
    second = local("up", **running.env)
    assert second.returncode == 1
    assert second.stderr == (
        f"make up: a system already runs in {running.folder}, at {running.up['gateway_url']}:"
        " `make down` stops it\n"
    )
    assert running.process.poll() is None


def test_up_when_its_port_is_busy_then_names_the_port_and_fails(running: Command, tmp_path: Path) -> None:
    second = local("up", **{**running.env, "LOCAL_DIR": str(tmp_path / "second")})
    assert second.returncode == 1
    expected = f"port {running.env['PORT']} is busy: stop what listens there, or `make up PORT=<another>`"
    assert second.stderr == f"make up: {expected}\n"


@pytest.mark.parametrize("port", ["http", "-1", "65536", "٨"])
def test_up_when_a_port_is_no_port_then_says_so(tmp_path: Path, port: str) -> None:
    refused = local("up", PORT=port, LOCAL_DIR=str(tmp_path / "local"))
    assert refused.returncode == 1
    assert refused.stderr == f"make up: PORT={port} is not a port: give a number from 1 to 65535\n"


def test_up_when_a_process_dies_then_it_is_started_again_at_its_address(running: Command) -> None:
    before = running.up["processes"]["audit"]
    os.kill(before["pid"], signal.SIGKILL)
    assert eventually(lambda: running.up["processes"]["audit"]["pid"] != before["pid"], 15)
    assert eventually(lambda: is_ready(before["url"]), 30)
    assert "audit ended with code -9; starting it again in 0.5 s" in running.output.read_text()


def test_run_when_no_service_is_named_then_lists_them(running: Command) -> None:
    refused = local("run", **{**running.env, "SERVICE": "mail"})
    assert refused.returncode == 1
    assert (
        refused.stderr
        == "make run: SERVICE=mail is not one of identity, token, orgs, federation, audit, gateway\n"
    )


def test_run_when_a_gateway_is_named_then_a_second_one_serves(running: Command) -> None:
    ports = Ports(running.folder)
    port = ports.take("another http")
    env = {**os.environ, **running.env, "SERVICE": GATEWAY}
    env |= {"PORT": str(port), "GRPC_PORT": str(ports.take("another grpc"))}
    second = subprocess.Popen(
        [sys.executable, "-m", "local", "run"], cwd=REPOSITORY, env=env, stdout=subprocess.DEVNULL
    )
    try:
        assert eventually(lambda: is_ready(f"http://127.0.0.1:{port}"), 30)
    finally:
        second.terminate()
        second.wait(30)


def test_up_when_it_ends_in_any_way_then_leaves_no_process_and_keeps_its_tenant(
    running: Command, tmp_path: Path
) -> None:
    ports = Ports(tmp_path)
    # Beside the first one: two systems share nothing but the machine.
    arguments = tmp_path / "side", ports.take("http"), ports.take("grpc")
    command = Command(*arguments)
    try:
        first = command.await_up()
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(30) == 0
        assert not any(start_time(pid) for pid in pids(first))
        assert not (command.folder / "up.json").exists()

        command = Command(*arguments)
        second = command.await_up()
        assert second["demo"] == first["demo"]
        command.process.kill()
        command.process.wait(5)
        assert eventually(lambda: not any(start_time(pid) for pid in pids(second)), 15)

        command = Command(*arguments)
        assert eventually(lambda: not (command.folder / "up.json").exists(), 10)
        assert command.await_up()["demo"] == first["demo"]
        stopped = local("down", **command.env)
        assert stopped.returncode == 0
        assert command.process.wait(5) == 0
    finally:
        command.end()
    assert is_ready(running.up["gateway_url"])


def test_down_when_nothing_runs_then_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    answer = local("down", LOCAL_DIR=str(folder))
    assert (answer.returncode, answer.stdout) == (0, f"  nothing runs in {folder}\n")
