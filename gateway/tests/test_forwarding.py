"""What happens when services or clients misbehave, and to the time a request has."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta

import httpx
import pytest

from gateway.contract import Contract
from gateway.tests.echo import ECHO_CONTRACT, Echo
from gateway.tests.running import RunningGateway, running_gateway
from gateway.tests.upstream_peer import Peer, PeerConnection
from tests.harness import System


async def test_absent_service_is_503_and_the_others_answer(
    system: System, service_urls: dict[str, str]
) -> None:
    urls = {**service_urls, "identity": "http://127.0.0.1:1"}
    async with running_gateway(system, urls, contract=Contract(ECHO_CONTRACT)) as gateway:
        away = await gateway.client.get("/echo/public")
        ready = await gateway.client.get("/readyz")
        alive = await gateway.client.get("/healthz")

    assert (away.status_code, away.json()["code"]) == (503, "service_unavailable")
    assert int(away.headers["retry-after"]) >= 1
    assert "127.0.0.1" not in away.text
    assert ready.json()["checks"] == {
        "revocations": "ok",
        "identity": "away",
        "token": "ok",
        "orgs": "ok",
        "federation": "ok",
        "audit": "ok",
        "nats": "ok",
        "redis": "ok",
    }
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})


async def test_second_address_of_a_service_is_used(
    system: System, service_urls: dict[str, str], echo: Echo
) -> None:
    urls = {**service_urls, "identity": f"http://127.0.0.1:1,{echo.url}"}
    async with running_gateway(system, urls, contract=Contract(ECHO_CONTRACT)) as gateway:
        answers = [await gateway.client.get("/echo/public") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200] * 4


@contextlib.asynccontextmanager
async def _before(system: System, urls: dict[str, str], peer: Peer, **changes: object):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """A gateway with a misbehaving service in the place of identity."""
    contract = Contract(ECHO_CONTRACT)
    async with running_gateway(
        system, {**urls, "identity": f"http://{peer.address}"}, contract=contract, **changes
    ) as gateway:
        yield gateway


async def _hang(connection: PeerConnection) -> None:
    await connection.head()
    await connection.until_closed()


async def _hang_up(connection: PeerConnection) -> None:
    await connection.head()


async def _nonsense(connection: PeerConnection) -> None:
    await connection.head()
    await connection.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def _break_off(connection: PeerConnection) -> None:
    await connection.head()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")


async def test_hanging_service_is_504_in_time(system: System, service_urls: dict[str, str]) -> None:
    async with (
        Peer(_hang) as peer,
        _before(system, service_urls, peer, request_timeout=timedelta(seconds=0.3)) as gateway,
    ):
        started = time.monotonic()
        answer = await gateway.client.get("/echo/public")

    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("script", [_hang_up, _nonsense])
async def test_broken_service_is_503(system: System, service_urls: dict[str, str], script: object) -> None:
    async with Peer(script) as peer, _before(system, service_urls, peer) as gateway:  # type: ignore[arg-type]
        answer = await gateway.client.get("/echo/public")

    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert "SSH" not in answer.text


async def test_answer_that_breaks_off_is_cut_and_not_completed(
    system: System, service_urls: dict[str, str]
) -> None:
    async with Peer(_break_off) as peer, _before(system, service_urls, peer) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.client.get("/echo/public")


async def test_client_that_leaves_cancels_the_call(echo_gateway: RunningGateway, echo: Echo) -> None:
    echo.hold, left = asyncio.Event(), echo.left
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", echo_gateway.port)
        writer.write(b"GET /echo/public HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            while not echo.waiting:
                await asyncio.sleep(0.01)
            writer.close()
            while echo.left == left:
                await asyncio.sleep(0.01)
    finally:
        echo.hold.set()
        echo.hold = None

    assert (await echo_gateway.client.get("/echo/public")).status_code == 200


async def test_client_that_leaves_within_its_body_reaches_no_service(
    echo_gateway: RunningGateway, echo: Echo
) -> None:
    before = len(echo.arrived)
    _, writer = await asyncio.open_connection("127.0.0.1", echo_gateway.port)
    writer.write(b"POST /echo/public HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await echo_gateway.client.get("/echo/public")).status_code == 200
    assert [arrived.method for arrived in echo.arrived[before:]] == ["GET"]


async def test_many_requests_at_once_keep_their_answers_apart(
    echo_gateway: RunningGateway, echo: Echo
) -> None:
    answers = await asyncio.gather(
        *(echo_gateway.client.get(f"/echo/public?number={number}") for number in range(100))
    )

    assert [answer.json()["target"] for answer in answers] == [
        f"/echo/public?number={number}" for number in range(100)
    ]
