"""Every statement on issuer sessions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Tx


async def insert(
    tx: Tx, handle_hash: bytes, *, user_id: UUID, session_id: UUID, now: datetime, expires_at: datetime
) -> None:
    """Keep a browser's login at the current client."""
    await tx.execute(
        """
        INSERT INTO issuer_sessions (handle_hash, client_id, user_id, session_id, created_at, expires_at)
        VALUES ($1, current_client(), $2, $3, $4, $5)
        """,
        handle_hash,
        user_id,
        session_id,
        now,
        expires_at,
    )


async def find(tx: Tx, handle_hash: bytes, now: datetime) -> UUID | None:
    """Return the session of a browser's login at the current client; None when it has none, or is over."""
    found: UUID | None = await tx.fetchval(
        """
        SELECT session_id FROM issuer_sessions
        WHERE handle_hash = $1 AND client_id = current_client() AND expires_at > $2
        """,
        handle_hash,
        now,
    )
    return found


async def find_all(tx: Tx, handle_hashes: Sequence[bytes], now: datetime) -> list[tuple[UUID, UUID]]:
    """Return tenant and session of a browser's logins that are not over, of all tenants."""
    rows = await tx.fetch(
        """
        SELECT client_id, session_id FROM issuer_sessions
        WHERE handle_hash = ANY($1) AND expires_at > $2 ORDER BY created_at DESC
        """,
        handle_hashes,
        now,
    )
    return [(row["client_id"], row["session_id"]) for row in rows]


async def forget(tx: Tx, handle_hash: bytes) -> None:
    """Forget a browser's login at the current client."""
    await tx.execute(
        "DELETE FROM issuer_sessions WHERE handle_hash = $1 AND client_id = current_client()", handle_hash
    )


async def forget_session(tx: Tx, session_id: UUID) -> None:
    """Forget the browser of a session that ended."""
    await tx.execute(
        "DELETE FROM issuer_sessions WHERE session_id = $1 AND client_id = current_client()", session_id
    )


async def forget_users(tx: Tx, user_ids: Sequence[UUID]) -> None:
    """Forget the browsers of users, of whichever client."""
    await tx.execute("DELETE FROM issuer_sessions WHERE user_id = ANY($1)", list(user_ids))


async def purge(tx: Tx, now: datetime) -> None:
    """Forget what is over, of all clients."""
    await tx.execute("DELETE FROM issuer_sessions WHERE expires_at <= $1", now)
