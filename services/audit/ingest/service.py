"""Storing batches of events, each once, as the next links of their chains."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from nats.errors import Error as NatsError
from prometheus_client import Counter, Gauge, Histogram

from chassis.bus import STREAM, Bus
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.events import Event
from services.audit.ingest import store
from services.audit.ingest.chain import Chains
from services.audit.ingest.models import Head, Link, Record
from services.audit.ingest.records import record_of

log = structlog.get_logger()

CONSUMER = "audit"
SUBJECT = "events.>"
_PARTITION_SECONDS = 3600.0
_PARTITION_RETRY_SECONDS = 5.0
_MONTHS_AHEAD = 2
_MONTH = timedelta(days=31)
_BACKLOG_SECONDS = 5.0

LAG = Histogram(
    "audit_ingest_lag_seconds",
    "From an event's happening until it can be queried.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300),
)
BATCH = Histogram(
    "audit_batch_rows", "Rows stored in one transaction.", buckets=(1, 3, 10, 30, 100, 300, 1000, 3000)
)
STORED = Counter("audit_rows_total", "Rows appended to the chains.")
DUPLICATES = Counter("audit_duplicates_total", "Events that came again and were dropped.")
BROKEN = Counter("audit_heads_broken_total", "Chains whose head was found changed by somebody else.")
KEYLESS = Counter(
    "audit_key_missing_total", "Batches refused because a chain's master key is not configured here."
)
BACKLOG = Gauge("audit_backlog_events", "Events in the stream that are not stored yet.")


class Ingest:
    """Stores what the consumer brings, also in several processes: a chain grows under its head's lock."""

    def __init__(self, db: Database, chains: Chains, clock: Clock, bus: Bus) -> None:
        """Take where to store, and the stream to watch."""
        self._db = db
        self._chains = chains
        self._clock = clock
        self._bus = bus
        self._months: set[tuple[int, int]] = set()

    async def store(self, events: Sequence[Event]) -> None:
        """Store a batch in one transaction; events that are stored already are dropped.

        Raises:
            ValueError: one of them cannot be stored.
            DatabaseUnavailable: PostgreSQL cannot serve now; nothing was stored.
            ChainKeyMissing: the head of one of their chains needs a master key that is not configured;
                nothing was stored.
        """
        now = self._clock.now()
        records = list({event.id: record_of(event, now) for event in events}.values())
        await self._ensure_partitions({record.occurred_at for record in records})
        links = await self._append(records, now)
        while links is None:
            await self._begin_chains({record.client_id for record in records})
            links = await self._append(records, now)
        self._count(len(events), links)

    async def keep_partitions(self) -> None:
        """See that this and the coming months have their partitions; a job of the service."""
        while True:
            now = self._clock.now()
            try:
                await self._ensure_partitions({now + ahead * _MONTH for ahead in range(_MONTHS_AHEAD + 1)})
                await asyncio.sleep(_PARTITION_SECONDS)
            except Unavailable:
                await asyncio.sleep(_PARTITION_RETRY_SECONDS)

    async def watch_backlog(self) -> None:
        """Keep the gauge of what waits in the stream; a job of the service."""
        while True:
            try:
                await self._bus.check()
                info = await self._bus.stream.consumer_info(STREAM, CONSUMER)
                BACKLOG.set((info.num_pending or 0) + (info.num_ack_pending or 0))
            except (Unavailable, NatsError, TimeoutError, OSError) as error:
                log.debug("backlog is not known", error=type(error).__name__)
            await asyncio.sleep(_BACKLOG_SECONDS)

    async def _append(self, records: Sequence[Record], now: datetime) -> list[Link] | None:
        """Append what is new; None, without any effect, when a chain has no head yet.

        The hashing is done inside the transaction, because a link's place is only known under the lock. It
        takes microseconds a row.
        """
        clients = {record.client_id for record in records}
        async with self._db.platform() as tx:
            heads = await store.lock_heads(tx, clients)
            if len(heads) < len(clients):
                return None
            stored = await store.known(tx, records)
            links, grown = self._link(heads, [one for one in records if one.event_id not in stored])
            if links:
                await store.add_links(tx, links)
                await store.grow_heads(tx, grown, now)
        return links

    def _link(self, heads: Mapping[UUID, Head], records: Sequence[Record]) -> tuple[list[Link], list[Head]]:
        by_client: dict[UUID, list[Record]] = {}
        for record in records:
            by_client.setdefault(record.client_id, []).append(record)
        links: list[Link] = []
        grown: list[Head] = []
        for client_id, fresh in by_client.items():
            if not self._chains.can_tell(heads[client_id]):
                KEYLESS.inc()
                log.error(
                    "audit chain needs a master key that is not configured: name it in MASTER_KEY_PREVIOUS",
                    client_id=str(client_id),
                    key_id=heads[client_id].key_id.hex(),
                )
            added, head = self._chains.extend(heads[client_id], fresh)
            if head.broken_position is not None and heads[client_id].broken_position is None:
                BROKEN.inc()
                log.error("audit chain is broken", client_id=str(client_id), position=head.broken_position)
            links += added
            grown.append(head)
        return links, grown

    async def _begin_chains(self, client_ids: Collection[UUID]) -> None:
        """Add the heads that are missing, in a transaction of its own: locks are only ever taken in order."""
        ordered = sorted(client_ids)
        async with self._db.platform() as tx:
            # Rows without a head: somebody deleted it. The chain goes on behind them, unproven for ever.
            orphans = await store.last_links(tx, ordered)
            heads = [self._chains.begin(client_id) for client_id in ordered if client_id not in orphans]
            for client_id, (position, digest) in orphans.items():
                lost = Head(client_id, position, digest, 0, b"", b"", broken_position=position + 1)
                heads.append(self._chains.seal(lost))
            await store.add_heads(tx, heads)

    async def _ensure_partitions(self, moments: Collection[datetime]) -> None:
        for moment in moments:
            utc = moment.astimezone(UTC)
            month = utc.year, utc.month
            if month in self._months:
                continue
            async with self._db.platform() as tx:
                await store.ensure_partition(tx, moment)
            self._months.add(month)

    def _count(self, received: int, links: Sequence[Link]) -> None:
        committed = self._clock.now()
        for link in links:
            LAG.observe(max(0.0, (committed - link.record.occurred_at).total_seconds()))
        BATCH.observe(len(links))
        STORED.inc(len(links))
        DUPLICATES.inc(received - len(links))
