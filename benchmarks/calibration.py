"""What this machine can do at most: the raw operations that the journeys are made of, in the same run.

A journey's ratio to its raw operation says more than its figure: machines differ by factors, and one machine
from hour to hour.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import argon2
import asyncpg
import bcrypt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from nats.aio.client import Client

from benchmarks import grpc_client, load

IN_FLIGHT = 32
_PASSWORD = b"violet-harbour-27"
_POOL_SIZE = 10
_PUBLISHES = 64


def hash_rate(scheme: str, seconds: float) -> float:
    """Hashes a second of all cores together: `bcrypt` at cost 12, `argon2id` at 19 MiB, two passes."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(_hash_for, [scheme] * cores, [0.0] * cores))  # starts the processes
        return sum(pool.map(_hash_for, [scheme] * cores, [seconds] * cores))


def _hash_for(scheme: str, seconds: float) -> float:
    salt = bcrypt.gensalt(12)
    hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    if scheme == "bcrypt":
        return _rate(lambda: bcrypt.hashpw(_PASSWORD, salt), seconds)
    return _rate(lambda: hasher.hash(_PASSWORD), seconds)


def sign_rate(algorithm: str, seconds: float) -> float:
    """Raw signatures a second of one core: `RS256` with 2048 bits, or `ES256`."""
    data = b"x" * 700
    if algorithm == "RS256":
        rsa_key = rsa.generate_private_key(65537, 2048)
        return _rate(lambda: rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256()), seconds)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    return _rate(lambda: ec_key.sign(data, ec.ECDSA(hashes.SHA256())), seconds)


def _rate(operation: Callable[[], object], seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while True:
        operation()
        count += 1
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return count / elapsed


def asgi_rate(seconds: float) -> float:
    """Requests a second of a bare ASGI application on uvicorn, driven as the journeys are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_asgi:application", "--port", str(port)]
    command += [
        "--http",
        "httptools",
        "--loop",
        "uvloop",
        "--lifespan",
        "off",
        "--no-access-log",
        "--log-level",
        "error",
    ]
    server = subprocess.Popen(command)
    try:
        _await_port(port)
        requests = [load.request("GET", "/", {})]
        return load.drive(port, requests, connections=IN_FLIGHT, seconds=seconds).rate
    finally:
        server.terminate()
        server.wait()


def grpc_rate(seconds: float) -> float:
    """Calls a second of a bare grpc.aio server in one process, called as `ValidateToken` is."""
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.bare_grpc"], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        calls = grpc_client.Calls(
            address=f"127.0.0.1:{int(server.stdout.readline())}",
            api_key="ask_bench",
            tokens=["x" * 700],
            batch=1,
            concurrency=IN_FLIGHT,
            seconds=seconds,
        )
        return grpc_client.call(calls).rate
    finally:
        server.terminate()
        server.communicate()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise RuntimeError("the bare application does not listen")
        time.sleep(0.02)


async def database_rates(url: str, seconds: float) -> dict[str, float]:
    """Selects by key, and inserts each with its commit, a second, over a pool as large as a service's."""
    async with asyncpg.create_pool(url, min_size=_POOL_SIZE, max_size=_POOL_SIZE) as pool:
        await pool.execute("CREATE TABLE IF NOT EXISTS bench (id bigint PRIMARY KEY, body bytea NOT NULL)")
        await pool.execute("INSERT INTO bench SELECT n, '\\x00' FROM generate_series(-1000, -1) AS n")
        identifiers = iter(range(10**9))

        async def select() -> None:
            await pool.fetchrow("SELECT body FROM bench WHERE id = $1", -1 - next(identifiers) % 1000)

        async def insert() -> None:
            await pool.execute("INSERT INTO bench VALUES ($1, $2)", next(identifiers), b"x" * 300)

        try:
            selects = await _concurrent_rate(select, _POOL_SIZE, seconds)
            return {"select": selects, "insert": await _concurrent_rate(insert, _POOL_SIZE, seconds)}
        finally:
            await pool.execute("DROP TABLE bench")


async def publish_rate(url: str, seconds: float) -> float:
    """Publishes to JetStream a second, each acknowledged, 64 in flight; `url` is of a user who may all."""
    client = Client()
    await client.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="BENCH", subjects=["bench.>"])
    try:
        return await _concurrent_rate(
            lambda: stream.publish("bench.calibration", b"x" * 500), _PUBLISHES, seconds
        )
    finally:
        await stream.delete_stream("BENCH")
        await client.close()


async def _concurrent_rate(
    operation: Callable[[], Awaitable[object]], concurrency: int, seconds: float
) -> float:
    started = time.perf_counter()
    until = started + seconds

    async def worker() -> int:
        count = 0
        while time.perf_counter() < until:
            await operation()
            count += 1
        return count

    counts = await asyncio.gather(*(worker() for _ in range(concurrency)))
    return sum(counts) / (time.perf_counter() - started)
