"""Every statement of verification; checkpoints are read by their own slice's store."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Tx
from services.audit.ingest.models import Link
from services.audit.ingest.store import head_of
from services.audit.query.store import COLUMNS, link_of
from services.audit.verification.models import Snapshot


async def snapshot(tx: Tx, client_id: UUID) -> Snapshot:
    """Return a chain's ends as they were at one moment."""
    row = await tx.fetchrow(
        """
        SELECT h.*,
               coalesce((SELECT max(position) FROM audit_events WHERE client_id = $1), 0) AS last_row,
               coalesce((SELECT max(position) FROM checkpoints WHERE client_id = $1), 0) AS last_checkpoint
        FROM (SELECT 1) AS one LEFT JOIN chain_heads AS h ON h.client_id = $1
        """,
        client_id,
    )
    if row is None:
        raise LookupError("a statement of one row returned none")
    head = head_of(row) if row["client_id"] is not None else None
    return Snapshot(head, row["last_row"], row["last_checkpoint"])


async def links(tx: Tx, client_id: UUID, first: int, last: int, limit: int) -> list[Link]:
    """Return the rows that claim positions from `first` to `last`, in order, also two that claim one."""
    rows = await tx.fetch(
        f"""
        SELECT {COLUMNS} FROM audit_events WHERE client_id = $1 AND position BETWEEN $2 AND $3
        ORDER BY position, occurred_at, event_id LIMIT $4
        """,  # noqa: S608 - literals only
        client_id,
        first,
        last,
        limit,
    )
    return [link_of(row) for row in rows]
