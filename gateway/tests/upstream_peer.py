"""A service written by hand on a real socket, which answers, or misbehaves, exactly as a test says."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Script = Callable[["PeerConnection"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class PeerConnection:
    """One connection that a peer accepted; ``number`` counts from 1 in order of arrival."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The next request head, through its empty line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        """Write and wait until the client took it."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> bytes:
        """What still comes until the client closes."""
        rest = b""
        try:
            while piece := await self.reader.read(65536):
                rest += piece
        except ConnectionError:
            pass
        return rest


class Peer:
    """A listening service; ``script`` is run for each connection and the connection closed after it."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._script = script
        self.connections = 0
        self.closed = 0
        self.heads: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = PeerConnection(self.connections, reader, writer)
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: PeerConnection) -> None:
        try:
            await self._script(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed: what the test looks at is that it did
        finally:
            self.closed += 1
            connection.writer.transport.abort()


def answering(*answers: bytes) -> Script:
    """Answer the requests of a connection one after the other, the last answer for ever."""

    async def script(connection: PeerConnection) -> None:
        for index in range(1_000_000):
            await connection.head()
            await connection.send(answers[min(index, len(answers) - 1)])

    return script


def answering_once(answer: bytes) -> Script:
    """Answer one request, then wait for the client to close."""

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(answer)
        await connection.until_closed()

    return script


def soon(seconds: float = 5.0) -> float:
    """A deadline in loop time."""
    return asyncio.get_running_loop().time() + seconds


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds, five seconds at most."""
    limit = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < limit, "it did not happen in five seconds"
        await asyncio.sleep(0.002)
