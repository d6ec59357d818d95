"""One process: its faces, resources and jobs, from start to a drained stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from chassis.probes import Check, ProbeFace, Probes
from chassis.settings import Settings

log = structlog.get_logger()

_JOB_RESTART_SECONDS = 1.0
_CANCEL_AGAIN_SECONDS = 2.0
_BACKLOG = 2048

Job = Callable[[], Awaitable[None]]


class Resource(Protocol):
    """Something with a life: a pool, a connection, a channel."""

    async def start(self) -> None:
        """Begin; a peer that is away is not an error."""
        ...

    async def stop(self) -> None:
        """End, waiting briefly for what is in flight."""
        ...


class RpcFace(Protocol):
    """A gRPC server: `chassis.rpc.RpcServer` for a service, a pass-through for the gateway."""

    async def start(self, address: str) -> int:
        """Listen on `host:port` and return the port."""
        ...

    async def stop(self, grace: float) -> None:
        """Refuse new calls, and give those in flight `grace` seconds."""
        ...


@dataclass(slots=True)
class App:
    """What a process runs; built in one place, `app.py` of each service.

    `resources` start in order and stop in reverse. `jobs` run until the stop; one that fails is started
    again. `required` checks decide readiness, `optional` ones are only named. `make_face` gets the probes and
    returns the ASGI application. `make_rpc` is called inside the event loop. `api` is what the contract is
    made from. `demands_certificates` is off for the gateway, whose HTTP callers are the world;
    `http_protocol` is its hardened reading of HTTP/1.1 for them.
    """

    name: str
    settings: Settings
    make_face: Callable[[Probes], ASGIApp]
    make_rpc: Callable[[], RpcFace] | None = None
    resources: Sequence[Resource] = ()
    jobs: Mapping[str, Job] = field(default_factory=dict)
    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)
    share_ports: bool = False
    demands_certificates: bool = True
    http_protocol: type[asyncio.Protocol] | Literal["httptools"] = "httptools"
    api: FastAPI | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and stop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        probes = Probes(self.required, self.optional)
        async with self.started():
            rpc = self.make_rpc() if self.make_rpc else None
            if rpc is not None:
                await rpc.start(f"{self.settings.host}:{self.settings.grpc_port}")
            server = _Server(self._uvicorn_config(probes))
            listener = self._listen(self.settings.port)
            async with self._answering_probes(probes):
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                log.info("serving", http=listener.getsockname()[1], grpc=self.settings.grpc_port)
                await asyncio.wait(
                    [serving, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED
                )
                probes.draining = True
                log.info("draining")
                await asyncio.sleep(self.settings.drain_delay.total_seconds())
                server.should_exit = True
                grace = self.settings.drain_timeout.total_seconds()
                await asyncio.gather(serving, *([rpc.stop(grace)] if rpc else []))
        log.info("stopped")

    @contextlib.asynccontextmanager
    async def _answering_probes(self, probes: Probes) -> AsyncIterator[None]:
        """Serve the probes alone on their own port, when there is one, until everything else has ended.

        With mTLS the main port admits nobody without a certificate, and neither a kubelet nor Prometheus has
        one.
        """
        if self.settings.probe_port is None:
            yield
            return
        config = uvicorn.Config(
            ProbeFace(probes),
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        listener = self._listen(self.settings.probe_port)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        log.info("answering probes", http=listener.getsockname()[1])
        try:
            yield
        finally:
            server.should_exit = True
            await serving

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Start the resources and the jobs, and stop them at the end; tests use it without the ports."""
        async with contextlib.AsyncExitStack() as stack:
            for resource in self.resources:
                await resource.start()
                stack.push_async_callback(resource.stop)
            jobs = [asyncio.create_task(_keep_running(name, job)) for name, job in self.jobs.items()]
            try:
                yield
            finally:
                await _end(jobs)

    def _uvicorn_config(self, probes: Probes) -> uvicorn.Config:
        settings = self.settings
        secure = settings.internal_tls_cert is not None and self.demands_certificates
        return uvicorn.Config(
            self.make_face(probes),
            http=self.http_protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.drain_timeout.total_seconds()),
            ssl_certfile=settings.internal_tls_cert if secure else None,
            ssl_keyfile=settings.internal_tls_key if secure else None,
            ssl_ca_certs=str(settings.internal_tls_ca) if secure else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if secure else ssl.CERT_NONE,
        )

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.share_ports:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((self.settings.host, port))
        listener.listen(_BACKLOG)
        return listener


class _Server(uvicorn.Server):
    """uvicorn, which leaves the signals to `App.run`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


async def _end(jobs: Sequence[asyncio.Task[None]]) -> None:
    """Cancel the jobs until each has ended.

    Once is not enough: `asyncio.wait_for` in Python 3.11, which libraries use too, drops a cancellation that
    comes at the moment its result does (python/cpython#86296), and a stop would wait for such a job for ever.
    """
    pending = set(jobs)
    while pending:
        for job in pending:
            job.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)


async def _keep_running(name: str, job: Job) -> None:
    while True:
        try:
            await job()
        except Exception:
            log.exception("job failed", job=name)
        else:
            log.error("job ended by itself", job=name)
        await asyncio.sleep(_JOB_RESTART_SECONDS)
