"""Which connection, which address, and when again: the pool of the forward path's client."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.tests.upstream_peer import OK, Peer, PeerConnection, answering, eventually, soon
from gateway.upstream import Upstream, UpstreamResponse, UpstreamTimeout, UpstreamUnavailable


async def _get(upstream: Upstream, seconds: float = 5.0) -> UpstreamResponse:
    return await upstream.request(b"GET", b"/", [], None, soon(seconds))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Gate:
    """A script that answers each request when it is let through."""

    def __init__(self) -> None:
        self.asked = 0
        self.turns = asyncio.Semaphore(0)

    async def __call__(self, connection: PeerConnection) -> None:
        while True:
            await connection.head()
            self.asked += 1
            await self.turns.acquire()
            await connection.send(OK)


async def test_requests_when_at_once_then_a_connection_each_up_to_the_limit_and_the_rest_in_line() -> None:
    gate = _Gate()
    async with Peer(gate) as peer:
        upstream = Upstream(peer.address, max_connections=3)
        tasks = [asyncio.create_task(_get(upstream)) for _ in range(8)]
        await eventually(lambda: gate.asked == 3 and upstream.waiting_requests == 5)
        for _ in tasks:
            gate.turns.release()
        assert [(await task).content for task in tasks] == [b"ok"] * 8
        assert peer.connections == 3
        assert (upstream.open_connections, upstream.idle_connections) == (3, 3)
        await upstream.close()
        assert (upstream.open_connections, upstream.idle_connections) == (0, 0)


async def test_line_when_full_or_too_slow_then_refused_and_the_pool_keeps_its_size() -> None:
    gate = _Gate()
    async with Peer(gate) as peer:
        upstream = Upstream(peer.address, max_connections=1, max_waiting=2)
        first = asyncio.create_task(_get(upstream))
        await eventually(lambda: gate.asked == 1)
        slow = asyncio.create_task(_get(upstream, seconds=0.05))
        left = asyncio.create_task(_get(upstream))
        await eventually(lambda: upstream.waiting_requests == 2)
        with pytest.raises(UpstreamUnavailable, match="overloaded"):
            await _get(upstream)
        left.cancel()
        with pytest.raises(UpstreamTimeout):
            await slow
        await eventually(lambda: upstream.waiting_requests == 0)
        gate.turns.release()
        await first
        gate.turns.release()
        assert (await _get(upstream)).content == b"ok"
        assert (peer.connections, upstream.open_connections) == (1, 1)
        await upstream.close()


async def test_line_when_a_connection_is_closed_then_its_place_goes_to_the_next() -> None:
    answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    async with Peer(answering(answer)) as peer:
        upstream = Upstream(peer.address, max_connections=2)
        answers = await asyncio.gather(*(_get(upstream) for _ in range(10)))
        assert [answer.content for answer in answers] == [b"ok"] * 10
        assert peer.connections == 10
        await eventually(lambda: upstream.open_connections == 0)
        await upstream.close()


async def test_line_when_the_one_served_leaves_in_that_moment_then_nothing_is_lost() -> None:
    gate = _Gate()
    async with Peer(gate) as peer:
        upstream = Upstream(peer.address, max_connections=1)
        waiting: list[asyncio.Task[UpstreamResponse]] = []

        async def first() -> None:
            await _get(upstream)
            waiting[
                0
            ].cancel()  # it was given the connection in the same step of the loop, and did not run yet

        running = asyncio.create_task(first())
        await eventually(lambda: gate.asked == 1)
        waiting.append(asyncio.create_task(_get(upstream)))
        await eventually(lambda: upstream.waiting_requests == 1)
        gate.turns.release()
        await running
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        assert (gate.asked, upstream.idle_connections) == (1, 1)
        gate.turns.release()
        assert (await _get(upstream)).content == b"ok"
        assert peer.connections == 1
        await upstream.close()
        assert upstream.open_connections == 0


async def test_addresses_when_several_then_taken_in_turn() -> None:
    async with Peer(answering(OK)) as one, Peer(answering(OK)) as two:
        upstream = Upstream(f"http://{one.address}, {two.address}")
        for _ in range(6):
            await _get(upstream)
        assert (one.connections, two.connections) == (1, 1)
        assert upstream.idle_connections == 2
        await upstream.close()


async def test_address_when_it_refuses_then_the_next_at_once_and_passed_over_until_it_is_back() -> None:
    port = _free_port()
    async with Peer(answering(OK)) as well:
        upstream = Upstream([f"127.0.0.1:{port}", well.address], failure_cooldown=0.1)
        for _ in range(4):
            assert (await _get(upstream)).content == b"ok"
        assert upstream._origins[0].down_until > 0
        returning = Peer(answering(OK))
        returning.port = port
        async with returning:
            limit = soon(5)
            while returning.connections == 0:
                assert asyncio.get_running_loop().time() < limit
                await _get(upstream)
                await asyncio.sleep(0.01)
            assert upstream._origins[0].down_until == 0
            await upstream.close()


async def test_address_when_it_refused_then_not_tried_before_its_cooldown_is_over() -> None:
    port = _free_port()
    async with Peer(answering(OK)) as well:
        upstream = Upstream([well.address, f"127.0.0.1:{port}"], failure_cooldown=60)
        await _get(upstream)
        returning = Peer(answering(OK))
        returning.port = port
        async with returning:
            for _ in range(6):
                await _get(upstream)
            assert (well.connections, returning.connections) == (1, 0)
            await upstream.close()


async def test_addresses_when_all_refuse_then_unavailable_without_an_address_and_back_at_once() -> None:
    port = _free_port()
    upstream = Upstream(f"127.0.0.1:{port}", failure_cooldown=60, patience=0)
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable) as caught:
            await _get(upstream)
        assert str(caught.value) == "the service is unavailable"
        assert not caught.value.was_sent
    assert upstream.open_connections == 0
    returning = Peer(answering(OK))
    returning.port = port
    async with returning:
        assert (await _get(upstream)).content == b"ok"
        await upstream.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose queue of unaccepted connections is full: connecting to it never ends."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    yield listener.getsockname()[1]
    for each in (*fillers, listener):
        each.close()


async def test_service_when_it_starts_anew_then_requests_of_any_method_wait_for_it() -> None:
    async with Peer(answering(OK)) as peer:
        port = int(peer.address.rpartition(":")[2])
    upstream = Upstream(f"127.0.0.1:{port}", patience=5)
    requests = [
        asyncio.create_task(upstream.request(method, b"/", [], b"{}" if method == b"POST" else None, soon(9)))
        for method in (b"GET", b"POST") * 10
    ]
    await eventually(lambda: upstream.open_connections == 0)
    assert not any(request.done() for request in requests)
    server = await asyncio.start_server(_answer_once, "127.0.0.1", port)
    assert [(await request).status for request in requests] == [200] * 20
    await upstream.close()
    server.close()
    await server.wait_closed()


async def _answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request and close."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
    await writer.drain()
    writer.close()


async def test_service_when_away_for_long_then_nobody_waits_for_it() -> None:
    patience = 0.2
    upstream = Upstream(f"127.0.0.1:{_free_port()}", patience=patience)
    loop = asyncio.get_running_loop()
    began = loop.time()
    waited: list[float] = []
    while not waited or loop.time() - began < patience * 7:
        started = loop.time()
        with pytest.raises(UpstreamUnavailable):
            await _get(upstream)
        waited.append(loop.time() - started)
        await asyncio.sleep(0.02)
    assert waited[0] >= patience / 4, "it was tried again"
    assert max(waited) < patience + 0.5
    assert waited[-1] < patience / 4
    await upstream.close()


async def test_address_when_it_does_not_accept_then_the_next_after_the_connect_timeout(
    silent_port: int,
) -> None:
    async with Peer(answering(OK)) as well:
        upstream = Upstream(
            [well.address, f"127.0.0.1:{silent_port}"], connect_timeout=0.1, failure_cooldown=60
        )
        for _ in range(3):
            assert (await _get(upstream)).content == b"ok"
        assert upstream._origins[1].down_until > 0
        await upstream.close()


async def test_deadline_when_it_passes_while_connecting_then_timeout_and_no_blame(silent_port: int) -> None:
    upstream = Upstream(f"127.0.0.1:{silent_port}", connect_timeout=5)
    with pytest.raises(UpstreamTimeout):
        await _get(upstream, seconds=0.05)
    assert upstream._origins[0].down_until == 0
    assert upstream.open_connections == 0
    await upstream.close()


async def test_idle_connection_when_the_service_closes_it_then_noticed_before_use() -> None:
    close = asyncio.Event()

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await connection.send(OK)
        if connection.number == 1:
            await close.wait()
        else:
            await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        await _get(upstream)
        close.set()
        await eventually(lambda: upstream.idle_connections == 0)
        response = await upstream.request(b"POST", b"/", [], b"once", soon())
        assert (response.content, peer.connections) == (b"ok", 2)
        await upstream.close()


async def _closing_on_reuse(connection: PeerConnection) -> None:
    """The first connection answers once and dies at its second request; later ones are well."""
    await connection.head()
    await connection.send(OK)
    if connection.number == 1:
        await connection.head()
    else:
        await connection.until_closed()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"])
async def test_stale_connection_when_the_request_may_be_repeated_then_repeated_on_a_new_one(
    method: bytes,
) -> None:
    async def script(connection: PeerConnection) -> None:
        if connection.number == 1:
            await _closing_on_reuse(connection)
            return
        await connection.head()
        await connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await connection.until_closed()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address, max_connections=1)
        await _get(upstream)
        response = await upstream.request(method, b"/", [], b"x" if method == b"PUT" else None, soon())
        assert (response.status, peer.connections) == (204, 2)
        await upstream.close()


async def test_stale_connection_when_the_request_may_not_be_repeated_then_unavailable() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    for method, sent in ((b"POST", b"once"), (b"PATCH", None), (b"PUT", body())):
        async with Peer(_closing_on_reuse) as peer:
            upstream = Upstream(peer.address)
            await _get(upstream)
            with pytest.raises(UpstreamUnavailable) as caught:
                await upstream.request(method, b"/", [], sent, soon())
            assert caught.value.was_sent
            assert peer.connections == 1
            await upstream.close()


async def test_service_when_it_closes_on_every_request_then_tried_twice_at_most() -> None:
    async def script(connection: PeerConnection) -> None:
        await connection.head()
        if connection.number == 1:
            await connection.send(OK)
            await connection.head()

    async with Peer(script) as peer:
        upstream = Upstream(peer.address)
        await _get(upstream)
        with pytest.raises(UpstreamUnavailable):
            await _get(upstream)
        assert peer.connections == 2
        with pytest.raises(UpstreamUnavailable):
            await _get(upstream)  # on a new connection: no second try
        assert peer.connections == 3
        await upstream.close()


async def test_stale_connection_when_the_pool_is_full_of_idle_ones_then_one_makes_room() -> None:
    gate = asyncio.Event()

    async def script(connection: PeerConnection) -> None:
        await connection.head()
        await gate.wait()
        await connection.send(OK)
        await connection.head()
        if connection.number > 2:
            await connection.send(OK)

    async with Peer(script) as peer:
        upstream = Upstream(peer.address, max_connections=2)
        both = [asyncio.create_task(_get(upstream)) for _ in range(2)]
        await eventually(lambda: peer.connections == 2)
        gate.set()
        await asyncio.gather(*both)
        assert (await _get(upstream)).content == b"ok"
        assert peer.connections == 3
        assert upstream.open_connections <= 2
        await upstream.close()
        assert upstream.open_connections == 0


async def test_idle_connection_when_its_time_is_over_then_closed() -> None:
    async with Peer(answering(OK)) as peer:
        upstream = Upstream(peer.address, idle_timeout=0.05)
        await _get(upstream, seconds=60)
        assert upstream.idle_connections == 1
        await eventually(lambda: upstream.open_connections == 0 and peer.closed == 1)
        await upstream.close()


async def test_close_when_a_request_is_under_way_then_it_ends_and_new_ones_are_refused() -> None:
    gate = _Gate()
    async with Peer(gate) as peer:
        upstream = Upstream(peer.address, max_connections=1)
        running = asyncio.create_task(_get(upstream))
        await eventually(lambda: gate.asked == 1)
        waiting = asyncio.create_task(_get(upstream))
        await eventually(lambda: upstream.waiting_requests == 1)
        closing = asyncio.create_task(upstream.close())
        with pytest.raises(UpstreamUnavailable):
            await waiting
        with pytest.raises(UpstreamUnavailable):
            await _get(upstream)
        assert not closing.done()
        gate.turns.release()
        assert (await running).content == b"ok"
        await closing
        assert (upstream.open_connections, peer.connections) == (0, 1)


async def test_close_when_a_request_does_not_end_then_closed_by_force() -> None:
    gate = _Gate()
    async with Peer(gate) as peer:
        upstream = Upstream(peer.address)
        running = asyncio.create_task(_get(upstream))
        await eventually(lambda: gate.asked == 1)
        await upstream.close(timeout=0.05)
        with pytest.raises(UpstreamUnavailable):
            await running
        assert upstream.open_connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        "",
        " , ",
        [],
        "https://127.0.0.1:1",
        "ftp://127.0.0.1:1",
        "http://127.0.0.1:1/path",
        "http://u:p@h:1",
        "h:x",
        "http://:1",
    ],
)
def test_address_when_malformed_then_refused(addresses: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"address|host:port|https|[Pp]ort"):
        Upstream(addresses)


def test_address_when_plain_with_tls_settings_then_refused() -> None:
    with pytest.raises(ValueError, match="https"):
        Upstream("http://127.0.0.1:1", ssl.create_default_context())
