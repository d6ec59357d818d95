"""Coalescing: many requests' small work done in one round trip, each waiting for its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Collects items while the previous batch is under way, then does them together.

    Used for group commit (many appended rows, one COMMIT) and for coalesced reads. An item alone is done at
    once, and the busier it gets the larger the batches. `work` gets the items in order of arrival and returns
    one result for each; its error reaches every caller of that batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch: int = 500,
        pause: float = 0.0,
    ) -> None:
        """Take the work; `max_batch` bounds a round, and `pause` seconds lie between two while items wait."""
        self._work = work
        self._max_batch = max_batch
        self._pause = pause
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """Do the item with its batch and return its result."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None or self._running.done():
            # Without the context of the request that happens to start it: its deadline is not the others'.
            self._running = asyncio.create_task(self._drain(), context=Context())
        return await future

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
            try:
                results = await self._work([item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
            if self._waiting and self._pause:
                await asyncio.sleep(self._pause)
