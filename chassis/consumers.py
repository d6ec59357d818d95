"""Durable consumers: events in batches, each handled at least once, the poisonous ones set aside.

The handler must be idempotent (the event id is the key) and commits its work before it returns; only then are
the messages acknowledged. When a batch fails its messages are tried one by one, so that one bad event stops
nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from prometheus_client import Counter

from chassis.bus import STREAM, Bus
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.events import Event

log = structlog.get_logger()

_FETCH_SECONDS = 2.0
_GATHER_SECONDS = 0.02
_GATHER_BUSY_SECONDS = 0.25
_BUSY_MESSAGES = 4
_BACKOFF_SECONDS = 1.0
_ACK_WAIT_SECONDS = 30.0
_MAX_DELIVERIES = 5
# Processes with batches of other sizes share the durable, and the last that starts sets it for all: it must
# never be so few that a larger batch waits in vain for the rest of it, or that some failed events stop it.
_LEAST_UNACKNOWLEDGED = 1000

CONSUMED = Counter("events_consumed_total", "Events handled.", ["consumer"])
DEAD = Counter("events_dead_total", "Events set aside after repeated failure.", ["consumer"])

Handler = Callable[[Sequence[Event]], Awaitable[None]]


def all_of(*handlers: Handler) -> Handler:
    """Return a handler that lets several slices handle the same events, one after the other."""

    async def handle(events: Sequence[Event]) -> None:
        for each in handlers:
            await each(events)

    return handle


class Consumer:
    """One durable pull consumer; processes of one service share it."""

    def __init__(
        self,
        bus: Bus,
        db: Database,
        handler: Handler,
        *,
        name: str,
        subject: str,
        max_batch: int = 500,
        retry_delay: float = 1.0,
    ) -> None:
        """Name the durable and its one filter subject (older servers ignore several).

        A failed event is tried again after `retry_delay` seconds, then twice that, and so on.
        """
        self._retry_delay = retry_delay
        self._bus = bus
        self._db = db
        self._handler = handler
        self._name = name
        self._subject = subject
        self._max_batch = max_batch
        self._is_busy = False

    async def run(self) -> None:
        """Consume for ever; a job of the service."""
        while True:
            try:
                await self._bus.check()
                await self._bus.ensure_stream()
                await self._consume(await self._subscribe())
            except (Unavailable, NatsError, TimeoutError, OSError) as error:
                log.warning("consumer waits", consumer=self._name, error=type(error).__name__)
                await asyncio.sleep(_BACKOFF_SECONDS)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        config = ConsumerConfig(
            durable_name=self._name,
            filter_subject=self._subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_ACK_WAIT_SECONDS,
            deliver_policy=DeliverPolicy.ALL,
            max_ack_pending=max(_LEAST_UNACKNOWLEDGED, self._max_batch * 4),
        )
        await self._bus.stream.add_consumer(STREAM, config)
        return await self._bus.stream.pull_subscribe_bind(self._name, STREAM)

    async def _consume(self, subscription: JetStreamContext.PullSubscription) -> None:
        try:
            while True:
                try:
                    messages = await self._fetch(subscription)
                except TimeoutError:
                    await self._bus.check()
                    continue
                await self._handle(messages)
        finally:
            if self._bus.client.is_connected:
                await subscription.unsubscribe()

    async def _fetch(self, subscription: JetStreamContext.PullSubscription) -> list[Msg]:
        """Wait for one message, then briefly for those behind it.

        Asked for many at once, the client would hold the first back until all are there or the time is over.
        When much comes the wait is longer, so that a slow machine makes large batches instead of many.
        """
        messages = await subscription.fetch(1, timeout=_FETCH_SECONDS)
        if self._max_batch > 1:
            wait = _GATHER_BUSY_SECONDS if self._is_busy else _GATHER_SECONDS
            with contextlib.suppress(TimeoutError):
                messages += await subscription.fetch(self._max_batch - 1, timeout=wait)
        self._is_busy = len(messages) >= _BUSY_MESSAGES
        return messages

    async def _handle(self, messages: list[Msg]) -> None:
        events: list[tuple[Msg, Event]] = []
        for message in messages:
            try:
                event = Event.decode(message.data)
            except ValueError as error:
                await self._bury(message, f"unreadable: {error}")
                continue
            # NATS holds each service to its own subjects; nobody says in the envelope what another did.
            if event.subject != message.subject:
                await self._bury(message, f"says it is {event.subject[:200]}")
                continue
            events.append((message, event))
        if not events:
            return
        try:
            await self._handler([event for _, event in events])
        except Unavailable:
            raise
        except Exception:
            log.exception("batch failed, trying one by one", consumer=self._name, events=len(events))
            await self._handle_singly(events)
            return
        CONSUMED.labels(self._name).inc(len(events))
        for message, _ in events:
            await message.ack()

    async def _handle_singly(self, events: list[tuple[Msg, Event]]) -> None:
        for message, event in events:
            try:
                await self._handler([event])
            except Unavailable:
                raise
            except Exception as error:
                log.exception("event failed", consumer=self._name, event_id=str(event.id))
                if message.metadata.num_delivered >= _MAX_DELIVERIES:
                    await self._bury(message, f"{type(error).__name__}: {error}")
                else:
                    await message.nak(delay=self._retry_delay * message.metadata.num_delivered)
            else:
                CONSUMED.labels(self._name).inc()
                await message.ack()

    async def _bury(self, message: Msg, reason: str) -> None:
        """Keep a message that cannot be handled, and stop its delivery."""
        event_id = (message.headers or {}).get("Nats-Msg-Id") or f"seq-{message.metadata.sequence.stream}"
        async with self._db.platform() as tx:
            await tx.execute(
                """
                INSERT INTO dead_letters (consumer, event_id, subject, payload, reason)
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
                """,
                self._name,
                event_id,
                message.subject,
                message.data,
                reason[:1000],
            )
        DEAD.labels(self._name).inc()
        await message.term()
