"""Every statement on exchange codes."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.token.exchange.models import Kept, Unclaimed


async def insert(
    tx: Tx, code_hash: bytes, session_id: UUID | None, sealed: bytes, now: datetime, expires_at: datetime
) -> None:
    """Keep the outcome behind a code of the current client."""
    await tx.execute(
        """
        INSERT INTO exchange_codes (code_hash, client_id, session_id, sealed, created_at, expires_at)
        VALUES ($1, current_client(), $2, $3, $4, $5)
        """,
        code_hash,
        session_id,
        sealed,
        now,
        expires_at,
    )


async def take(tx: Tx, code_hash: bytes, now: datetime) -> Kept | None:
    """Return what a code of the current client stands for and remove it: of all who ask, one gets it."""
    row = await tx.fetchrow(
        """
        DELETE FROM exchange_codes
        WHERE code_hash = $1 AND client_id = current_client() AND expires_at > $2
        RETURNING sealed, session_id, created_at
        """,
        code_hash,
        now,
    )
    return Kept(**row) if row else None


async def purge(tx: Tx, now: datetime, limit: int) -> list[Unclaimed]:
    """Remove codes that are too old, of all clients, and return the sessions that nobody got."""
    rows = await tx.fetch(
        """
        DELETE FROM exchange_codes WHERE code_hash IN (
            SELECT code_hash FROM exchange_codes WHERE expires_at <= $1
            ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        RETURNING client_id, session_id
        """,
        now,
        limit,
    )
    return [Unclaimed(**row) for row in rows if row["session_id"] is not None]
