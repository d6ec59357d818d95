"""Several workers on one port: they share it, are replaced when they die, and never outlive their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from chassis.tests.conftest import NotesSettings

Parent = tuple[subprocess.Popen[bytes], int]

PROGRAM = """
from chassis.service import Service, serve
from chassis.tests.conftest import NotesSettings

def build(settings, clock=None):
    return Service(settings, clock).app(routes=[], rpc=[], callers={})

if __name__ == "__main__":
    raise SystemExit(serve(NotesSettings.load(), build))
"""


@pytest.fixture
def parent(notes_settings: NotesSettings, tmp_path: Path) -> Iterator[Parent]:
    """A parent of two workers of the notes service, and their port."""
    program = tmp_path / "notes_service.py"
    program.write_text(PROGRAM)
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PORT": str(ports[0]),
        "GRPC_PORT": str(ports[1]),
        "WEB_CONCURRENCY": "2",
        "DATABASE_URL": notes_settings.database_url.get_secret_value(),
        "JOBS_DATABASE_URL": notes_settings.jobs_database_url.get_secret_value(),
        "NATS_URL": notes_settings.nats_url.get_secret_value(),
        "MASTER_KEY": notes_settings.master_key.get_secret_value(),
        "INTERNAL_KEYS": notes_settings.internal_keys.get_secret_value(),
    }
    process = subprocess.Popen([sys.executable, str(program)], env=environment, stderr=subprocess.DEVNULL)
    yield process, ports[0]
    if process.poll() is None:
        process.kill()
        process.wait()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def workers_of(parent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(parent.pid).children()


def test_workers_share_the_port_and_a_dead_one_is_replaced(
    parent: tuple[subprocess.Popen[bytes], int],
) -> None:
    process, port = parent
    until(lambda: answers(port))
    first = workers_of(process)
    assert len(first) == 2
    assert "outbox_relayed_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    first[0].kill()
    until(lambda: len(workers_of(process)) == 2 and first[0].pid not in {w.pid for w in workers_of(process)})
    until(lambda: answers(port))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert psutil.wait_procs(first, timeout=10)[1] == []


def test_workers_end_when_the_parent_is_killed(parent: Parent) -> None:
    process, port = parent
    until(lambda: answers(port))
    orphans = workers_of(process)
    process.kill()
    process.wait()
    assert psutil.wait_procs(orphans, timeout=30)[1] == []
