"""The statements on used assertions."""

from __future__ import annotations

from datetime import datetime

from chassis.database import Tx


async def use_assertion(tx: Tx, jti_hash: bytes, expires_at: datetime) -> bool:
    """Use up an assertion of the current client; false when it was used before, by whichever request."""
    used = await tx.fetchval(
        """
        INSERT INTO used_assertions (jti_hash, client_id, expires_at) VALUES ($1, current_client(), $2)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        jti_hash,
        expires_at,
    )
    return bool(used)


async def delete_expired(tx: Tx, now: datetime) -> None:
    """Forget assertions that nobody would accept any more."""
    await tx.execute("DELETE FROM used_assertions WHERE expires_at < $1", now)
