"""Lines of a body as it arrives, and the report of them as it may be sent."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MAX_LINE: Final = 64 * 1024
_IN_MEMORY: Final = 1024 * 1024
_READ: Final = 64 * 1024
_TRICKLE_SECONDS: Final = 4.0


async def lines_of(body: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes | None]]:
    """Yield each line with its number, from 1; None for one over 64 KiB. No more than one is held."""
    number, held, is_over = 1, bytearray(), False
    async for part in body:
        start = 0
        while (end := part.find(b"\n", start)) >= 0:
            held += part[start:end]
            yield number, None if is_over or len(held) > MAX_LINE else bytes(held)
            number, is_over, start = number + 1, False, end + 1
            held.clear()
        held += part[start:]
        if len(held) > MAX_LINE:
            is_over = True
            held.clear()
    if held or is_over:
        yield number, None if is_over else bytes(held)


class ReportResponse(Response):
    """An answer of lines that are made while the request's body is still being read.

    Many clients read nothing before they have sent everything, and would wait for ever for a server that
    waits for them. So the report is set aside, on disk when it is long, until the body was read; meanwhile a
    line now and then shows everybody on the way that the request is alive.
    """

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        """Take the lines, each with its line break; they must not raise once they have begun."""
        super().__init__()
        del self.headers["content-length"]
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head at once, and the lines as above."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as aside:
            made, sent = 0, 0
            is_done = asyncio.Event()

            async def make() -> None:
                nonlocal made
                async for line in self._lines:
                    aside.seek(made)
                    made += aside.write(line)
                is_done.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(make())
                while not is_done.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(is_done.wait(), _TRICKLE_SECONDS)
                    if sent < made:
                        aside.seek(sent)
                        line = aside.readline()
                        sent += len(line)
                        await send({"type": "http.response.body", "body": line, "more_body": True})
            aside.seek(sent)
            while part := aside.read(_READ):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
