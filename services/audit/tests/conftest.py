"""A log of its own for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from chassis.bus import STREAM
from chassis.database import Database
from chassis.ids import new_id
from services.audit.tests.chain_log import WAIT_SECONDS, ChainLog
from tests.harness import System


@pytest.fixture(scope="session")
async def stream(system: System) -> AsyncIterator[JetStreamContext]:
    """The event stream, as somebody who may publish in every service's name."""
    client = await nats.connect(system.servers.nats_url("admin"))
    stream = client.jetstream()
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while True:
        # A service that starts creates it.
        try:
            await stream.stream_info(STREAM)
            break
        except NotFoundError:
            assert asyncio.get_running_loop().time() < deadline, "no stream"
            await asyncio.sleep(0.02)
    yield stream
    await client.close()


@pytest.fixture
def log(system: System, stream: JetStreamContext) -> ChainLog:
    """The log of a client that no other test knows."""
    return ChainLog(system, stream, new_id())


@pytest.fixture
def other_log(system: System, stream: JetStreamContext) -> ChainLog:
    """The log of another client."""
    return ChainLog(system, stream, new_id())


@pytest.fixture
async def database(system: System) -> AsyncIterator[Database]:
    """The audit database with the roles of the service."""
    async with system.db("audit") as opened:
        yield opened
