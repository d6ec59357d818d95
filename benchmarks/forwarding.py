"""What the client of the forward path costs: CPU microseconds a request in this process, 32 in flight.

``python -m benchmarks.forwarding`` starts an upstream in a process of its own (a bare httptools server: the
cheapest there is, so that it is not the limit) and drives it in turns with

* ``floor``: an exchange without parser, pool, deadline or checks: the lowest that asyncio allows;
* ``upstream``: ``gateway.upstream`` with a small answer, a request body, an answer in chunks;
* ``aiohttp`` and ``httpx`` where installed, for comparison.

The figure is process CPU time over requests; the median of the rounds is printed, and JSON on request.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from typing import cast

import httptools
import uvloop

from gateway.upstream import Upstream

IN_FLIGHT = 32
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ndate: Mon, 01 Jan 2026 00:00:00 GMT\r\n"
    b"content-type: application/json\r\n"
    b"cache-control: no-store\r\nx-request-id: 0123456789abcdef\r\ncontent-length: 64\r\n\r\n" + b"x" * 64
)
_CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b"40\r\n" + b"x" * 64 + b"\r\n"
)
_CHUNKED_END = b"40\r\n" + b"y" * 64 + b"\r\n0\r\n\r\n"
_HEADERS = [
    (b"host", b"auth.example.com"),
    (b"user-agent", b"bench/1.0"),
    (b"accept", b"application/json"),
    (b"authorization", b"Bearer " + b"t" * 600),
    (b"x-auth-context", b"c" * 400),
    (b"x-request-id", b"0123456789abcdef"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
_FLOOR_REQUEST = b"GET /small HTTP/1.1\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in _HEADERS) + b"\r\n"

Operation = Callable[[], Awaitable[None]]


class _Server(asyncio.Protocol):
    """Answers every request from memory, in two writes where the path asks for chunks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start parsing."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Remember the path."""
        self._url = url

    def on_message_complete(self) -> None:
        """Answer."""
        if self._url == b"/chunked":
            self._transport.write(_CHUNKED)
            asyncio.get_running_loop().call_later(0.001, self._transport.write, _CHUNKED_END)
        else:
            self._transport.write(_ANSWER)


def _serve(pipe: Pipe) -> None:
    """Body of the server process: send the port, serve until it is terminated."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


class _Floor(asyncio.Protocol):
    """One connection that counts bytes: what an exchange costs without any care."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Wake the caller at the length that is known beforehand."""
        self._received += len(data)
        if self._received >= len(_ANSWER) and self._waiter is not None:
            self._received = 0
            self._waiter.set_result(None)

    async def exchange(self) -> None:
        """Write a request, wait for the answer."""
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(_FLOOR_REQUEST)
        await self._waiter


async def _measure(operation: Operation, requests: int) -> float:
    """CPU microseconds of this process for one call of ``operation``, at IN_FLIGHT at once."""
    remaining = requests

    async def worker() -> None:
        nonlocal remaining
        while remaining > 0:
            remaining -= 1
            await operation()

    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(worker())
    return (time.process_time() - started) / requests * 1e6


def _upstream_operations(upstream: Upstream) -> dict[str, Operation]:
    """The client under measurement, one operation per shape of request."""
    loop = asyncio.get_running_loop()
    post_headers = [*_HEADERS, (b"content-type", b"application/json")]

    async def small() -> None:
        response = await upstream.request(b"GET", b"/small", _HEADERS, None, loop.time() + 10)
        assert response.content is not None

    async def posted() -> None:
        response = await upstream.request(b"POST", b"/small", post_headers, b"p" * 512, loop.time() + 10)
        assert response.content is not None

    async def pieces() -> AsyncIterator[bytes]:
        yield b"p" * 256
        yield b"p" * 256

    async def uploaded() -> None:
        await upstream.request(b"POST", b"/small", post_headers, pieces(), loop.time() + 10)

    async def chunked() -> None:
        response = await upstream.request(b"GET", b"/chunked", _HEADERS, None, loop.time() + 10)
        size = sum([len(chunk) async for chunk in response.body()])
        assert size == 128

    return {
        "upstream: GET": small,
        "upstream: POST, 512 bytes": posted,
        "upstream: POST, streamed": uploaded,
        "upstream: GET, chunked answer in two reads": chunked,
    }


async def _run(port: int, requests: int, rounds: int) -> dict[str, float]:
    """Every client in turns, ``rounds`` times; the median per client."""
    loop = asyncio.get_running_loop()
    upstream = Upstream(f"127.0.0.1:{port}")
    floors = [(await loop.create_connection(_Floor, "127.0.0.1", port))[1] for _ in range(IN_FLIGHT)]
    free = list(floors)

    async def floor() -> None:
        connection = free.pop()
        await connection.exchange()
        free.append(connection)

    operations: dict[str, Operation] = {
        "floor: no parser, no checks": floor,
        **_upstream_operations(upstream),
    }
    closers: list[Operation] = [upstream.close]
    headers = {name.decode(): value.decode() for name, value in _HEADERS}
    if importlib.util.find_spec("aiohttp"):
        aiohttp = importlib.import_module("aiohttp")
        session = aiohttp.ClientSession()

        async def by_aiohttp() -> None:
            async with session.get(f"http://127.0.0.1:{port}/small", headers=headers) as response:
                await response.read()

        operations["aiohttp: GET"] = by_aiohttp
        closers.append(session.close)
    if importlib.util.find_spec("httpx"):
        httpx = importlib.import_module("httpx")
        client = httpx.AsyncClient(limits=httpx.Limits(max_connections=IN_FLIGHT))

        async def by_httpx() -> None:
            await client.get(f"http://127.0.0.1:{port}/small", headers=headers)

        operations["httpx: GET"] = by_httpx
        closers.append(client.aclose)
    figures: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(rounds):
        for name, operation in operations.items():
            count = requests // 20 if name.startswith("httpx") else requests
            await _measure(operation, count // 10)
            figures[name].append(await _measure(operation, count))
    for close in closers:
        await close()
    for connection in floors:
        connection.transport.close()
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        figures = uvloop.run(_run(ours.recv(), arguments.requests, arguments.rounds))
    finally:
        server.terminate()
        server.join()
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:46} {value:8.1f} µs")


if __name__ == "__main__":
    main()
