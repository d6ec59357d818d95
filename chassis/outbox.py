"""The outbox: events stored with what made them true, relayed to JetStream in order, never lost.

`emit` writes into the caller's transaction. `Outbox.append` is for an event without a row of its own: many
requests' events share one commit, and each request waits for it. The relay publishes with the event id as
`Nats-Msg-Id`, so a crash between publishing and deleting makes a duplicate that the stream drops.

Order: events of one ordering key (the tenant) share a shard, one process at a time relays a shard (its row is
locked, others skip it), and within a shard rows go out by id.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import structlog
from nats.errors import Error as NatsError
from prometheus_client import Counter, Gauge

from chassis.batching import Batcher
from chassis.bus import Bus
from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import Unavailable
from chassis.events import Actor, DomainEvent, Event, envelope
from chassis.tables import OUTBOX_SHARDS

log = structlog.get_logger()

_POLL_SECONDS = 0.5
_GATHER_SECONDS = 0.05
_BACKOFF_SECONDS = 1.0
_RELAY_BATCH = 500

RELAYED = Counter("outbox_relayed_total", "Events published to the stream.")
PENDING = Gauge("outbox_pending", "Events not published yet, as the relay last saw them.")


class Outbox:
    """Emits events of one service and relays them."""

    def __init__(self, db: Database, bus: Bus, clock: Clock, *, service: str) -> None:
        """Take what it writes to and publishes on."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._service = service
        self._wake = asyncio.Event()
        self._appends: Batcher[Event, None] = Batcher(self._append_all)

    async def emit(
        self,
        tx: Tx,
        event: DomainEvent,
        caller: CallerContext | None,
        *,
        actor: Actor | None = None,
        client_id: UUID | None = None,
    ) -> None:
        """Record the event in the caller's transaction; see `events.envelope` for `actor` and `client_id`."""
        await self.emit_all(tx, [self.wrap(event, caller, actor=actor, client_id=client_id)])

    async def emit_all(self, tx: Tx, wrapped: Sequence[Event]) -> None:
        """Record several events in the caller's transaction, by one statement."""
        if not wrapped:
            return
        shards, ids, subjects, payloads = zip(*map(_row, wrapped), strict=True)
        await tx.execute(
            """
            INSERT INTO outbox (shard, event_id, subject, payload)
            SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::bytea[])
            """,
            shards,
            ids,
            subjects,
            payloads,
        )
        tx.after_commit(self._wake.set)

    async def append(
        self,
        event: DomainEvent,
        caller: CallerContext | None,
        *,
        actor: Actor | None = None,
        client_id: UUID | None = None,
    ) -> None:
        """Record an event that belongs to no other row; durable on return, at a share of one commit."""
        await self.append_envelope(self.wrap(event, caller, actor=actor, client_id=client_id))

    async def append_envelope(self, event: Event) -> None:
        """Record an event that is wrapped already, as one that another process handed over."""
        await self._appends.submit(event)

    async def relay(self) -> None:
        """Publish what is in the outbox, for ever; a job of the service.

        What comes within the gathering time after a round goes out in one: a round costs four statements, a
        commit and a publication, however few its events are. An event after a rest goes out at once.
        """
        while True:
            # Before the round: what commits during it may not be among its rows.
            self._wake.clear()
            try:
                await self._bus.check()
                await self._bus.ensure_stream()
                while await self._relay_once():
                    pass
            except (Unavailable, NatsError, TimeoutError, OSError) as error:
                log.warning("relay waits", error=type(error).__name__)
                await asyncio.sleep(_BACKOFF_SECONDS)
                continue
            await asyncio.sleep(_GATHER_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()

    def wrap(
        self,
        event: DomainEvent,
        caller: CallerContext | None,
        *,
        actor: Actor | None = None,
        client_id: UUID | None = None,
    ) -> Event:
        """Put an event of this service, happening now, into its envelope."""
        now = self._clock.now()
        return envelope(
            event, service=self._service, now=now, caller=caller, actor=actor, client_id=client_id
        )

    async def _append_all(self, events: Sequence[Event]) -> Sequence[None]:
        async with self._db.append() as tx:
            await self.emit_all(tx, events)
        return [None] * len(events)

    async def _relay_once(self) -> bool:
        """Publish one batch of the shards nobody else is relaying; true when there may be more."""
        async with self._db.platform() as tx:
            shards = await tx.fetch(
                """
                SELECT shard FROM outbox_shards AS s
                WHERE EXISTS (SELECT FROM outbox WHERE outbox.shard = s.shard)
                FOR UPDATE SKIP LOCKED
                """
            )
            rows = await tx.fetch(
                """
                SELECT id, shard, event_id, subject, payload FROM outbox
                WHERE shard = ANY($1) ORDER BY id LIMIT $2
                """,
                [row["shard"] for row in shards],
                _RELAY_BATCH,
            )
            PENDING.set(len(rows))
            if not rows:
                return False
            # Inside the transaction, because its lock is what keeps others from relaying these shards.
            published, failure = await self._publish(rows)
            await tx.execute("DELETE FROM outbox WHERE id = ANY($1)", published)
        RELAYED.inc(len(published))
        PENDING.set(len(rows) - len(published))
        if failure is not None:
            raise failure
        return len(rows) == _RELAY_BATCH

    async def _publish(self, rows: Sequence[asyncpg.Record]) -> tuple[list[int], BaseException | None]:
        """Publish rows and return the ids of those that are done, and a failure when there was one.

        They are sent in order on one connection; only the waiting for acknowledgements is concurrent. What
        follows a failure in its shard stays: sent again, the stream knows it by its id.
        """
        sending = [
            self._bus.stream.publish(
                row["subject"], row["payload"], headers={"Nats-Msg-Id": str(row["event_id"])}
            )
            for row in rows
        ]
        results = await asyncio.gather(*sending, return_exceptions=True)
        published: list[int] = []
        failures: dict[int, BaseException] = {}
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, BaseException):
                failures.setdefault(row["shard"], result)
            elif row["shard"] not in failures:
                published.append(row["id"])
        return published, next(iter(failures.values()), None)


def _row(event: Event) -> tuple[int, UUID, str, bytes]:
    key = event.client_id.bytes if event.client_id else b""
    return zlib.crc32(key) % OUTBOX_SHARDS, event.id, event.subject, event.encode()
