"""Every statement on status lists."""

from __future__ import annotations

from chassis.database import Tx


async def last_index(tx: Tx) -> int:
    """Return the last place that was given out."""
    last: int = await tx.fetchval("SELECT last_value FROM status_indices")
    return last
