"""A gateway on real ports before real services; where a test must see what arrives, before an echo."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.contract import Contract
from gateway.tests.echo import ECHO_CONTRACT, Echo
from gateway.tests.running import RunningGateway, running_gateway, serving
from tests.harness import System


@pytest.fixture(scope="session")
async def service_urls(system: System) -> AsyncIterator[dict[str, str]]:
    """The services' HTTP faces on ports."""
    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        for name, face in system.faces.items():
            port = await stack.enter_async_context(serving(face))
            urls[name] = f"http://127.0.0.1:{port}"
        yield urls


@pytest.fixture(scope="session")
async def gateway(system: System, service_urls: dict[str, str]) -> AsyncIterator[RunningGateway]:
    """The gateway with its own contract; limits are wide, so that tests do not meet each other's."""
    async with running_gateway(system, service_urls) as running:
        yield running


@pytest.fixture(scope="session")
async def echo() -> AsyncIterator[Echo]:
    """A service that records what it is sent."""
    recorder = Echo()
    async with serving(recorder) as port:
        recorder.url = f"http://127.0.0.1:{port}"
        yield recorder


@pytest.fixture(scope="session")
async def echo_gateway(
    system: System, service_urls: dict[str, str], echo: Echo
) -> AsyncIterator[RunningGateway]:
    """The gateway with the echo in the place of identity, by a contract with one route of each kind."""
    urls = {**service_urls, "identity": echo.url}
    async with running_gateway(system, urls, contract=Contract(ECHO_CONTRACT)) as running:
        yield running
