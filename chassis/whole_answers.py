"""The short way out for an answer that is at hand as a whole: one write, past uvicorn's message by message.

uvicorn writes head and body apart, two system calls, and searches each header for what must not be in it:
together a tenth of what a forwarded request costs the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


def write_answer(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
    """Write a complete answer, or return False without any effect: then it must be sent as messages.

    Args:
        send: what uvicorn gave for this request.
        status: the status.
        headers: with lower-case names, and with the length of the body.
        body: all of it.
    """
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or not _is_plain(cycle):
        return False
    parts = [STATUS_LINE[status]]
    has_length = False
    for name, value in (*cycle.default_headers, *headers):
        if name == b"content-length":
            has_length = True
        elif name in (b"connection", b"transfer-encoding"):
            return False
        parts += (name, b": ", value, b"\r\n")
    lines = len(parts) // 4 + 1
    if not cycle.keep_alive:
        parts.append(b"connection: close\r\n")
        lines += 1
    head = b"".join(parts)
    # A line too many is a value that would start a header, or an answer, of its own.
    if not has_length or head.count(b"\n") != lines or head.count(b"\r") != lines:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(b"%b\r\n%b" % (head, body))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _is_plain(cycle: RequestResponseCycle) -> bool:
    return not (
        cycle.response_started
        or cycle.disconnected
        or cycle.waiting_for_100_continue
        or cycle.flow.write_paused
        or cycle.scope["method"] == "HEAD"
    )
