"""gRPC face of taking events in, for the gateway, which has no outbox of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from chassis.clock import Clock
from chassis.events import Event
from chassis.outbox import Outbox
from chassis.rpc import RpcContext, RpcService
from contracts.gen.internal.audit.v1 import ingest_pb2
from contracts.gen.internal.audit.v1.ingest_pb2_grpc import (
    IngestServiceServicer,
    add_IngestServiceServicer_to_server,
)
from contracts.topology import GATEWAY
from services.audit.errors import NotAnEvent, TooManyEvents
from services.audit.ingest.records import record_of

MAX_EVENTS = 100


class IngestRpc(IngestServiceServicer):
    """Puts the gateway's events into this service's outbox, so that they take the way of all events."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        """Take the outbox."""
        self._outbox = outbox
        self._clock = clock

    async def Record(
        self,
        request: ingest_pb2.RecordRequest,
        _context: RpcContext,
    ) -> ingest_pb2.RecordResponse:
        """Keep up to 100 events; they are durable when this returns, all of them or the call failed."""
        if len(request.events_json) > MAX_EVENTS:
            raise TooManyEvents
        events = [self._decode(text) for text in request.events_json]
        await asyncio.gather(*(self._outbox.append_envelope(event) for event in events))
        return ingest_pb2.RecordResponse()

    def _decode(self, text: str) -> Event:
        try:
            # Whatever the envelope says: the gateway speaks in its own name only.
            event = replace(Event.decode(text), service=GATEWAY)
            record_of(event, self._clock.now())
        except ValueError as error:
            raise NotAnEvent from error
        return event


def ingest_rpc(outbox: Outbox, clock: Clock) -> RpcService:
    """The RPC service, to be mounted in `app.py`."""
    return RpcService(
        "internal.audit.v1.IngestService", IngestRpc(outbox, clock), add_IngestServiceServicer_to_server
    )
