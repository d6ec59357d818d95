"""Sends a streamed request body in its framing, no faster than the peer takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from gateway.upstream.errors import UpstreamRequestError


class BodySink(Protocol):
    """Where a body goes: the connection of its request."""

    def write_body(self, data: bytes) -> None:
        """Write framed bytes; they are dropped when the connection is gone."""

    @property
    def drained(self) -> asyncio.Future[None] | None:
        """A future to await before the next write while the peer lags, else None."""

    def end_body(self, error: Exception | None) -> None:
        """The body is sent, or ``error`` ends the exchange."""


async def send_body(sink: BodySink, body: AsyncIterator[bytes], length: int | None) -> None:
    """Send ``body`` and close it; whatever it raises ends the exchange and reaches the caller as it is.

    Args:
        sink: the connection, on which the head was already written.
        body: pieces of any size; closed at the end if it is an async generator.
        length: the announced number of bytes, which the body must match; None sends it chunked.
    """
    try:
        await _write_all(sink, body, length)
    except Exception as error:
        sink.end_body(error)
    else:
        sink.end_body(None)
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()


async def _write_all(sink: BodySink, body: AsyncIterator[bytes], length: int | None) -> None:
    """Frame and write each piece; the announced length is never exceeded on the wire (RFC 9112 §6.3)."""
    written = 0
    async for chunk in body:
        written += len(chunk)
        if length is not None:
            if written > length:
                raise UpstreamRequestError("the body is longer than announced")
            sink.write_body(chunk)
        elif chunk:  # an empty chunk would end the body
            sink.write_body(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        drained = sink.drained
        if drained is not None:
            await drained
    if length is None:
        sink.write_body(b"0\r\n\r\n")
    elif written != length:
        raise UpstreamRequestError("the body is shorter than announced")
