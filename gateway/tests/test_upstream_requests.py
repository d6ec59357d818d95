"""What the client of the forward path puts on the wire, and what it refuses to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tests.upstream_peer import OK, Peer, PeerConnection, Script, answering, eventually, soon
from gateway.upstream import Upstream, UpstreamError, UpstreamRequestError, UpstreamTimeout
from gateway.upstream.wire import build_head

_HOST = (b"host", b"h")


def _recording(seen: list[bytes], ending: bytes) -> Script:
    """Read until ``ending``, answer, go on."""

    async def script(connection: PeerConnection) -> None:
        while True:
            seen.append(await connection.reader.readuntil(ending))
            await connection.send(OK)

    return script


async def _stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("method", "headers", "body", "wire"),
    [
        (b"GET", [_HOST, (b"accept", b"*/*")], None, b"GET /p?q HTTP/1.1\r\nhost: h\r\naccept: */*\r\n\r\n"),
        (b"GET", [_HOST], b"", b"GET /p?q HTTP/1.1\r\nhost: h\r\n\r\n"),
        (b"POST", [_HOST], None, b"POST /p?q HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"),
        (
            b"PUT",
            [_HOST],
            b"a\r\n\r\n",
            b"PUT /p?q HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\na\r\n\r\n",
        ),
        (
            b"POST",
            [_HOST, (b"Content-Length", b"5")],
            b"a\r\n\r\n",
            b"POST /p?q HTTP/1.1\r\nhost: h\r\nContent-Length: 5\r\n\r\na\r\n\r\n",
        ),
    ],
)
async def test_request_when_its_body_is_at_hand_then_written_so(
    method: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None, wire: bytes
) -> None:
    received = bytearray()

    async def script(connection: PeerConnection) -> None:
        while len(received) < len(wire):
            received.extend(await connection.reader.read(65536))
        await connection.send(OK)
        await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        assert (await upstream.request(method, b"/p?q", headers, body, soon())).content == b"ok"
        assert bytes(received) == wire
        await upstream.close()


async def test_host_when_the_caller_names_none_then_the_address() -> None:
    seen: list[bytes] = []
    async with Peer(_recording(seen, b"\r\n\r\n")) as peer:
        upstream = Upstream(peer.address)
        await upstream.request(b"GET", b"/", [], None, soon())
        assert seen == [b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % peer.address.encode()]
        await upstream.close()


@pytest.mark.parametrize(
    ("headers", "pieces", "wire"),
    [
        (
            [],
            [b"hello", b"", b" world"],
            b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        ),
        ([], [], b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ([(b"content-length", b"11")], [b"hello", b" world"], b"content-length: 11\r\n\r\nhello world"),
        ([(b"content-length", b"0")], [], b"content-length: 0\r\n\r\n"),
    ],
)
async def test_request_when_its_body_is_a_stream_then_framed(
    headers: list[tuple[bytes, bytes]], pieces: list[bytes], wire: bytes
) -> None:
    whole = b"POST / HTTP/1.1\r\nhost: h\r\n" + wire
    received = bytearray()

    async def script(connection: PeerConnection) -> None:
        for count in (1, 2):
            while len(received) < len(whole) * count:
                received.extend(await connection.reader.read(65536))
            await connection.send(OK)
        await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        for _ in range(2):
            response = await upstream.request(b"POST", b"/", [_HOST, *headers], _stream(*pieces), soon())
            assert response.content == b"ok"
        assert bytes(received) == whole * 2
        assert peer.connections == 1
        await upstream.close()


_INJECTIONS: dict[str, tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes | None]] = {
    "line in a value": (b"GET", b"/", [(b"accept", b"a\r\nx-auth-context: forged")], None),
    "line feed in a value": (b"GET", b"/", [(b"x-any", b"a\nb: c")], None),
    "carriage return in a value": (b"GET", b"/", [(b"x-any", b"a\rb")], None),
    "nul in a value": (b"GET", b"/", [(b"x-any", b"a\0b")], None),
    "line in a name": (b"GET", b"/", [(b"x\r\ny", b"a")], None),
    "colon in a name": (b"GET", b"/", [(b"x:y", b"a")], None),
    "space in a name": (b"GET", b"/", [(b"x ", b"a")], None),
    "nul in a name": (b"GET", b"/", [(b"x\0", b"a")], None),
    "empty name": (b"GET", b"/", [(b"", b"a")], None),
    "8-bit name": (b"GET", b"/", [(b"x\xff", b"a")], None),
    "two hosts": (b"GET", b"/", [(b"host", b"a"), (b"Host", b"b")], None),
    "space in the target": (b"GET", b"/a HTTP/1.1\r\n\r\nGET /b", [], None),
    "line in the target": (b"GET", b"/a\r\nb", [], None),
    "fragment in the target": (b"GET", b"/a#b", [], None),
    "8-bit target": (b"GET", b"/\xc3\xa9", [], None),
    "absolute target": (b"GET", b"http://other/", [], None),
    "empty target": (b"GET", b"", [], None),
    "asterisk of GET": (b"GET", b"*", [], None),
    "line in the method": (b"GET / HTTP/1.1\r\n\r\nGET", b"/", [], None),
    "empty method": (b"", b"/", [], None),
    "tunnel": (b"CONNECT", b"/", [], None),
    "two lengths": (b"POST", b"/", [(b"content-length", b"1"), (b"Content-Length", b"1")], b"a"),
    "length of another body": (b"POST", b"/", [(b"content-length", b"2")], b"a"),
    "length without a body": (b"GET", b"/", [(b"content-length", b"2")], None),
    "signed length": (b"POST", b"/", [(b"content-length", b"+1")], b"a"),
    "length with a space": (b"POST", b"/", [(b"content-length", b" 1")], b"a"),
    "huge length": (b"POST", b"/", [(b"content-length", b"1" * 16)], b"a"),
    "transfer coding": (b"POST", b"/", [(b"Transfer-Encoding", b"chunked")], b"a"),
    "connection": (b"GET", b"/", [(b"connection", b"x-auth-context")], None),
    "upgrade": (b"GET", b"/", [(b"upgrade", b"h2c")], None),
    "expectation": (b"POST", b"/", [(b"expect", b"100-continue")], b"a"),
}


@pytest.mark.parametrize("request_", _INJECTIONS.values(), ids=_INJECTIONS.keys())
async def test_request_when_it_could_be_read_as_another_then_refused_and_nothing_sent(
    request_: tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes | None],
) -> None:
    method, target, headers, body = request_
    async with Peer(answering(OK)) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamRequestError):
            await upstream.request(method, target, headers, body, soon())
        assert peer.connections == 0
        await upstream.close()


class _Parsed:
    """What a server's parser makes of the bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.messages = 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect."""
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        """Count."""
        self.messages += 1


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from([b"accept", b"x-any", b"X-Auth-Context", b"cookie"]), st.binary(max_size=8)
            ),
            st.binary(max_size=24),
        ),
        max_size=6,
    )
)
def test_head_whatever_the_headers_then_refused_or_read_as_given(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        encoded = build_head(b"GET", b"/", headers, 0).encode(b"h")
    except UpstreamRequestError:
        return
    try:
        parsed = _Parsed(encoded)
    except httptools.HttpParserError:
        return  # other control characters: the service refuses them, nothing is smuggled
    # The end of the head is the end of the message, so a second parser state cannot begin.
    assert parsed.messages == 1
    given_ = [(name.lower(), value.strip(b" \t")) for name, value in headers]
    received = [(name.lower(), value.strip(b" \t")) for name, value in parsed.headers]
    assert sorted(received) == sorted([*given_, (b"host", b"h")])


@pytest.mark.parametrize(("pieces", "what"), [([b"hel", b"lo!", b"!"], "longer"), ([b"hel"], "shorter")])
async def test_streamed_body_when_it_does_not_match_its_length_then_error_and_message_never_complete(
    pieces: list[bytes], what: str
) -> None:
    received = b""

    async def script(connection: PeerConnection) -> None:
        nonlocal received
        await connection.head()
        received = await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamRequestError, match=what):
            await upstream.request(b"PUT", b"/", [(b"content-length", b"5")], _stream(*pieces), soon())
        await eventually(lambda: peer.closed == 1 and upstream.open_connections == 0)
        assert len(received) < 5
        assert peer.connections == 1
        await upstream.close()


class _ClientGoneError(Exception):
    """What a forwarder raises from its body when its client went away."""


async def test_streamed_body_when_its_client_goes_away_then_connection_closed_and_error_as_it_is() -> None:
    received = b""

    async def script(connection: PeerConnection) -> None:
        nonlocal received
        await connection.head()
        received = await connection.until_closed()

    async def body() -> AsyncIterator[bytes]:
        yield b"hello"
        raise _ClientGoneError

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(_ClientGoneError):
            await upstream.request(b"POST", b"/", [], body(), soon())
        await eventually(lambda: peer.closed == 1 and upstream.open_connections == 0)
        assert b"0\r\n\r\n" not in received
        await upstream.close()


async def test_streamed_body_when_answered_early_then_answer_given_and_stream_closed() -> None:
    is_closed = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal is_closed
        try:
            yield b"hello"
            await asyncio.Event().wait()
        finally:
            is_closed = True

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        response = await upstream.request(b"POST", b"/", [], body(), soon())
        assert (response.status, response.content) == (413, b"no")
        assert upstream.idle_connections == 0
        await eventually(lambda: is_closed and peer.closed == 1)
        await upstream.close()


async def test_streamed_body_when_the_answer_begins_first_then_both_go_on() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while piece := await pieces.get():
            yield piece

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while (size := int(await connection.reader.readline(), 16)) > 0:
            data = await connection.reader.readexactly(size + 2)
            await connection.send(b"%x\r\n%b" % (size, data.upper() if size else b""))
        await connection.reader.readexactly(2)
        await connection.send(b"0\r\n\r\n")
        await connection.head()
        await connection.send(OK)

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        response = await upstream.request(b"POST", b"/", [], body(), soon())
        echo = response.body()
        for piece in (b"one", b"two"):
            pieces.put_nowait(piece)
            assert await anext(echo) == piece.upper()
        pieces.put_nowait(b"")
        assert [chunk async for chunk in echo] == []
        assert (await upstream.request(b"GET", b"/", [], None, soon())).content == b"ok"
        assert peer.connections == 1
        await upstream.close()


async def test_streamed_body_when_the_service_does_not_read_then_the_source_is_not_drained() -> None:
    pulled = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal pulled
        for _ in range(1024):
            pulled += 1
            yield b"x" * 65536

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads has it
        await asyncio.Event().wait()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamTimeout):
            await upstream.request(b"POST", b"/", [], body(), soon(0.5))
        assert pulled < 512
        await upstream.close()


async def test_request_when_its_task_is_cancelled_then_connection_closed() -> None:
    asked = asyncio.Event()

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        asked.set()
        await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        task = asyncio.create_task(upstream.request(b"GET", b"/", [], None, soon()))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: peer.closed == 1 and upstream.open_connections == 0)
        await upstream.close()


def test_errors_are_one_family() -> None:
    from gateway import upstream

    errors = [
        getattr(upstream, name) for name in upstream.__all__ if name not in ("Upstream", "UpstreamResponse")
    ]
    assert all(issubclass(error, UpstreamError) for error in errors)
