"""How the client of the forward path takes the answers of a service, good and bad."""

from __future__ import annotations

import asyncio

import pytest

from gateway.tests.upstream_peer import OK, Peer, PeerConnection, answering, answering_once, eventually, soon
from gateway.upstream import Upstream, UpstreamError, UpstreamProtocolError, UpstreamResponse, UpstreamTimeout

_CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;note=1\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: t\r\n\r\n"
)
_SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"


async def _get(upstream: Upstream, method: bytes = b"GET", seconds: float = 5.0) -> UpstreamResponse:
    return await upstream.request(method, b"/a?b=c", [(b"host", b"h")], None, soon(seconds))


async def _whole(response: UpstreamResponse) -> bytes:
    return b"".join([chunk async for chunk in response.body()])


async def test_answer_when_it_comes_in_one_read_then_content_is_whole_and_connection_kept() -> None:
    answer = (
        b"HTTP/1.1 201 Made\r\nX-One: 1\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nX-Empty:\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    )
    async with Peer(answering(answer)) as peer:
        upstream = Upstream(peer.address)
        for _ in range(3):
            response = await _get(upstream)
            assert response.status == 201
            assert response.headers == [
                (b"x-one", b"1"),
                (b"set-cookie", b"a=b"),
                (b"set-cookie", b"c=d"),
                (b"x-empty", b""),
                (b"content-length", b"2"),
            ]
            assert response.content == b"hi"
            assert await _whole(response) == b"hi"
            assert response.is_complete
            await response.aclose()
            assert upstream.idle_connections == 1
        assert peer.connections == 1
        await upstream.close()


@pytest.mark.parametrize("answer", [_CHUNKED, _SIZED])
@pytest.mark.parametrize("step", [1, 7])
async def test_answer_when_it_comes_in_pieces_then_body_is_the_same(answer: bytes, step: int) -> None:
    async def script(connection: PeerConnection) -> None:
        for _ in range(2):
            await connection.head()
            for start in range(0, len(answer), step):
                await connection.send(answer[start : start + step])
                await asyncio.sleep(0)

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        for _ in range(2):
            assert await _whole(await _get(upstream)) == b"hello world"
        assert peer.connections == 1
        await upstream.close()


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
    ],
)
async def test_answer_when_it_has_no_body_by_rule_then_next_request_uses_the_connection(
    method: bytes, answer: bytes
) -> None:
    async with Peer(answering(answer, OK)) as peer:
        upstream = Upstream(peer.address)
        response = await _get(upstream, method)
        assert response.content == b""
        assert (await _get(upstream)).content == b"ok"
        assert peer.connections == 1
        await upstream.close()


async def test_interim_answers_when_sent_then_skipped_with_their_headers() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with Peer(answering(interim + OK)) as peer:
        upstream = Upstream(peer.address)
        response = await _get(upstream)
        assert (response.status, response.headers) == (200, [(b"content-length", b"2")])
        await upstream.close()


@pytest.mark.parametrize("version", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_connection_when_the_answer_ends_it_then_not_used_again(version: bytes) -> None:
    async with Peer(answering_once(version + b"content-length: 2\r\n\r\nok")) as peer:
        upstream = Upstream(peer.address)
        for count in (1, 2):
            assert (await _get(upstream)).content == b"ok"
            assert peer.connections == count
            assert upstream.idle_connections == 0
        await upstream.close()


_BAD = {
    "garbage": b"SSH-2.0-OpenSSH_9.6\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "length list": b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
    "signed length": b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "other coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "no framing": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "bad chunk size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "bare carriage return": b"HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 2\r\n\r\nok",
    "nul in value": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok",
    "folded header": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
    "space before colon": b"HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 2\r\n\r\nok",
    "upgrade": b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "bare 101": b"HTTP/1.1 101 Switching\r\n\r\n",
    "status over 599": b"HTTP/1.1 999 OK\r\ncontent-length: 2\r\n\r\nok",
    "status under 100": b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok",
    "bytes after the end": OK + b"x",
    "second answer": OK + OK,
    "start of a second answer": OK + b"H",
    "body of a 204": b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
    "data after close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nokok",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 129 + b"content-length: 2\r\n\r\nok",
    "too many interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9 + OK,
    "large head": b"HTTP/1.1 200 OK\r\n"
    + (b"x: " + b"y" * 1000 + b"\r\n") * 70
    + b"content-length: 0\r\n\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
}


@pytest.mark.parametrize("answer", _BAD.values(), ids=_BAD.keys())
async def test_answer_when_it_breaks_the_protocol_then_error_and_connection_closed(answer: bytes) -> None:
    async with Peer(answering_once(answer)) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamProtocolError) as caught:
            await _get(upstream)
        assert str(peer.port) not in str(caught.value)
        await eventually(lambda: peer.closed == 1)
        assert (upstream.open_connections, upstream.idle_connections) == (0, 0)
        await upstream.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5",
    ],
)
async def test_head_request_when_answered_with_a_body_then_protocol_error(answer: bytes) -> None:
    async with Peer(answering_once(answer)) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamProtocolError):
            await _get(upstream, b"HEAD")
        await upstream.close()


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
    ],
)
async def test_answer_when_cut_short_then_protocol_error_and_no_second_try(start: bytes) -> None:
    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(start)

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamProtocolError, match="cut short"):
            await _whole(await _get(upstream))
        assert peer.connections == 1
        await upstream.close()


@pytest.mark.parametrize("filler", [b"0\r\n" + b"x-trailer: abcdefgh\r\n" * 1000, b"5;" + b"e" * 20000])
async def test_answer_when_it_goes_on_without_body_then_protocol_error(filler: bytes) -> None:
    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n" + filler)
        while not connection.writer.is_closing():
            await connection.send(filler[5:])

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamProtocolError):
            await _whole(await _get(upstream))
        await upstream.close()


@pytest.mark.parametrize(
    "poison", [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", b"HTTP/1.1 2", b"\r\n"]
)
async def test_idle_connection_when_bytes_come_unasked_then_dropped_before_the_next_request(
    poison: bytes,
) -> None:
    poisoning = asyncio.Event()

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(OK)
        if connection.number == 1:
            await poisoning.wait()
            await connection.send(poison)
        await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address, idle_timeout=60)
        await _get(upstream)
        poisoning.set()
        await eventually(lambda: peer.closed == 1)
        assert upstream.idle_connections == 0
        assert (await _get(upstream)).content == b"ok"
        assert peer.connections == 2
        await upstream.close()


async def test_large_answer_when_the_consumer_lags_then_the_service_is_stopped() -> None:
    size = 32 * 1024 * 1024
    sent = 0

    async def script(connection: PeerConnection) -> None:
        nonlocal sent
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            await connection.send(b"x" * 65536)
            sent += 65536
        await connection.head()
        await connection.send(OK)

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        response = await _get(upstream, seconds=60)
        # The socket buffers of both sides fill up; then nothing moves until the body is taken.
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < size
        assert response._buffered <= 512 * 1024
        received = 0
        async for chunk in response.body():
            received += len(chunk)
        assert received == size
        assert (await _get(upstream)).content == b"ok"
        assert peer.connections == 1
        await upstream.close()


async def test_body_when_given_up_half_way_then_connection_closed() -> None:
    async with Peer(answering_once(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")) as peer:
        upstream = Upstream(peer.address)
        response = await _get(upstream)
        await response.aclose()
        await eventually(lambda: peer.closed == 1 and upstream.open_connections == 0)
        assert not response.is_complete
        with pytest.raises(UpstreamError):
            await _whole(response)
        await upstream.close()


async def test_read_when_the_body_is_longer_than_the_limit_then_refused() -> None:
    async with Peer(answering_once(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamProtocolError, match="too large"):
            await (await _get(upstream)).read(4)
        await eventually(lambda: upstream.open_connections == 0)
        await upstream.close()
    async with Peer(answering(OK)) as peer:
        upstream = Upstream(peer.address)
        assert await (await _get(upstream)).read(2) == b"ok"
        with pytest.raises(UpstreamProtocolError, match="too large"):
            await (await _get(upstream)).read(1)
        await upstream.close()


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"]
)
async def test_deadline_when_it_passes_then_timeout_and_connection_closed(start: bytes) -> None:
    async with Peer(answering_once(start)) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamTimeout):
            await _whole(await _get(upstream, seconds=0.1))
        await eventually(lambda: peer.closed == 1 and upstream.open_connections == 0)
        await upstream.close()


async def test_deadline_when_already_past_then_nothing_is_sent() -> None:
    async with Peer(answering(OK)) as peer:
        upstream = Upstream(peer.address)
        with pytest.raises(UpstreamTimeout):
            await _get(upstream, seconds=-1)
        assert peer.connections == 0
        await upstream.close()


async def test_deadline_when_moved_for_a_stream_then_the_stream_goes_on() -> None:
    moved = asyncio.Event()

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await moved.wait()
        await asyncio.sleep(0.2)  # past the first deadline, which is what is tested
        await connection.send(b"world")
        await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        response = await _get(upstream, seconds=0.15)
        response.set_deadline(soon(5))
        moved.set()
        assert await _whole(response) == b"helloworld"
        await upstream.close()


async def test_later_requests_when_an_early_one_had_a_long_deadline_then_theirs_still_holds() -> None:
    async with Peer(answering(OK, OK, b"")) as peer:
        upstream = Upstream(peer.address)
        await _get(upstream, seconds=60)
        await _get(upstream, seconds=60)
        with pytest.raises(UpstreamTimeout):
            await _get(upstream, seconds=0.1)
        assert peer.connections == 1
        await upstream.close()
