"""An answer as the forwarder sees it: status, headers, and a body that is either here already or streamed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from gateway.upstream.errors import UpstreamProtocolError

# A consumer that lags this far behind stops the reading; it resumes when it has caught up to a quarter.
_HIGH_WATER: Final = 64 * 1024
_LOW_WATER: Final = 16 * 1024


class ResponseSource(Protocol):
    """What a response asks of the connection that still receives it."""

    def pause_response(self) -> None:
        """Stop reading from the peer."""

    def resume_response(self) -> None:
        """Read again."""

    def abandon_response(self) -> None:
        """Close the connection: the rest of the answer is not wanted."""

    def extend(self, deadline: float) -> None:
        """Move the deadline of the exchange."""


class UpstreamResponse:
    """One answer of a service; not checked for hop-by-hop headers, which the forwarder strips.

    ``status`` is 200–599. ``headers`` are raw pairs with lower-case names, in order. ``content`` is the whole
    body when it arrived together with the head, else None: then iterate ``body()`` and end with ``aclose()``.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_error",
        "_source",
        "_wakeup",
        "content",
        "headers",
        "is_paused",
        "status",
    )

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], source: ResponseSource) -> None:
        self.status = status
        self.headers = headers
        self.content: bytes | None = None
        self._source: ResponseSource | None = source
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self.is_paused = False
        self._error: Exception | None = None
        self._wakeup: asyncio.Future[None] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the last byte was received; the connection is then no longer this response's."""
        return self._source is None and self._error is None

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body once, in pieces as they come; a peer that is faster than the caller is stopped.

        Raises:
            UpstreamTimeout: the deadline passed.
            UpstreamProtocolError: the answer was cut short or malformed.
        """
        if self.content is not None:
            if self.content:
                yield self.content
            return
        while True:
            if self._error is not None:
                raise self._error
            if self._chunks:
                chunk = self._chunks.popleft()
                self._buffered -= len(chunk)
                if self.is_paused and self._buffered <= _LOW_WATER and self._source is not None:
                    self.is_paused = False
                    self._source.resume_response()
                yield chunk
            elif self._source is None:
                return
            else:
                self._wakeup = asyncio.get_running_loop().create_future()
                try:
                    await self._wakeup
                finally:
                    self._wakeup = None

    async def read(self, limit: int) -> bytes:
        """The whole body, at most ``limit`` bytes.

        Raises:
            UpstreamProtocolError: the body is longer.
            UpstreamTimeout: the deadline passed.
        """
        if self.content is not None:
            body = self.content
        else:
            parts: list[bytes] = []
            size = 0
            async for chunk in self.body():
                size += len(chunk)
                parts.append(chunk)
                if size > limit:
                    break
            body = b"".join(parts)
        if len(body) > limit:
            await self.aclose()
            raise UpstreamProtocolError("the answer of the service is too large")
        return body

    async def aclose(self) -> None:
        """Give up what was not received: the connection is closed, unless the message had already ended."""
        source = self._source
        if source is not None:
            source.abandon_response()

    def set_deadline(self, deadline: float) -> None:
        """Allow a long stream more time: ``deadline`` is loop time. No effect once the answer is complete."""
        if self._source is not None:
            self._source.extend(deadline)

    # The connection's side.

    def add(self, chunk: bytes) -> None:
        """Take a piece of the body; only the connection calls this."""
        self._chunks.append(chunk)
        self._buffered += len(chunk)

    def progress(self) -> None:
        """Wake the consumer after a read that did not end the message, or stop the peer if it lags."""
        if self._buffered > _HIGH_WATER and not self.is_paused and self._source is not None:
            self.is_paused = True
            self._source.pause_response()
        self._wake()

    def finish(self, *, at_once: bool) -> None:
        """The message ended; ``at_once`` when nobody saw the head yet: the body is then given whole."""
        self._source = None
        if at_once:
            chunks = self._chunks
            self.content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self._buffered = 0
        else:
            self._wake()

    def fail(self, error: Exception) -> None:
        """The rest will not come: ``error`` is raised to the consumer, now or when it asks."""
        self._source = None
        self._error = error
        self._chunks.clear()
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
