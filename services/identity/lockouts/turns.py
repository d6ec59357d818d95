"""Turns: how many attempts at one address from one source may be under way at once in a process.

An attempt counts from its reservation on, before it is known whether the password is right. Were all let in
at once, right passwords too would lock the address while none of them has been wrong. So they take turns:
each process has fewer under way than lock the address, and the next begins when one is settled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass

from chassis.errors import RateLimited

_MAX_WAITING = 256
_RETRY_SECONDS = 1


@dataclass(slots=True)
class _Line:
    free: asyncio.Semaphore
    present: int = 0


class Turns:
    """Lets `width` attempts of a kind be under way, and others wait; remembers only kinds that have any."""

    def __init__(self, width: int) -> None:
        """Take how many."""
        self._width = width
        self._lines: dict[Hashable, _Line] = {}

    @contextlib.asynccontextmanager
    async def take(self, kind: Hashable) -> AsyncIterator[None]:
        """Wait for a turn, and hold it.

        Raises:
            RateLimited: too many wait already.
        """
        line = self._lines.get(kind)
        if line is None:
            line = self._lines[kind] = _Line(asyncio.Semaphore(self._width))
        if line.present >= self._width + _MAX_WAITING:
            raise RateLimited(retry_after=_RETRY_SECONDS)
        line.present += 1
        try:
            async with line.free:
                yield
        finally:
            line.present -= 1
            if not line.present:
                del self._lines[kind]
