"""Answers in one write: the same bytes that uvicorn would send, in one piece, and never out of turn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from chassis.whole_answers import write_answer

_WAIT_SECONDS = 10.0


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the path; `/slow` after a moment, `/evil` with a header that holds another."""
    body = scope["path"].encode()
    if scope["path"] == "/slow":
        for _ in range(20):
            await asyncio.sleep(0)
    value = b"a\r\nset-cookie: stolen=1" if scope["path"] == "/evil" else b"a"
    headers = [(b"content-length", b"%d" % len(body)), (b"x-value", value)]
    whole = write_answer(send, 200, [*headers, (b"x-way", b"whole")], body)
    if not whole:
        headers.append((b"x-way", b"messages"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server with that application."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        _application, http="httptools", ws="none", lifespan="off", log_config=None, proxy_headers=False
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]  # they are pytest's
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield listener.getsockname()[1]
    server.should_exit = True
    await serving


async def _exchange(port: int, request: bytes) -> bytes:
    """Everything that is answered until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(_WAIT_SECONDS):
        answer = await reader.read()
    writer.close()
    return answer


def _request(path: str, *, method: str = "GET", close: bool = True) -> bytes:
    connection = "connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{connection}\r\n".encode()


async def test_answer_when_whole_then_head_length_and_close_are_there(port: int) -> None:
    head, _, body = (await _exchange(port, _request("/one"))).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"content-length: 4", b"x-value: a", b"x-way: whole", b"connection: close"} <= set(lines)
    assert body == b"/one"


async def test_answers_when_pipelined_then_in_order(port: int) -> None:
    sent = _request("/slow", close=False) + _request("/two", close=False) + _request("/three")
    answers = await _exchange(port, sent)
    assert answers.count(b"x-way: whole") == 3
    assert answers.index(b"\r\n\r\n/slow") < answers.index(b"\r\n\r\n/two") < answers.index(b"\r\n\r\n/three")


async def test_answer_when_head_is_asked_for_then_uvicorn_leaves_the_body_out(port: int) -> None:
    answer = await _exchange(port, _request("/one", method="HEAD"))
    assert b"x-way: messages" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_answer_when_a_value_holds_a_line_then_nothing_of_it_is_sent(port: int) -> None:
    assert await _exchange(port, _request("/evil")) == b""


async def test_write_answer_when_send_is_not_uvicorns_then_false() -> None:
    async def send(message: object) -> None:
        raise AssertionError("nothing may be sent")

    assert write_answer(send, 200, [(b"content-length", b"0")], b"") is False
