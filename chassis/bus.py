"""NATS: one connection a process, the event stream, and cache invalidations.

The stream holds what must not be lost and is fed by the outbox only. Invalidations are plain messages: fast,
and lost without harm, because whatever they invalidate also has a short life.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

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
_ANSWER_SECONDS = 0.5
_INBOXES = "_INBOX_"

Listener = Callable[[str], Awaitable[None]]


def inbox_prefix(process: str) -> str:
    """Return where answers to a process arrive; its own, so that no other process can read or forge them."""
    return f"{_INBOXES}{process}"


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
        self._id = f"{process}-{secrets.token_hex(8)}"
        self._listening: dict[str, set[str]] = {}
        self._questions: dict[str, _Question] = {}
        self.client = Client()
        self._inbox = f"{inbox_prefix(process)}.{secrets.token_hex(8)}"
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
        if self.client.is_connected or self.client.is_reconnecting:
            await self.client.close()

    async def check(self) -> None:
        """Readiness.

        Raises:
            BusUnavailable: not connected.
        """
        if not self.client.is_connected:
            raise BusUnavailable

    async def tell(self, subject: str, text: str) -> None:
        """Send a plain message, best effort."""
        if not self.client.is_connected:
            return
        try:
            await self.client.publish(subject, text.encode())
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("message not sent", subject=subject, error=type(error).__name__)

    async def tell_all(self, subject: str, text: str) -> None:
        """Send a plain message and wait until every process that listens has acted on it, at most a moment.

        Who listens is known from who ever answered; one that is silent is not waited for again until it
        answers. Best effort like `tell`: what is told must also have a short life.
        """
        if not self.client.is_connected:
            return
        listening = self._listening.setdefault(subject, set())
        asked = _Question(listening)
        self._questions[asked.id] = asked
        try:
            await self.client.publish(subject, text.encode(), reply=f"{self._inbox}.{asked.id}")
            async with asyncio.timeout(_ANSWER_SECONDS):
                await asked.all_answered()
        except TimeoutError:
            listening &= asked.answered
        except (NatsError, OSError) as error:
            log.warning("message not sent", subject=subject, error=type(error).__name__)
        finally:
            del self._questions[asked.id]

    async def _note_answer(self, message: Msg) -> None:
        asked = self._questions.get(message.subject.rpartition(".")[2])
        if asked is not None:
            asked.note(message.data.decode(errors="replace"))

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
            inbox_prefix=inbox_prefix(self._process).encode(),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=2,
            ping_interval=10,
            error_cb=self._log_error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._after_connect,
        )
        await self.client.subscribe(f"{self._inbox}.*", cb=self._note_answer)
        for subject in dict.fromkeys(subject for subject, _ in self._listeners):
            listeners = [listener for heard, listener in self._listeners if heard == subject]
            await self.client.subscribe(subject, cb=_deliver(listeners, self._id))
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


class _Question:
    """One message that asks its listeners to answer; answers of newcomers are noted for the next time."""

    def __init__(self, listening: set[str]) -> None:
        self.id = secrets.token_hex(8)
        self.answered: set[str] = set()
        self._listening = listening
        self._expected = frozenset(listening)
        self._news = asyncio.Event()

    def note(self, answer: str) -> None:
        self.answered.add(answer)
        self._listening.add(answer)
        self._news.set()

    async def all_answered(self) -> None:
        """Wait for everyone who is known to listen; for ever when nobody is, so that somebody gets known."""
        while not self._expected or not self._expected <= self.answered:
            await self._news.wait()
            self._news.clear()


def _deliver(listeners: Sequence[Listener], answer: str) -> Callable[[Msg], Awaitable[None]]:
    """Answer once, when all of this process have acted: NATS allows one answer to a message."""

    async def deliver(message: Msg) -> None:
        for listener in listeners:
            await listener(message.data.decode(errors="replace"))
        # An answer goes to an inbox and nowhere else: NATS lets us answer on any subject that is named, also
        # on one where only another may speak.
        if message.reply.startswith(_INBOXES):
            await message.respond(answer.encode())

    return deliver
