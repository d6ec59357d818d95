"""The three servers alone: credentials, permissions, data that stays, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from local.binaries import find_postgres
from local.errors import LocalError
from local.processes import start_time
from local.servers import Servers, await_ready, delete_folder, start_servers
from local.service_process import REPOSITORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that is deleted with all that belongs to it."""
    folder = tmp_path_factory.mktemp("servers") / "local"
    yield folder
    delete_folder(folder)


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[Servers]:
    """All three servers, running."""
    servers = start_servers(folder, environ={}, durable=False)
    yield servers
    servers.stop()


def converse(port: int, text: str) -> list[str]:
    """What NATS answers, up to its PONG or the end of the connection; its greeting left out."""
    answers: list[str] = []
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(text.encode())
        with connection.makefile("r") as lines:
            next(lines)
            while (not answers or answers[-1] != "PONG") and (line := lines.readline()):
                answers.append(line.strip())
    return answers


def eventually(claim: Callable[[], bool], within: float = 10.0) -> bool:
    """Whether the claim becomes true in time."""
    deadline = time.monotonic() + within
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_servers_when_no_or_a_wrong_password_is_given_then_refuse(servers: Servers) -> None:
    assert servers.postgres
    assert servers.valkey
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{servers.postgres.port}/postgres")
    with socket.create_connection(("127.0.0.1", servers.valkey.port), timeout=5) as anonymous:
        anonymous.sendall(b"GET x\r\n")
        assert anonymous.recv(64).startswith(b"-NOAUTH")
    assert redis.Redis.from_url(servers.redis_url).ping()


def test_nats_when_nobody_is_named_then_refuses(servers: Servers) -> None:
    assert servers.nats
    answers = converse(servers.nats.port, 'CONNECT {"verbose":false}\r\nPING\r\n')
    assert answers == ["-ERR 'Authorization Violation'"]


@pytest.mark.parametrize(
    ("user", "subject", "is_allowed"),
    [
        ("identity", "events.identity.user_created", True),
        ("identity", "invalidate.client", True),
        ("identity", "events.orgs.client_updated", False),
        ("gateway", "invalidate.client", False),
        ("gateway", "events.identity.user_created", False),
        ("gateway", "$JS.API.STREAM.DELETE.EVENTS", False),
    ],
)
def test_nats_when_a_process_publishes_then_only_in_its_own_name(
    servers: Servers, user: str, subject: str, is_allowed: bool
) -> None:
    assert servers.nats
    url = urlsplit(servers.nats_url(user))
    login = {"verbose": False, "user": url.username, "pass": url.password}
    answers = converse(
        servers.nats.port, f"CONNECT {json.dumps(login)}\r\nPUB {subject} 2\r\n{{}}\r\nPING\r\n"
    )
    assert any("Permissions Violation" in line for line in answers) is not is_allowed
    assert answers[-1] == "PONG"


def test_postgres_when_started_then_folds_case_beyond_ascii_and_is_not_run_by_root(servers: Servers) -> None:
    assert servers.postgres
    with psycopg.connect(servers.postgres_url) as connection:
        row = connection.execute("SELECT lower('ÄÖ'), current_setting('max_connections')").fetchone()
    assert row == ("äö", "300")
    assert Path(f"/proc/{servers.postgres.pid}").stat().st_uid != 0


def test_servers_when_stopped_and_started_then_keep_data_passwords_and_ports(
    servers: Servers, folder: Path
) -> None:
    assert servers.postgres
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    pids = [server.pid for server in servers]
    servers.stop()
    assert [start_time(pid) for pid in pids] == [None, None, None]
    again = start_servers(folder, environ={}, durable=False)
    try:
        assert again.postgres_url == servers.postgres_url
        with psycopg.connect(again.postgres_url) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    finally:
        again.stop()
    for server in servers:
        server.start()
    await_ready(servers)


def test_server_when_paused_then_answers_only_after_resume(servers: Servers) -> None:
    assert servers.valkey
    servers.valkey.pause()
    assert not servers.valkey.is_ready()
    servers.valkey.resume()
    assert eventually(servers.valkey.is_ready)


def test_postgres_when_killed_then_recovers_what_was_committed(servers: Servers) -> None:
    assert servers.postgres
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE survived (one int)")
    servers.postgres.kill()
    servers.postgres.prepare()
    servers.postgres.start()
    await_ready([servers.postgres])
    with psycopg.connect(servers.postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM survived").fetchone() == (0,)


def test_servers_when_urls_are_given_then_none_is_started(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://cache/0", "NATS_URL": "nats://bus"}
    given["TOKEN_NATS_URL"] = "nats://token:pw@bus"
    servers = start_servers(tmp_path / "local", environ=given)
    assert list(servers) == []
    assert (servers.postgres_url, servers.redis_url) == ("postgresql://db/x", "redis://cache/0")
    assert (servers.nats_url("token"), servers.nats_url("orgs")) == ("nats://token:pw@bus", "nats://bus")


def test_server_when_it_dies_while_starting_then_the_error_shows_its_log(servers: Servers) -> None:
    assert servers.valkey
    servers.valkey.stop()
    config = Path(servers.valkey.command[1])
    original = config.read_text()
    try:
        config.write_text("nonsense yes\n")
        servers.valkey.start()
        with pytest.raises(LocalError, match=r"(?s)valkey ended with code 1.*nonsense"):
            await_ready([servers.valkey])
    finally:
        config.write_text(original)
        servers.valkey.start()
        await_ready([servers.valkey])


def test_supervisor_when_killed_then_its_servers_end_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    program = (
        "import pathlib, sys, time; from local.servers import start_servers;"
        f"servers = start_servers(pathlib.Path({str(folder)!r}), environ={{}}, durable=False);"
        "print(*[server.pid for server in servers], flush=True); sys.stdin.read()"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert supervisor.stdout
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        os.kill(supervisor.pid, signal.SIGKILL)
        assert eventually(lambda: not any(start_time(pid) for pid in pids))
    finally:
        supervisor.kill()
        supervisor.communicate()
        delete_folder(folder)


def test_postgres_programs_when_copied_then_they_bring_their_libraries(tmp_path: Path) -> None:
    copied = find_postgres().copied_to(tmp_path)
    done = subprocess.run([copied.initdb, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    again = find_postgres().copied_to(tmp_path)
    assert again == copied
