"""The statement that records a login."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx


async def record(tx: Tx, user_id: UUID, auth_epoch: int, now: datetime) -> bool:
    """Note a login; false for a user who was suspended, or whose proofs became void, since it was proven."""
    recorded = await tx.fetchval(
        """
        UPDATE users SET last_login_at = $3
        WHERE id = $1 AND client_id = current_client() AND status = 'active' AND auth_epoch = $2
        RETURNING true
        """,
        user_id,
        auth_epoch,
        now,
    )
    return bool(recorded)
