"""Runs ASGI applications and the gateway on loopback ports, in the event loop of the tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

from chassis.probes import Probes
from chassis.ratelimit import Limit
from gateway.app import build
from gateway.config import GatewaySettings
from gateway.contract import Contract
from gateway.protocol import HardenedProtocol
from tests.harness import BASE_URL, System

ADMIN_KEY = "aak_t3sts-0nly-Zq9vXw7LmN2pRs4TuVyA6bCdE8fGhJk"
_READY_SECONDS = 15.0


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, *, http: Any = "httptools") -> AsyncIterator[int]:
    """Serve an application on a free port, which is yielded."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


@dataclass(slots=True)
class RunningGateway:
    """A gateway under test."""

    port: int
    grpc_port: int
    client: httpx.AsyncClient

    async def raw(self, data: bytes, *, seconds: float = 5.0) -> bytes:
        """Send bytes on a connection of its own and return all that comes until it closes or falls silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = b""
        try:
            writer.write(data)
            async with asyncio.timeout(seconds):
                while part := await reader.read(65536):
                    received += part
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return received


@contextlib.asynccontextmanager
async def in_background(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a job that does not end by itself."""
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def running_gateway(
    system: System, urls: dict[str, str], *, contract: Contract | None = None, **changes: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway of the system; `changes` are settings that win."""
    values: dict[str, Any] = {
        "port": 0,
        "grpc_port": 0,
        "admin_api_key": SecretStr(ADMIN_KEY),
        "admin_token_secret": system.admin_token_secret,
        "internal_auth_key": SecretStr(system.root_key),
        "nats_url": SecretStr(system.servers.nats_url("gateway")),
        "redis_url": SecretStr(system.servers.redis_url),
        "base_url": BASE_URL,
        "trusted_proxies": [ip_network("127.0.0.0/8")],
        **{f"{name}_url": url for name, url in urls.items()},
        **{f"{name}_grpc": f"127.0.0.1:{system.ports[name]}" for name in urls},
    }
    for name in GatewaySettings.model_fields:
        if name.startswith("rate_limit_") and name != "rate_limit_server_factor":
            values[name] = Limit(100_000, 60)
    app = build(GatewaySettings(**{**values, **changes}), system.clock, contract)
    probes = Probes(app.required, app.optional)
    assert app.make_rpc is not None
    async with app.started(), serving(app.make_face(probes), http=HardenedProtocol) as port:
        rpc = app.make_rpc()
        grpc_port = await rpc.start("127.0.0.1:0")
        async with asyncio.timeout(_READY_SECONDS):
            while not (await probes.readiness())[0]:
                await asyncio.sleep(0.02)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            try:
                yield RunningGateway(port, grpc_port, client)
            finally:
                await rpc.stop(0)
