"""Every statement on requests for mail."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.identity.mail_requests.models import RequestKind


async def insert(tx: Tx, request_id: UUID, kind: RequestKind, sealed: bytes, now: datetime) -> None:
    """Note a request at the current client."""
    await tx.execute(
        """
        INSERT INTO mail_requests (id, client_id, kind, sealed, due_at, created_at)
        VALUES ($1, current_client(), $2, $3, $4, $4)
        """,
        request_id,
        kind,
        sealed,
        now,
    )


async def claim(tx: Tx, now: datetime, next_at: datetime, limit: int) -> list[asyncpg.Record]:
    """Take requests that are due, and make them due again in case this process dies with them."""
    return await tx.fetch(
        """
        UPDATE mail_requests SET due_at = $2
        WHERE id IN (
            SELECT id FROM mail_requests WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING id, client_id, kind, sealed, created_at
        """,
        now,
        next_at,
        limit,
    )


async def take(tx: Tx, request_id: UUID) -> bool:
    """Remove a request of the current client; false when another process did."""
    taken = await tx.fetchval(
        "DELETE FROM mail_requests WHERE id = $1 AND client_id = current_client() RETURNING true", request_id
    )
    return bool(taken)
