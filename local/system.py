"""The whole system in one folder, for `make up`, tests and benchmarks.

    system = System.start(folder, processes={"gateway": 2, "token": 2})
    system.up["gateway_url"], system.process("token-2").kill(), system.servers.nats.stop()
    system.stop()

Whoever starts it owns it: it ends with `stop`, or with the process that started it.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from contracts.topology import GATEWAY, SERVICES
from local.credentials import Credentials, write_private
from local.demo import Demo, seed
from local.environment import complete, render
from local.errors import LocalError
from local.lock import FolderLock
from local.migrations import migrate_all
from local.ports import Ports, is_free
from local.processes import ManagedProcess
from local.servers import Servers, make_folder, start_servers
from local.service_process import ServiceProcess

KINDS = (*SERVICES, GATEWAY)
_READY_TIMEOUT = 90.0
_REPORT_AFTER = 10.0
_STOP_TIMEOUT = 10.0
_POLL_SECONDS = 0.03

Report = Callable[[str], None]


def _silent(_line: str) -> None:
    """Report to nobody."""


class System:
    """Servers, services, gateway and demo tenant of one folder."""

    servers: Servers
    env: dict[str, str]

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        grpc_port: int | None = None,
        env: Mapping[str, str] | None = None,
        processes: Mapping[str, int] | None = None,
        with_demo: bool = True,
        durable: bool = True,
        report: Report = _silent,
    ) -> None:
        """Describe the system; nothing runs before `start_all`. Arguments as of `start`."""
        self.folder = folder.absolute()
        self.processes: dict[str, ServiceProcess] = {}
        self.demo: Demo | None = None
        self._public = {"gateway": port, "gateway grpc": grpc_port}
        self._wanted = dict(env or {})
        self._given = {**os.environ, **self._wanted}
        self._counts = {kind: (processes or {}).get(kind, 1) for kind in KINDS}
        self._with_demo = with_demo
        self._durable = durable
        self._report = report
        self._lock: FolderLock | None = None
        self._servers: Servers | None = None

    @classmethod
    def start(
        cls,
        local_dir: Path,
        *,
        port: int | None = None,
        grpc_port: int | None = None,
        env: Mapping[str, str] | None = None,
        processes: Mapping[str, int] | None = None,
        with_demo: bool = True,
        durable: bool = True,
        report: Report = _silent,
    ) -> Self:
        """Start everything and return when all of it is ready.

        Args:
            local_dir: data, logs, secrets; the same folder gives the same system again.
            port: of the first gateway; None takes a free one.
            grpc_port: likewise.
            env: settings for all processes (`<SERVICE>_<NAME>` for one), on top of our own environment.
            processes: how many of each kind; one where nothing is said, 0 leaves a kind out.
            with_demo: whether to create the demo tenant.
            durable: False makes PostgreSQL faster and unsafe against power loss; for data nobody will miss.
            report: told each step in one line.

        Raises:
            LocalError: it cannot start; says what to do. Nothing of it runs then.
        """
        system = cls(
            local_dir,
            port=port,
            grpc_port=grpc_port,
            env=env,
            processes=processes,
            with_demo=with_demo,
            durable=durable,
            report=report,
        )
        try:
            system.start_all()
        except BaseException:
            system.stop()
            raise
        return system

    def start_all(self) -> None:
        """Start everything and wait until it is ready; on an error the caller calls `stop`."""
        make_folder(self.folder)
        self._lock = FolderLock(self.folder)
        # Of a system that was killed: whoever waits for the file must not read that one.
        (self.folder / "up.json").unlink(missing_ok=True)
        for name, port in self._public.items():
            if port is not None and not is_free(port):
                variable = "GRPC_PORT" if "grpc" in name else "PORT"
                raise LocalError(
                    f"port {port} is busy: stop what listens there, or `make up {variable}=<another>`"
                )
        self._report("starting PostgreSQL, Valkey and NATS")
        self.servers = self._servers = start_servers(self.folder, environ=self._given, durable=self._durable)
        ports = self._choose_ports()
        credentials = Credentials(self.folder)
        made = complete(self.servers, credentials, _addresses(ports), self._base_url(ports), self._given)
        self.env = {**self._wanted, **made}
        write_private(self.folder / "env", render(self.env))
        self._report("migrating")
        services = [service for service in SERVICES if self._counts[service]]
        migrate_all(self.folder, self.servers.postgres_url, self.env, services)
        self._report("starting services and gateway")
        for kind, pairs in ports.items():
            for number, (port, grpc_port) in enumerate(pairs, start=1):
                name = kind if number == 1 else f"{kind}-{number}"
                self.processes[name] = ServiceProcess(
                    name, kind, folder=self.folder, env=self.env, port=port, grpc_port=grpc_port
                )
        for process in self.processes.values():
            process.start()
        self.await_ready()
        if self._with_demo and self._counts[GATEWAY]:
            self.demo = seed(self.folder, self.process(GATEWAY).port, self.env["ADMIN_API_KEY"])
        self.write_up()

    def _choose_ports(self) -> dict[str, list[tuple[int, int]]]:
        """HTTP and gRPC port of each process, by kind."""
        ports = Ports(self.folder)
        chosen: dict[str, list[tuple[int, int]]] = {}
        for kind, count in self._counts.items():
            names = [kind if number == 1 else f"{kind}-{number}" for number in range(1, count + 1)]
            chosen[kind] = [
                (
                    self._public.get(name) or ports.take(name),
                    self._public.get(f"{name} grpc") or ports.take(f"{name} grpc"),
                )
                for name in names
            ]
        return chosen

    def _base_url(self, ports: Mapping[str, list[tuple[int, int]]]) -> str:
        return f"http://localhost:{ports[GATEWAY][0][0]}" if ports[GATEWAY] else "http://localhost:8080"

    def await_ready(self, names: Iterable[str] | None = None, timeout: float = _READY_TIMEOUT) -> None:
        """Wait until the named processes (all, when none are named) are ready.

        Raises:
            LocalError: one died, with the end of its log, or `timeout` seconds went by.
        """
        began = time.monotonic()
        reported = False
        waiting = [self.process(name) for name in (names or self.processes)]
        while waiting := [process for process in waiting if not process.is_ready()]:
            for process in waiting:
                if not process.is_running:
                    raise LocalError(process.obituary())
            elapsed = time.monotonic() - began
            if elapsed > timeout:
                raise LocalError(
                    f"not ready after {timeout:.0f} s: {_missing(waiting)}; logs in {self.folder}/logs"
                )
            if elapsed > _REPORT_AFTER and not reported:
                self._report(f"still waiting for {_missing(waiting)}")
                reported = True
            time.sleep(_POLL_SECONDS)

    def process(self, name: str) -> ServiceProcess:
        """The process of that name (`token`, `token-2`); LocalError when there is none."""
        try:
            return self.processes[name]
        except KeyError:
            raise LocalError(f"no process {name}; there are {', '.join(self.processes)}") from None

    @property
    def up(self) -> dict[str, Any]:
        """What `up.json` holds: addresses, keys, pids and the demo tenant, as of now."""
        gateways = [process for process in self.processes.values() if process.kind == GATEWAY]
        urls = {name.lower(): url for name, url in self.env.items() if name.endswith("DATABASE_URL")}
        return {
            "gateway_url": gateways[0].url if gateways else None,
            "gateway_urls": [gateway.url for gateway in gateways],
            "grpc_address": gateways[0].grpc if gateways else None,
            "docs_url": f"{gateways[0].url}/docs" if gateways else None,
            "admin_key": self.env["ADMIN_API_KEY"],
            "database_url": self.servers.postgres_url,
            "database_urls": urls,
            "redis_url": self.servers.redis_url,
            "nats_url": self.servers.nats_url(),
            "supervisor_pid": os.getpid(),
            "processes": {
                name: {"kind": process.kind, "pid": process.pid, "url": process.url, "grpc": process.grpc}
                for name, process in self.processes.items()
            },
            "servers": {server.name: {"pid": server.pid, "port": server.port} for server in self.servers},
            "demo": asdict(self.demo) if self.demo else None,
        }

    def write_up(self) -> None:
        """Write `up.json`, for us only: it holds secrets."""
        write_private(self.folder / "up.json", json.dumps(self.up, indent=2) + "\n")

    def all_processes(self) -> list[ManagedProcess]:
        """Everything that runs, in the order it was started."""
        servers: list[ManagedProcess] = list(self._servers or ())
        return [*servers, *self.processes.values()]

    def stop(self) -> None:
        """Stop everything, gateways first and servers last; safe to call again. Data stays."""
        for group in ((GATEWAY,), SERVICES):
            members = [process for process in self.processes.values() if process.kind in group]
            for process in members:
                process.ask_to_stop()
            for process in members:
                process.wait_stopped(_STOP_TIMEOUT)
        if self._servers is not None:
            self._servers.stop()
        if self._lock is not None:
            (self.folder / "up.json").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None


def _addresses(ports: Mapping[str, list[tuple[int, int]]]) -> dict[str, tuple[list[str], list[str]]]:
    return {
        kind: ([f"http://127.0.0.1:{http}" for http, _ in pairs], [f"127.0.0.1:{grpc}" for _, grpc in pairs])
        for kind, pairs in ports.items()
    }


def _missing(waiting: list[ServiceProcess]) -> str:
    """Who is not ready and why, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for process in waiting:
        reasons.setdefault(process.why_not_ready(), []).append(process.name)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
