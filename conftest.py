"""Fixtures of the suite: real servers once per test process, and the services on them in one loop."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_socket

from local.servers import Servers, start_servers
from tests.harness import System, Tenant

_ROOT = Path(__file__).parent


def pytest_runtest_setup() -> None:
    """Tests reach this machine only; what tries to reach the network fails."""
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the suite for `make test`, which runs its files on several processes.

    The files that need a running system come first, being the longest; each process starts one of its own.
    What takes servers away runs alone.
    """
    for item in items:
        if item.path.is_relative_to(_ROOT / "tests" / "chaos"):
            item.add_marker(pytest.mark.alone)
    items.sort(key=lambda item: not item.path.is_relative_to(_ROOT / "tests"))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL, Valkey and NATS of this test process."""
    with tempfile.TemporaryDirectory(prefix="authservice-tests-") as name:
        # PostgreSQL does not run as root; its user must be able to pass through to its data.
        Path(name).chmod(0o711)
        running = start_servers(Path(name) / "local", environ={}, durable=False)
        yield running
        running.stop()


@pytest.fixture(scope="session")
async def system(servers: Servers) -> AsyncIterator[System]:
    """All services, in this event loop, on the real servers; called as the gateway calls them."""
    async with System.started(servers) as running:
        yield running


@pytest.fixture(autouse=True)
def put_clock_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no test leave the clock of the services where it moved it: the next goes by the machine's."""
    if "system" not in request.fixturenames:
        yield
        return
    system: System = request.getfixturevalue("system")
    yield
    system.clock.offset = timedelta(0)


@pytest.fixture
async def tenant(system: System) -> Tenant:
    """A fresh client; tests never share one, so none needs cleaning."""
    return await system.tenant()
