"""HTTP/1.1 that could be read in two ways, is too large or too slow."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from collections.abc import Iterator

import pytest

import gateway.protocol
from gateway.tests.echo import Echo
from gateway.tests.running import RunningGateway
from tests.harness import Tenant

_SMUGGLED = b"GET /echo/admin HTTP/1.1\r\nhost: x\r\n\r\n"


def _post(headers: bytes, body: bytes, path: bytes = b"/echo/public") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n" + body


@pytest.mark.parametrize(
    "request_bytes",
    [
        _post(b"content-length: 5\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: chunked, identity\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: identity, chunked\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: xchunked\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding:\x0bchunked\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding : chunked\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding\r\n : chunked\r\n", b"0\r\n\r\n" + _SMUGGLED),
        _post(b"content-length: 0\r\ncontent-length: 40\r\n", _SMUGGLED),
        _post(b"content-length: 2\r\ncontent-length: 2\r\n", b"ok" + _SMUGGLED),
        _post(b"content-length: +2\r\n", b"ok" + _SMUGGLED),
        _post(b"content-length: -2\r\n", b"ok" + _SMUGGLED),
        _post(b"content-length: 0x2\r\n", b"ok" + _SMUGGLED),
        _post(b"content-length: 2, 2\r\n", b"ok" + _SMUGGLED),
        _post(b"content-length: 99999999999999999999999\r\n", b"ok" + _SMUGGLED),
        _post(b"transfer-encoding: chunked\r\n", b"2\nok\n0\n\n" + _SMUGGLED),
        _post(b"transfer-encoding: chunked\r\n", b"2;x=\n1\r\nok\r\n0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: chunked\r\n", b"2\r\nokxx0\r\n\r\n" + _SMUGGLED),
        _post(b"transfer-encoding: chunked\r\n", b"-1\r\n\r\n" + _SMUGGLED),
        b"GET /echo/public HTTP/1.1\nhost: x\n\n" + _SMUGGLED,
        b"GET /echo/public HTTP/1.1\r\nhost: x\r\n folded: 1\r\n\r\n" + _SMUGGLED,
        b"GET /echo/public HTTP/1.1\r\nhost: x\r\nx y: 1\r\n\r\n" + _SMUGGLED,
        b"GET /echo/public HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n" + _SMUGGLED,
        b"GET /echo/public HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET /echo/public HTTP/1.1\r\n\r\n" + _SMUGGLED,
        b"GET /echo/public HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n" + _SMUGGLED,
        b"GET /echo/public HTTP/1.1\r\nhost: x/y@z\r\n\r\n" + _SMUGGLED,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /echo/public HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\n"
        b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n" + _SMUGGLED,
        b"GET /echo/public HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        + _SMUGGLED,
    ],
)
async def test_unclear_framing_is_refused_and_the_connection_closed(
    echo_gateway: RunningGateway, echo: Echo, request_bytes: bytes
) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.raw(request_bytes, seconds=3)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer == b"" or (b"connection: close" in answer and b"x-request-id: " in answer)
    assert len(echo.arrived) == before


async def test_clear_framing_is_accepted(echo_gateway: RunningGateway, echo: Echo) -> None:
    for headers, body, size in (
        (b"content-length: 2\r\n", b"ok", 2),
        (b"transfer-encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n", 2),
        (b"Transfer-Encoding: Chunked\r\n", b"1;ext=1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 2),
        (b"content-length: 0\r\n", b"", 0),
    ):
        answer = await echo_gateway.raw(_post(headers + b"connection: close\r\n", body))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert echo.last().size == size


async def test_trailer_does_not_become_a_header(
    echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    trailer = f"x-api-key: {tenant.api_key}\r\n".encode()
    head = b"transfer-encoding: chunked\r\nconnection: close\r\n"

    refused = await echo_gateway.raw(_post(head, b"0\r\n" + trailer + b"\r\n", b"/echo/key"))
    accepted = await echo_gateway.raw(_post(head + trailer, b"0\r\n\r\n", b"/echo/key"))

    assert refused.startswith(b"HTTP/1.1 401 "), refused
    assert accepted.startswith(b"HTTP/1.1 200 "), accepted


async def test_pipelined_requests_are_answered_each_under_its_own_key(
    echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    first = f"GET /echo/key HTTP/1.1\r\nhost: x\r\nx-api-key: {tenant.api_key}\r\n\r\n".encode()
    second = b"GET /echo/key HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    before = len(echo.arrived)

    answer = await echo_gateway.raw(first + second)

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"401"]
    assert len(echo.arrived) == before + 1


async def test_nothing_after_connection_close_is_served(echo_gateway: RunningGateway, echo: Echo) -> None:
    before = len(echo.arrived)
    request = b"GET /echo/public HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    answer = await echo_gateway.raw(request + request)

    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert len(echo.arrived) == before + 1


async def test_too_many_headers_are_431(echo_gateway: RunningGateway) -> None:
    def request(count: int) -> bytes:
        lines = b"".join(b"x-%d: 1\r\n" % number for number in range(count))
        return b"GET /echo/public HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + lines + b"\r\n"

    assert (await echo_gateway.raw(request(90))).startswith(b"HTTP/1.1 200 ")
    for count in (100, 100_000):
        answer = await echo_gateway.raw(request(count))
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 "), answer[:100]


async def test_large_head_is_431(echo_gateway: RunningGateway) -> None:
    def request(size: int) -> bytes:
        return b"GET /echo/public HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: " + b"a" * size + b"\r\n\r\n"

    assert (await echo_gateway.raw(request(30_000))).startswith(b"HTTP/1.1 200 ")
    for size in (33_000, 3_000_000):
        answer = await echo_gateway.raw(request(size))
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 "), answer[:100]


async def test_declared_body_over_the_limit_is_413_at_once(echo_gateway: RunningGateway, echo: Echo) -> None:
    before = len(echo.arrived)
    head = _post(b"content-length: 10485760\r\n", b"x" * 100)

    started = time.monotonic()
    answer = await echo_gateway.raw(head, seconds=1)

    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b'"code":"body_too_large"' in answer
    assert time.monotonic() - started < 2
    assert len(echo.arrived) == before


async def test_whole_large_body_is_413_and_the_client_can_read_it(
    echo_gateway: RunningGateway, echo: Echo
) -> None:
    before = len(echo.arrived)

    refused = await echo_gateway.client.post("/echo/public", content=b"x" * 10_000_000)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert len(echo.arrived) == before

    accepted = await echo_gateway.client.post("/echo/public", content=b"x" * 65_536)
    assert (accepted.status_code, echo.last().size) == (200, 65_536)


async def test_chunked_body_is_cut_at_the_limit(echo_gateway: RunningGateway, echo: Echo) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    head = b"transfer-encoding: chunked\r\nconnection: close\r\n"
    before = len(echo.arrived)

    refused = await echo_gateway.raw(_post(head, chunk * 2 + b"0\r\n\r\n"))
    assert refused.startswith(b"HTTP/1.1 413 "), refused
    assert len(echo.arrived) == before

    accepted = await echo_gateway.raw(_post(head, chunk + b"0\r\n\r\n"))
    assert accepted.startswith(b"HTTP/1.1 200 "), accepted
    assert echo.last().size == 65_536


async def test_large_allowed_body_streams_through(echo_gateway: RunningGateway, echo: Echo) -> None:
    answer = await echo_gateway.client.post("/echo/large", content=b"x" * 8_000_000)

    assert (answer.status_code, echo.last().size) == (200, 8_000_000)


async def test_body_on_a_get_is_413(echo_gateway: RunningGateway, echo: Echo) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.client.request("GET", "/echo/public", content=b"x")

    assert answer.status_code == 413
    assert len(echo.arrived) == before


async def test_compressed_body_is_415(echo_gateway: RunningGateway, echo: Echo) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.client.post(
        "/echo/public", headers={"Content-Encoding": "gzip"}, content=gzip.compress(b"0" * 1_000_000)
    )

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_encoding")
    assert len(echo.arrived) == before


async def test_expected_continue_is_refused_before_the_body(echo_gateway: RunningGateway) -> None:
    head = b"content-length: 10485760\r\nexpect: 100-continue\r\n"

    answer = await echo_gateway.raw(_post(head, b""), seconds=1)

    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"100 Continue" not in answer
    assert b"connection: close" in answer


@contextlib.contextmanager
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorten the bounds, so that a test need not wait for the real ones."""
    with monkeypatch.context() as patch:
        patch.setattr(gateway.protocol, "HEAD_SECONDS", 0.3)
        patch.setattr(gateway.protocol, "IDLE_SECONDS", 0.3)
        patch.setattr(gateway.protocol, "LINGER_SECONDS", 0.3)
        patch.setattr(gateway.protocol, "_TICK_SECONDS", 0.05)
        yield


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /echo/public HTTP/1.1\r\nhost: x\r\n",
        _post(b"content-length: 1000\r\n", b"x"),
        _post(b"transfer-encoding: chunked\r\n", b"5\r\nx"),
    ],
)
async def test_slow_request_is_cut_and_others_are_served(
    echo_gateway: RunningGateway, echo: Echo, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    before = len(echo.arrived)
    with _quick(monkeypatch):
        started = time.monotonic()
        slow = [asyncio.create_task(echo_gateway.raw(begun, seconds=5)) for _ in range(50)]
        served = await echo_gateway.client.get("/echo/public")
        answers = await asyncio.gather(*slow)

    assert served.status_code == 200
    assert time.monotonic() - started < 4
    assert all(b"200" not in answer for answer in answers)
    assert len(echo.arrived) == before + 1


async def test_slow_head_that_trickles_is_cut(
    echo_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _quick(monkeypatch):
        reader, writer = await asyncio.open_connection("127.0.0.1", echo_gateway.port)
        writer.write(b"GET /echo/public HTTP/1.1\r\nhost: x\r\n")
        async with asyncio.timeout(4):
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"x-a: 1\r\n")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(100), 0.05)
        writer.close()
