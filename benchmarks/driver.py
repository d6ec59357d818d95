"""The load generator for where wrk is not: raw requests over raw connections, one process.

    python -m benchmarks.driver PORT CONNECTIONS SECONDS FILE [chain]

Reads and prints what `load.lua` does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import cast

import httptools
import uvloop

_TOKEN = re.compile(rb"rt_[A-Za-z0-9_-]{43}")
_SUCCESSOR = re.compile(rb'"refresh_token":"(rt_[A-Za-z0-9_-]{43})"')


class Requests:
    """The requests still to be sent: in turn for ever, or each once with its successor behind the others."""

    def __init__(self, whole: list[bytes], *, chain: bool) -> None:
        """Take the first ones."""
        self._whole = whole
        self._chain = chain
        self._sent = 0

    def next(self) -> bytes:
        """Return the next request."""
        # Out of tokens, as after errors: an old one again, which is an error that gets counted.
        whole = self._whole[self._sent % len(self._whole)]
        self._sent += 1
        return whole

    def answered(self, body: bytes) -> None:
        """Take the token of an answer into the next request."""
        if self._chain and (successor := _SUCCESSOR.search(body)):
            self._whole.append(_TOKEN.sub(successor[1], self._whole[0], count=1))


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, requests: Requests, latencies: list[float]) -> None:
        """Take where requests come from and where latencies go."""
        self._requests = requests
        self._latencies = latencies
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Count the answer and go on."""
        self._latencies.append(time.perf_counter() - self._started)
        self.errors += self._parser.get_status_code() >= 400
        self._requests.answered(bytes(self._body))
        self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def _send(self) -> None:
        self._started = time.perf_counter()
        self._transport.write(self._requests.next())

    def close(self) -> None:
        """Stop."""
        self._transport.abort()


async def _run(port: int, connections: int, seconds: float, requests: Requests) -> None:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    started = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: Connection(requests, latencies), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    for connection in opened:
        connection.close()
    latencies.sort()
    result = {
        "requests": len(latencies),
        "seconds": elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1e3 if latencies else 0.0,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3 if latencies else 0.0,
        "errors": sum(connection.errors for connection in opened),
    }
    print("RESULT", json.dumps(result))


def main() -> None:
    """Read the command line and run."""
    port, connections, seconds, file, *mode = sys.argv[1:]
    requests = Requests(Path(file).read_bytes().split(b"\0"), chain=mode == ["chain"])
    uvloop.run(_run(int(port), int(connections), float(seconds), requests))


if __name__ == "__main__":
    main()
