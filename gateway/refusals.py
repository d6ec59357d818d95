"""The gateway's own events, on their way to the audit log.

The gateway has no outbox, so refused credentials go there as well as they can: recording one never delays or
fails a request, and a flood of refusals becomes a sample of it and a count, never a flood of the audit log.
What was allowed is recorded before it is done.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import Final

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.errors import AppError, Kind, Unavailable
from chassis.events import DomainEvent, envelope
from chassis.rpc import Channel
from contracts.gen.internal.audit.v1 import ingest_pb2
from contracts.gen.internal.audit.v1.ingest_pb2_grpc import IngestServiceStub

log = structlog.get_logger()

_MAX_WAITING: Final = 1000
_MAX_BATCH: Final = 100
_PAUSE_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 2.0
_PER_MINUTE: Final = 120
_MAX_SOURCES: Final = 10_000
_PASSING: Final = frozenset({Kind.UNAVAILABLE, Kind.TIMEOUT})

NOT_RECORDED = Counter("gateway_refusals_not_recorded_total", "Refusals left out of the audit log.", ["why"])


class AuditQueue:
    """Hands events to the audit service in batches, in the background."""

    def __init__(self, channel: Channel, clock: Clock) -> None:
        """Take the way to the audit service."""
        self._stub = IngestServiceStub(channel.for_stubs)
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._news = asyncio.Event()
        self._seen: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()

    def record(self, event: DomainEvent, caller: CallerContext) -> None:
        """Queue an event; of one address and type the first 120 a minute."""
        if not self._is_within_sample(event.type, caller.ip):
            NOT_RECORDED.labels("sampled").inc()
            return
        if len(self._waiting) >= _MAX_WAITING:
            NOT_RECORDED.labels("queue_full").inc()
            return
        self._waiting.append(self._encode(event, caller))
        self._news.set()

    async def record_now(self, event: DomainEvent, caller: CallerContext) -> None:
        """Record an event for good, whatever waits in the queue.

        Raises:
            Unavailable: it cannot be recorded now.
        """
        try:
            await self._stub.Record(ingest_pb2.RecordRequest(events_json=[self._encode(event, caller)]))
        except AppError as error:
            log.warning("event not recorded", type=event.type, code=error.code)
            raise Unavailable from error

    def _encode(self, event: DomainEvent, caller: CallerContext) -> str:
        return envelope(event, service="gateway", now=self._clock.now(), caller=caller).encode().decode()

    async def run(self) -> None:
        """Send what is queued, for ever; while the audit service is away it waits.

        A batch that the service refuses for what it holds is dropped: it would be refused for ever.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch = [self._waiting[index] for index in range(min(_MAX_BATCH, len(self._waiting)))]
                try:
                    await self._stub.Record(ingest_pb2.RecordRequest(events_json=batch))
                except AppError as error:
                    if error.kind in _PASSING:
                        log.warning("refusals wait for the audit service", code=error.code)
                        await asyncio.sleep(_RETRY_SECONDS)
                        continue
                    log.exception("refusals were not accepted", code=error.code, count=len(batch))
                    NOT_RECORDED.labels("refused").inc(len(batch))
                for _ in batch:
                    self._waiting.popleft()
                await asyncio.sleep(_PAUSE_SECONDS)

    def _is_within_sample(self, kind: str, ip: str) -> bool:
        minute = int(time.monotonic() / 60)
        seen, count = self._seen.get((kind, ip), (minute, 0))
        count = count + 1 if seen == minute else 1
        self._seen[kind, ip] = (minute, count)
        self._seen.move_to_end((kind, ip))
        if len(self._seen) > _MAX_SOURCES:
            self._seen.popitem(last=False)
        return count <= _PER_MINUTE
