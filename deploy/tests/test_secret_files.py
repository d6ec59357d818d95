"""The secrets of a deployment: complete, kept, closed to others, and each process's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from chassis.internal_keys import InternalKeys
from chassis.provision import described
from chassis.ratelimit import Limit, RateLimiter
from contracts.topology import GATEWAY, SERVICES, pairs_of
from deploy.secret_files import main
from local.binaries import find_nats, find_valkey
from local.ports import Ports


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of secrets."""
    made = tmp_path / "secrets"
    assert main([str(made)]) == 0
    return made


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_secrets_when_written_again_then_kept(folder: Path) -> None:
    before = contents(folder)
    assert main([str(folder)]) == 0
    assert contents(folder) == before


def test_secrets_when_servers_move_then_only_addresses_change(folder: Path) -> None:
    before = contents(folder)
    assert main([str(folder), "--postgres", "db.internal:5433"]) == 0
    after = contents(folder)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if name.endswith("database_url")}
    assert all("@db.internal:5433/" in after[name] for name in changed)


def test_secrets_when_made_twice_then_nothing_random_is_the_same(folder: Path, tmp_path: Path) -> None:
    main([str(tmp_path / "other")])
    first, second = contents(folder), contents(tmp_path / "other")
    assert {name for name in first if first[name] == second[name]} == set()


def test_folder_is_closed_to_others(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700


def test_services_get_the_keys_of_their_own_pairs_only(folder: Path) -> None:
    root = (folder / "internal_auth_key").read_text().strip()
    for service in SERVICES:
        text = (folder / f"{service}_internal_keys").read_text().strip()
        assert text == InternalKeys.derive(root, pairs_of(service)).render()


def test_database_urls_describe_what_provisioning_creates(folder: Path) -> None:
    variables = {
        f"{name.upper()}_FILE": str(folder / name)
        for name in contents(folder)
        if name.endswith("database_url")
    }
    databases = {database.name: database for database in described(variables)}
    assert set(databases) == set(SERVICES)
    for name, database in databases.items():
        roles = (database.owner.name, database.tenant.name, database.jobs.name)
        assert roles == (f"{name}_owner", name, f"{name}_jobs")


async def test_nats_configuration_when_used_then_each_user_may_speak_in_its_own_name_only(
    folder: Path, tmp_path: Path
) -> None:
    port, monitoring = Ports(tmp_path).take("nats"), Ports(tmp_path).take("nats monitoring")
    configuration = json.loads((folder / "nats.conf").read_text())
    configuration |= {"port": port, "http_port": monitoring}
    configuration["jetstream"]["store_dir"] = str(tmp_path / "jetstream")
    file = tmp_path / "nats.conf"
    file.write_text(json.dumps(configuration))
    main([str(folder), "--nats", f"127.0.0.1:{port}"])
    with running([str(find_nats()), "--config", str(file)]):
        for user in (GATEWAY, *SERVICES):
            assert await is_refused(folder, user, "invalidate.client") == (user == GATEWAY), user
            assert await is_refused(folder, user, "events.nobody.made_up"), user
        assert not await is_refused(folder, "identity", "events.identity.login_failed")
        assert await is_refused(folder, "identity", "events.token.session_opened")


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    """Run a server for as long as the block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()


async def until_answering(redis: Redis) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await redis.ping()
            except RedisConnectionError:
                await asyncio.sleep(0.02)
            else:
                return


async def is_refused(folder: Path, user: str, subject: str) -> bool:
    """Whether a user is refused to publish; false once the message has arrived at somebody else."""
    outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def refused(error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            outcome.set_result(True)

    async def arrived(_: Msg) -> None:
        outcome.set_result(False)

    listener, speaker = await connect(folder, "admin"), await connect(folder, user, refused)
    try:
        await listener.subscribe(subject, cb=arrived)
        # Twice: nats-py writes the first one's PING ahead of what waits to be sent.
        await listener.flush()
        await listener.flush()
        await speaker.publish(subject, b"")
        async with asyncio.timeout(10):
            return await outcome
    finally:
        await speaker.close()
        await listener.close()


async def ignore(_: Exception) -> None:
    """Let the client try again: the server may be starting."""


async def connect(
    folder: Path, user: str, on_error: Callable[[Exception], Awaitable[None]] = ignore
) -> Client:
    """Connect as one of the users."""
    url = (folder / f"{user}_nats_url").read_text().strip()
    return await nats.connect(url, error_cb=on_error, max_reconnect_attempts=200, reconnect_time_wait=0.05)


def test_nats_configuration_has_a_user_for_each_process_and_one_without_limits(folder: Path) -> None:
    users = json.loads((folder / "nats.conf").read_text())["authorization"]["users"]
    assert {user["user"] for user in users} == {"admin", GATEWAY, *SERVICES}
    assert all(len(user["password"]) >= 32 for user in users)
    assert [user["user"] for user in users if "permissions" not in user] == ["admin"]


async def test_valkey_configuration_when_used_then_limits_work_and_administration_does_not(
    folder: Path, tmp_path: Path
) -> None:
    port = Ports(tmp_path).take("valkey")
    main([str(folder), "--redis", f"127.0.0.1:{port}"])
    file = tmp_path / "valkey.conf"
    file.write_text((folder / "valkey.conf").read_text() + f"port {port}\ndir {tmp_path}\n")
    with running([str(find_valkey()), str(file)]):
        redis = Redis.from_url((folder / "redis_url").read_text().strip())
        await until_answering(redis)
        limiter = RateLimiter(redis, "auth:")
        assert (await limiter.hit("login", "someone", Limit(1, 60))).allowed
        assert not (await limiter.hit("login", "someone", Limit(1, 60))).allowed
        assert [key async for key in redis.scan_iter("auth:*")], "counted locally: the user may not count"
        for command in (["CONFIG", "GET", "*"], ["FLUSHALL"], ["KEYS", "*"], ["GET", "other:key"]):
            with pytest.raises(NoPermissionError):
                await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # untyped in redis
        await redis.aclose()
