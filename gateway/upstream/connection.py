"""One keep-alive connection to a service: writes a request, parses the answer, keeps the deadline.

A connection serves one exchange at a time and goes back to its pool only from a state in which neither side
can have a byte left over from it. In every other state it is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.upstream.errors import (
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.upstream.response import UpstreamResponse
from gateway.upstream.sending import send_body

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 128
_MAX_INTERIM: Final = 8
_TIMER_SLACK: Final = 0.001  # the clock of uvloop counts in milliseconds


class ConnectionOwner(Protocol):
    """What a connection tells its pool."""

    def on_idle(self, connection: Connection) -> None:
        """The exchange ended well; the connection can take the next one."""

    def on_lost(self, connection: Connection) -> None:
        """The connection is closed and will not be used again."""


class _PeerFault(Exception):
    """Raised inside parser callbacks; becomes UpstreamProtocolError."""


class Connection(asyncio.Protocol):
    """A connection of one address; ``origin_index`` says which. Create through the event loop only."""

    __slots__ = (
        "_complete",
        "_deadline",
        "_drained",
        "_headers",
        "_interim",
        "_is_head",
        "_keep",
        "_loop",
        "_owner",
        "_parser",
        "_pending",
        "_read_bytes",
        "_read_size",
        "_response",
        "_sender",
        "_sending",
        "_silent_bytes",
        "_timer",
        "_timer_at",
        "_transport",
        "_waiter",
        "holds_slot",
        "is_reused",
        "origin_index",
    )

    def __init__(self, owner: ConnectionOwner, origin_index: int, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self.origin_index = origin_index
        self.holds_slot = False
        self.is_reused = False
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._waiter: asyncio.Future[UpstreamResponse] | None = None
        self._response: UpstreamResponse | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._complete = False
        self._keep = False
        self._is_head = False
        self._pending = b""
        self._interim = 0
        self._read_bytes = 0
        self._read_size = 0
        self._silent_bytes = 0
        self._sending = False
        self._sender: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # What the pool asks.

    @property
    def is_usable(self) -> bool:
        """Whether a request can be written: open on both sides, with no exchange under way."""
        return self._transport is not None and self._waiter is None and not self._transport.is_closing()

    def begin(
        self,
        head: bytes,
        body: bytes | AsyncIterator[bytes] | None,
        length: int | None,
        deadline: float,
        *,
        is_head: bool,
    ) -> asyncio.Future[UpstreamResponse]:
        """Write a request and give the future of its answer; who stops waiting passes it to ``give_up``.

        Args:
            head: from ``wire.build_head``.
            body: bytes, a stream, or None.
            length: bytes that a stream must have; None for a chunked one.
            deadline: loop time at which the exchange fails.
            is_head: HEAD, whose answer has no body whatever its headers say.
        """
        transport = cast("asyncio.Transport", self._transport)
        self._waiter = waiter = self._loop.create_future()
        self._is_head = is_head
        self._read_bytes = 0
        self._silent_bytes = 0
        self._interim = 0
        self.extend(deadline)
        if body is None:
            transport.write(head)
        elif isinstance(body, bytes):
            transport.write(head + body)
        else:
            transport.write(head)
            self._sending = True
            self._sender = self._loop.create_task(send_body(self, body, length))
        return waiter

    def give_up(self, waiter: asyncio.Future[UpstreamResponse]) -> None:
        """The caller of ``begin`` no longer waits: close, if the exchange is still that one."""
        if self._waiter is waiter:
            self._fail(UpstreamError("the request was given up"))

    def abort(self) -> None:
        """Close at once; a waiting exchange fails when the loss is noticed."""
        if self._transport is not None:
            self._transport.abort()

    # What the response asks.

    def pause_response(self) -> None:
        """Stop reading: the consumer lags."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_response(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abandon_response(self) -> None:
        """The consumer does not want the rest."""
        self._fail(UpstreamError("the answer was given up"))

    def extend(self, deadline: float) -> None:
        """Set when the exchange, or the idle time, ends.

        One timer is kept across exchanges and only replaced when it would ring too late: arming and
        cancelling one per request costs more than a rare early ring.
        """
        self._deadline = deadline
        if self._timer is None or deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._on_timer)

    # What the sender of a streamed body asks.

    @property
    def drained(self) -> asyncio.Future[None] | None:
        """A future to await before the next write while the peer lags, else None."""
        return self._drained

    def write_body(self, data: bytes) -> None:
        """Write framed bytes of the body."""
        if self._sending and self._transport is not None:
            self._transport.write(data)

    def end_body(self, error: Exception | None) -> None:
        """The sender is done, or failed: what its source raised ends the exchange."""
        self._sender = None
        if error is None:
            self._sending = False
        elif self._sending:
            self._fail(error)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; hand over the head, a part of the body or the whole answer."""
        parser = self._parser
        if self._waiter is None or parser is None:
            # Nothing was asked: taking it for the answer to the next request would mix up two callers.
            self.abort()
            return
        self._read_size = len(data)
        self._read_bytes += self._read_size
        try:
            if self._is_head:
                self._feed_bodiless(data)
            else:
                parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade, _PeerFault) as error:
            self._fail(UpstreamProtocolError("the service broke the protocol"), error)
            return
        response = self._response
        if self._complete:
            self._finish()
        elif response is None:
            if self._read_bytes > MAX_HEAD_BYTES:
                self._fail(UpstreamProtocolError("the answer's head is too large"))
        else:
            self._receive_part(response)

    def eof_received(self) -> bool:
        """Close: an answer that ends with the connection is not accepted, since it may be a part of one."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was under way and tell the pool."""
        if self._waiter is not None:
            if self._read_bytes:
                self._fail(UpstreamProtocolError("the answer was cut short"), exc)
            else:
                self._fail(UpstreamUnavailable("the service closed the connection", was_sent=True), exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        self._transport = None
        self._parser = None
        self._owner.on_lost(self)

    def pause_writing(self) -> None:
        """Make the sender wait: the peer does not take the body."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let the sender go on."""
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    # Parser callbacks

    def on_message_begin(self) -> None:
        """A message starts: an interim one, or the answer. Never a second answer."""
        if self._response is not None:
            raise _PeerFault("bytes after the end of the message")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers are dropped, for they are hop-by-hop unless agreed upon."""
        if self._response is not None:
            return
        name = name.lower()
        if name == b"transfer-encoding" and value.lower() != b"chunked":
            raise _PeerFault("a transfer coding that was not asked for")
        self._headers.append((name, value))
        if len(self._headers) > MAX_HEADERS:
            raise _PeerFault("too many headers")

    def on_headers_complete(self) -> None:
        """The head is here: make the response, unless it is an interim one."""
        status = cast("HttpResponseParser", self._parser).get_status_code()
        headers = self._headers
        # Only a head that came with a large read needs to be measured exactly.
        is_measured = self._read_bytes > MAX_HEAD_BYTES
        if is_measured and sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD_BYTES:
            raise _PeerFault("the head is too large")
        if status < 200:
            self._interim += 1
            if status < 100 or status == 101 or self._interim > _MAX_INTERIM:
                raise _PeerFault("an interim answer that was not asked for")
            return
        if status > 599:
            raise _PeerFault("a status outside of HTTP")
        self._response = UpstreamResponse(status, headers, self)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        cast("UpstreamResponse", self._response).add(data)
        self._silent_bytes = -self._read_size

    def on_message_complete(self) -> None:
        """The message ended by its own framing."""
        if self._response is not None:
            self._complete = True
            self._keep = cast("HttpResponseParser", self._parser).should_keep_alive()

    # Inside an exchange

    def _feed_bodiless(self, data: bytes) -> None:
        """Parse the answer to HEAD: the parser cannot know that it has no body, so it gets the heads only."""
        buffer = self._pending + data
        while (end := buffer.find(b"\r\n\r\n") + 4) > 3:
            cast("HttpResponseParser", self._parser).feed_data(buffer[:end])
            buffer = buffer[end:]
            if self._response is not None:
                if buffer:
                    raise _PeerFault("an answer to HEAD with a body")
                # The old parser may still expect a body.
                self._complete = True
                self._keep = self._allows_reuse(self._response.headers)
                self._parser = HttpResponseParser(self)
                break
        self._pending = buffer

    def _allows_reuse(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether the head alone allows another request."""
        is_current = cast("HttpResponseParser", self._parser).get_http_version() == "1.1"
        return is_current and not any(n == b"connection" and b"close" in v.lower() for n, v in headers)

    def _receive_part(self, response: UpstreamResponse) -> None:
        """The head is here and the end is not: hand over what there is."""
        waiter = cast("asyncio.Future[UpstreamResponse]", self._waiter)
        if not waiter.done():
            names = {name for name, _ in response.headers}
            if b"content-length" not in names and b"transfer-encoding" not in names:
                self._fail(UpstreamProtocolError("the answer does not say where it ends"))
                return
            waiter.set_result(response)
        # Chunk extensions and trailers are not body: bounded, or they could go on for ever.
        self._silent_bytes += self._read_size
        if self._silent_bytes > MAX_HEAD_BYTES:
            self._fail(UpstreamProtocolError("the answer has no body in its chunks"))
            return
        response.progress()

    def _finish(self) -> None:
        """The answer is complete: hand it over and give the connection back, or close it."""
        response = cast("UpstreamResponse", self._response)
        waiter = cast("asyncio.Future[UpstreamResponse]", self._waiter)
        transport = cast("asyncio.Transport", self._transport)
        if response.is_paused:  # TLS may hand over the rest of a record after a pause
            transport.resume_reading()
        response.finish(at_once=not waiter.done())
        if not waiter.done():
            waiter.set_result(response)
        # An answer before the end of the request leaves bytes that the peer would read as the next request.
        keep = self._keep and not self._sending and transport.get_write_buffer_size() == 0
        self._reset()
        if keep and not transport.is_closing():
            self.is_reused = True
            self._owner.on_idle(self)
        else:
            transport.abort()

    def _fail(self, error: Exception, cause: BaseException | None = None) -> None:
        """End the exchange with an error and close the connection."""
        if cause is not None:
            error.__cause__ = cause
        waiter, response = self._waiter, self._response
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        elif response is not None:
            response.fail(error)
        self._reset()
        self.abort()

    def _reset(self) -> None:
        """Forget the exchange and stop its sender."""
        self._waiter = None
        self._response = None
        self._complete = False
        self._pending = b""
        self._sending = False
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None

    def _on_timer(self) -> None:
        """The earliest possible end of the deadline: see whether it was moved."""
        self._timer = None
        if self._deadline > self._loop.time() + _TIMER_SLACK:
            self.extend(self._deadline)
        elif self._waiter is not None:
            self._fail(UpstreamTimeout())
        else:
            self.abort()
