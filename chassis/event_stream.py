"""Server-sent events (WHATWG HTML §9.2): the answer of routes that are `endless`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import Request
from starlette.responses import StreamingResponse

from chassis.errors import AppError, Unavailable
from chassis.probes import Probes

MAX_SECONDS = 3600.0
"""A stream ends after an hour, so that connections spread over new processes; its reader begins it anew."""

PING = b": ping\n\n"
"""What a stream says when there is nothing to say, at least once a second."""


class EventStream(StreamingResponse):
    """Sends parts as they come, to the end of the source, of the process or of the hour.

    Of the source it asks a part every second, be it a `PING`. What it refuses before the first part is an
    answer of its own; later it can only end the stream.
    """

    media_type = "text/event-stream"

    @classmethod
    async def begun(cls, request: Request, source: AsyncGenerator[bytes, None]) -> EventStream:
        """Return the answer once the source has given its first part, or raise what it refuses.

        Raises:
            Unavailable: the process is stopping.
        """
        probes: Probes = request.scope["probes"]
        if probes.draining:
            raise Unavailable("This process is stopping. Begin the stream anew.")
        first = await anext(source)
        # Proxies must not wait for its end.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return cls(_parts(first, source, probes), headers=headers)


async def _parts(first: bytes, source: AsyncGenerator[bytes, None], probes: Probes) -> AsyncIterator[bytes]:
    ends_at = time.monotonic() + MAX_SECONDS
    yield first
    try:
        async for part in source:
            yield part
            if probes.draining or time.monotonic() >= ends_at:
                return
    except AppError:
        return
    finally:
        await source.aclose()
