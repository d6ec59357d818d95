"""What another process was asked, remembered for a while: shared by the directories of clients' things.

An answer is fresh for 30 s and dropped at once when its owner says that it changed. While the owner is away
a stale one is served for up to ten minutes, logged and without delay. What there is nothing of is remembered
for seconds, so that guessing does not reach the owner.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from prometheus_client import Counter

from chassis.errors import DeadlineExceeded, Unavailable

log = structlog.get_logger()

FRESH_SECONDS = 30.0
_STALE_SECONDS = 600.0
_UNKNOWN_SECONDS = 5.0
_MAX_ENTRIES = 20_000

Value = TypeVar("Value")


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    stored_at: float


class Remembered(Generic[Value]):
    """Answers by name; those who ask for the same thing at the same time share one question."""

    def __init__(self, what: str, lookups: Counter) -> None:
        """Take the word for the log, and a counter with the label `result` (`hit`, `miss`, `stale`)."""
        self._what = what
        self._lookups = lookups
        self._hits = lookups.labels("hit")
        self._entries: OrderedDict[str, _Entry[Value]] = OrderedDict()
        # Apart, so that no number of invented names pushes out what is known.
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Value | None]] = {}
        self._generation = 0

    async def get(self, name: str, ask: Callable[[bool], Awaitable[Value | None]]) -> Value | None:
        """Return what is remembered under a name, or ask; `ask` is told whether to wait for a connection.

        Raises:
            Unavailable: the owner is away and nothing is remembered.
        """
        entry = self._entries.get(name)
        now = time.monotonic()
        if entry is not None and now - entry.stored_at < FRESH_SECONDS:
            self._hits.inc()
            return entry.value
        if now < self._unknown.get(name, 0.0):
            self._hits.inc()
            return None
        self._lookups.labels("miss").inc()
        is_usable = entry is not None and now - entry.stored_at <= _STALE_SECONDS
        try:
            return await self._ask_once(name, ask, waits=not is_usable)
        except (Unavailable, DeadlineExceeded):
            if entry is None or not is_usable:
                raise
            self._lookups.labels("stale").inc()
            log.warning("answer served stale", what=self._what, age_seconds=int(now - entry.stored_at))
            return entry.value

    def holds(self, name: str) -> bool:
        """Whether there was something under a name when it was last asked for; asks nobody."""
        return name in self._entries

    def drop(self, is_meant: Callable[[Value], bool] | None = None) -> None:
        """Forget what is meant, by default everything; what there was nothing of is asked for again."""
        self._generation += 1
        self._unknown.clear()
        if is_meant is None:
            self._entries.clear()
            return
        for name in [name for name, entry in self._entries.items() if is_meant(entry.value)]:
            del self._entries[name]

    async def _ask_once(
        self, name: str, ask: Callable[[bool], Awaitable[Value | None]], *, waits: bool
    ) -> Value | None:
        task = self._asking.get(name)
        if task is None:
            # Without the context of whoever asks first: its deadline is not the others'.
            task = asyncio.create_task(self._ask_and_store(name, ask, waits=waits), context=Context())
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(task)

    async def _ask_and_store(
        self, name: str, ask: Callable[[bool], Awaitable[Value | None]], *, waits: bool
    ) -> Value | None:
        generation = self._generation
        value = await ask(waits)
        # An answer that was asked for before a change may be older than the change: use it, do not keep it.
        if generation == self._generation:
            self._keep(name, value)
        return value

    def _keep(self, name: str, value: Value | None) -> None:
        now = time.monotonic()
        if value is None:
            self._entries.pop(name, None)
            self._unknown[name] = now + _UNKNOWN_SECONDS
            self._unknown.move_to_end(name)
        else:
            self._unknown.pop(name, None)
            self._entries[name] = _Entry(value, now)
            self._entries.move_to_end(name)
        for kept in (self._entries, self._unknown):
            if len(kept) > _MAX_ENTRIES:
                kept.popitem(last=False)
