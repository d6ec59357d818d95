"""NATS: one connection a process, the event stream, and cache invalidations.

The stream holds what must not be lost and is fed by the outbox only. Invalidations are plain messages: fast,
and lost without harm, because whatever they invalidate also has a short life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from chassis.errors import Unavailable

log = structlog.get_logger()

STREAM = "EVENTS"
_SUBJECTS = ["events.>"]
_DUPLICATE_WINDOW_SECONDS = 600.0
_MAX_AGE_SECONDS = 14 * 86400.0
_FLUSH_SECONDS = 1

Listener = Callable[[str], Awaitable[None]]


class BusUnavailable(Unavailable):
    """NATS is away."""

    code = "bus_unavailable"


class Bus:
    """The process's NATS connection; connects in the background and reconnects for ever."""

    def __init__(self, url: str, *, process: str) -> None:
        """Remember where; `start` connects."""
        self._url = url
        self._process = process
        self._listeners: list[tuple[str, Listener]] = []
        self._connecting: asyncio.Task[None] | None = None
        self._stream_is_there = False
        self.client = Client()
        self.stream = self.client.jetstream(timeout=5)

    def on(self, subject: str, listener: Listener) -> None:
        """Call `listener` with each plain message's text on `subject`, and with "" after each (re)connect.

        The empty call means "you may have missed some": drop everything. To be called before `start`.
        """
        self._listeners.append((subject, listener))

    async def start(self) -> None:
        """Begin to connect; NATS being away is not an error."""
        self._connecting = asyncio.create_task(self._connect())

    async def stop(self) -> None:
        """Flush and close."""
        if self._connecting is not None:
            self._connecting.cancel()
        try:
            if self.client.is_connected:
                await self.client.flush(timeout=_FLUSH_SECONDS)
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("bus not flushed at stop", error=type(error).__name__)
        await self.client.close()

    async def check(self) -> None:
        """Readiness.

        Raises:
            BusUnavailable: not connected.
        """
        if not self.client.is_connected:
            raise BusUnavailable

    async def tell(self, subject: str, text: str) -> None:
        """Send a plain message now, best effort, and wait until the server has it."""
        if not self.client.is_connected:
            return
        try:
            await self.client.publish(subject, text.encode())
            await self.client.flush(timeout=_FLUSH_SECONDS)
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("message not sent", subject=subject, error=type(error).__name__)

    async def ensure_stream(self) -> None:
        """Create the event stream when it is missing.

        Raises:
            NatsError: JetStream does not answer.
        """
        if self._stream_is_there:
            return
        try:
            await self.stream.stream_info(STREAM)
        except NotFoundError:
            config = StreamConfig(
                name=STREAM,
                subjects=_SUBJECTS,
                max_age=_MAX_AGE_SECONDS,
                duplicate_window=_DUPLICATE_WINDOW_SECONDS,
            )
            await self.stream.add_stream(config)
        self._stream_is_there = True

    async def _connect(self) -> None:
        await self.client.connect(
            self._url,
            name=f"authservice-{self._process}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=2,
            ping_interval=10,
            error_cb=self._log_error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._after_connect,
        )
        for subject, listener in self._listeners:
            await self.client.subscribe(subject, cb=_deliver(listener))
        await self._after_connect()

    async def _after_connect(self) -> None:
        log.info("bus connected")
        self._stream_is_there = False
        for _, listener in self._listeners:
            await listener("")

    async def _disconnected(self) -> None:
        log.warning("bus disconnected")

    async def _log_error(self, error: Exception) -> None:
        log.warning("bus error", error=type(error).__name__)


def _deliver(listener: Listener) -> Callable[[Msg], Awaitable[None]]:
    async def deliver(message: Msg) -> None:
        await listener(message.data.decode(errors="replace"))

    return deliver
