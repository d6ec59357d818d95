"""The cache of clients as another process has it, for tests of what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from chassis.bus import Bus
from chassis.errors import AppError
from contracts.clients import ClientDirectory
from tests.harness import System

_SECONDS = 5.0


@contextlib.asynccontextmanager
async def directory(system: System) -> AsyncIterator[ClientDirectory]:
    """Run a directory in the name of identity, connected to the bus, for as long as the block."""
    bus = Bus(system.servers.nats_url("identity"), process="test")
    async with system.channel("orgs", caller="identity") as channel:
        clients = ClientDirectory(channel, bus)
        await bus.start()
        try:
            async with asyncio.timeout(_SECONDS):
                while not bus.client.is_connected:
                    await asyncio.sleep(0.01)
            await bus.client.flush()
            yield clients
        finally:
            await bus.stop()


async def code_of(clients: ClientDirectory, key: str) -> str:
    """Return the error code that a key meets, or the id of the client it stands for."""
    try:
        return str((await clients.resolve_key(key)).client.id)
    except AppError as error:
        return error.code


async def until_refused(clients: ClientDirectory, key: str) -> None:
    """Wait until the key is refused, which takes a message's way and not the cache's thirty seconds."""
    async with asyncio.timeout(_SECONDS):
        while await code_of(clients, key) != "invalid_api_key":
            await asyncio.sleep(0.01)
