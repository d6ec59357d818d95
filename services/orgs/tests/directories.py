"""The caches of clients and apps as another process has them, and another process of the registry."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from chassis.bus import Bus
from chassis.errors import AppError
from contracts.apps import AppDirectory
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


@contextlib.asynccontextmanager
async def app_directory(system: System, port: int | None = None) -> AsyncIterator[AppDirectory]:
    """Run a directory in the name of the token service, connected to the bus, for as long as the block."""
    bus = Bus(system.servers.nats_url("token"), process="test")
    async with system.channel("orgs", caller="token", port=port) as channel:
        apps = AppDirectory(channel, bus)
        await bus.start()
        try:
            async with asyncio.timeout(_SECONDS):
                while not bus.client.is_connected:
                    await asyncio.sleep(0.01)
            await bus.client.flush()
            yield apps
        finally:
            await bus.stop()


@contextlib.asynccontextmanager
async def process(system: System, **settings: Any) -> AsyncIterator[int]:
    """Run another process of the registry, and return its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    app = system.definitions["orgs"].build(system.settings("orgs", **settings), system.clock)
    async with app.started():
        assert app.make_rpc is not None
        server = app.make_rpc()
        await server.start(f"127.0.0.1:{port}")
        try:
            yield port
        finally:
            await server.stop(0)
