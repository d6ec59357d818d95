"""What is revoked, in memory: for validation without PostgreSQL, and for the streams to gateways.

Each process reads the table every quarter of a second, and at once when another tells of news. Rows are
dated when they are written and seen when their transaction is committed, so an older one may appear after a
newer one: each reading goes back ten seconds before the last one, by the database's clock, and drops what it
knows. A transaction that waits for locks may take longer: one reading in five seconds goes back a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from authservice_validator import RevocationKind, RevocationSet
from prometheus_client import Gauge, Histogram

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import RateLimited, Unavailable
from services.token.revocations import store
from services.token.revocations.models import NumberedRevocation, Revocation
from services.token.revocations.service import INVALIDATE
from services.token.signing.models import ISSUER_ID
from services.token.status_lists.bits import StatusBits

log = structlog.get_logger()

_POLL_SECONDS = 0.25
_LOOK_BACK = timedelta(seconds=10)
_LOOK_FAR_BACK = timedelta(seconds=60)
_LOOK_FAR_SECONDS = 5.0
_SIGN_OF_LIFE_SECONDS = 0.8
_READ_ROWS = 10_000
_FORGET_SECONDS = 60.0
_MAX_QUEUED = 100_000
_FULL_SECONDS = 5

MAX_STREAMS = 2000
"""Streams of all tenants together in one process; those to gateways are not counted."""

MAX_STREAMS_OF_CLIENT = 20
"""Streams one tenant may have in one process.

A gateway passes all of them over one connection: a tenant that filled it would keep everybody waiting.
"""

IN_FORCE = Gauge("revocations_in_force", "Revocations in memory.", multiprocess_mode="max")
LAG = Histogram(
    "revocation_lag_seconds",
    "From the writing of a revocation to its being in force in this process.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


class _Subscriber:
    """One stream: what it has not sent yet."""

    __slots__ = ("client_id", "news", "queued")

    def __init__(self, client_id: UUID | None) -> None:
        self.client_id = client_id
        self.queued: list[Revocation] = []
        self.news = asyncio.Event()

    def give(self, revocations: list[Revocation]) -> None:
        mine = [revocation for revocation in revocations if self._concerns(revocation)]
        if mine:
            if len(self.queued) <= _MAX_QUEUED:  # beyond it the stream is lost; it need not grow any further
                self.queued += mine
            self.news.set()

    def _concerns(self, revocation: Revocation) -> bool:
        if self.client_id is None or revocation.client_id == self.client_id:
            return True
        # The issuer's keys are in every client's set.
        return revocation.kind is RevocationKind.KEY and revocation.client_id == ISSUER_ID


class RevocationFeed:
    """Follows the table of revocations; `revoked` is asked by validation, `watch` is what streams send."""

    def __init__(self, db: Database, bus: Bus, clock: Clock, bits: StatusBits) -> None:
        """Take where revocations are stored, the bus that tells of new ones, and the bits they set."""
        self._db = db
        self._bits = bits
        self._clock = clock
        self.revoked = RevocationSet()
        self._in_force: dict[int, Revocation] = {}
        self._since: datetime | None = None
        self._loaded = asyncio.Event()
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._subscribers: set[_Subscriber] = set()
        self._streams: Counter[UUID] = Counter()
        self._forget_at = 0.0
        self._look_far_at = 0.0
        self._on_key: list[Callable[[UUID], None]] = []
        bus.on(INVALIDATE, self._on_news)

    @property
    def is_loaded(self) -> bool:
        """Whether everything in force is known."""
        return self._loaded.is_set()

    def on_key(self, listener: Callable[[UUID], None]) -> None:
        """Call `listener` with the owner of each key that is revoked from now on, also without NATS."""
        self._on_key.append(listener)

    async def run(self) -> None:
        """Follow for ever; a job of the service."""
        while True:
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self._read()
                self._loaded.set()
            except Unavailable:
                log.warning("revocations cannot be read")
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            self._forget_expired()
            await _wait(self._wake, _POLL_SECONDS)

    async def watch(self, client_id: UUID | None) -> AsyncGenerator[tuple[list[Revocation], bool], None]:
        """Yield what is in force, in parts, the last of them marked; then news, and at times an empty list.

        `client_id` narrows to one tenant and the issuer's keys.

        Raises:
            RateLimited: the tenant has as many streams as it may.
            Unavailable: the process has as many; or the stream was read too slowly, and must be begun anew.
        """
        if client_id is not None and self._streams[client_id] >= MAX_STREAMS_OF_CLIENT:
            raise RateLimited("Too many streams at once.", retry_after=_FULL_SECONDS)
        if client_id is not None and self._streams.total() >= MAX_STREAMS:
            raise Unavailable("Too many streams at once.", retry_after=_FULL_SECONDS)
        subscriber = _Subscriber(client_id)
        self._enter(client_id)
        try:
            async for part, is_last in self._follow(subscriber):
                yield part, is_last
        finally:
            self._subscribers.discard(subscriber)
            self._leave(client_id)

    async def _follow(self, subscriber: _Subscriber) -> AsyncIterator[tuple[list[Revocation], bool]]:
        while not self._loaded.is_set():
            yield [], False
            await _wait(self._loaded, _SIGN_OF_LIFE_SECONDS)
        await self._look_now()
        subscriber.give(list(self._in_force.values()))
        self._subscribers.add(subscriber)
        in_force, subscriber.queued = subscriber.queued, []
        for start in range(0, max(1, len(in_force)), _READ_ROWS):
            part = in_force[start : start + _READ_ROWS]
            yield part, start + _READ_ROWS >= len(in_force)
        while True:
            if not subscriber.queued:
                subscriber.news.clear()
                await _wait(subscriber.news, _SIGN_OF_LIFE_SECONDS)
            if len(subscriber.queued) > _MAX_QUEUED:
                raise Unavailable
            part, subscriber.queued = subscriber.queued[:_READ_ROWS], subscriber.queued[_READ_ROWS:]
            yield part, False

    def _enter(self, client_id: UUID | None) -> None:
        if client_id is not None:
            self._streams[client_id] += 1

    def _leave(self, client_id: UUID | None) -> None:
        if client_id is not None:
            self._streams[client_id] -= 1
            if not self._streams[client_id]:
                del self._streams[client_id]

    async def _look_now(self) -> None:
        """Wait for a reading that begins from now on, so that what was revoked before is known."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake.set()
        try:
            async with asyncio.timeout(_SIGN_OF_LIFE_SECONDS):
                await future
        except TimeoutError:
            log.warning("a stream of revocations begins with what is in memory")

    async def _on_news(self, _text: str) -> None:
        self._wake.set()

    async def _read(self) -> None:
        """Take in what is new since the last reading."""
        after: int | None = 0
        looks_far = time.monotonic() >= self._look_far_at
        look_back = _LOOK_FAR_BACK if looks_far else _LOOK_BACK
        async with self._db.platform() as tx:
            read_at = await store.database_time(tx)
            since = self._since - look_back if self._since else None
            while after is not None:
                rows = await store.read(tx, since, after, self._clock.now(), _READ_ROWS)
                self._take([row for row in rows if row.number not in self._in_force])
                after = rows[-1].number if len(rows) == _READ_ROWS else None
        self._since = read_at
        if looks_far:
            self._look_far_at = time.monotonic() + _LOOK_FAR_SECONDS

    def _take(self, rows: list[NumberedRevocation]) -> None:
        now = self._clock.now()
        for row in rows:
            revocation = row.revocation
            self._in_force[row.number] = revocation
            self.revoked.add(
                revocation.kind,
                revocation.ref,
                revocation.not_after,
                revocation.expires_at,
                client_id=str(revocation.client_id),
            )
            self._bits.kill(row.status_indices, revocation.expires_at)
            # One with places was told before it had any.
            if revocation.kind is RevocationKind.KEY and not row.status_indices:
                for listener in self._on_key:
                    listener(revocation.client_id)
            if self._loaded.is_set():
                LAG.observe(max(0.0, (now - row.created_at).total_seconds()))
        if rows:
            fresh = [row.revocation for row in rows]
            for subscriber in self._subscribers:
                subscriber.give(fresh)
            IN_FORCE.set(len(self._in_force))

    def _forget_expired(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + _FORGET_SECONDS
        now = self._clock.now()
        self.revoked.forget_expired(now.timestamp())
        self._bits.forget_expired(now.timestamp())
        for number in [n for n, revocation in self._in_force.items() if revocation.expires_at <= now]:
            del self._in_force[number]
        IN_FORCE.set(len(self._in_force))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, not by `wait_for`, which in Python 3.11 may swallow a cancellation."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
