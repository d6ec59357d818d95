"""Every statement on TOTP secrets."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.identity.totp.models import PendingSecret


async def put_pending(tx: Tx, user_id: UUID, sealed: bytes, now: datetime, *, beside_factor: bool) -> None:
    """Keep a secret that is being set up instead of an earlier one; the active one stays."""
    await tx.execute(
        """
        INSERT INTO totp_secrets (user_id, client_id, pending, pending_since, pending_beside_factor)
        VALUES ($1, current_client(), $2, $3, $4)
        ON CONFLICT (user_id) DO UPDATE SET pending = $2, pending_since = $3, pending_beside_factor = $4
        """,
        user_id,
        sealed,
        now,
        beside_factor,
    )


async def find_pending(tx: Tx, user_id: UUID, since: datetime) -> PendingSecret | None:
    """Return the secret that a user has been setting up since then at the earliest."""
    row = await tx.fetchrow(
        """
        SELECT pending, pending_beside_factor FROM totp_secrets
        WHERE user_id = $1 AND client_id = current_client() AND pending IS NOT NULL AND pending_since >= $2
        """,
        user_id,
        since,
    )
    return PendingSecret(row["pending"], row["pending_beside_factor"]) if row else None


async def activate(tx: Tx, user_id: UUID, pending: PendingSecret, step: int, now: datetime) -> bool:
    """Make a pending secret the active one, its code of `step` used; false when it no longer pends."""
    activated = await tx.fetchval(
        """
        UPDATE totp_secrets
        SET active = pending, last_used_step = $3, enabled_at = $4, pending = NULL, pending_since = NULL
        WHERE user_id = $1 AND client_id = current_client() AND pending = $2
        RETURNING true
        """,
        user_id,
        pending.sealed,
        step,
        now,
    )
    return bool(activated)


async def find_active(tx: Tx, user_id: UUID) -> bytes | None:
    """Return the active secret of a user, sealed."""
    found: bytes | None = await tx.fetchval(
        "SELECT active FROM totp_secrets WHERE user_id = $1 AND client_id = current_client()", user_id
    )
    return found


async def use(tx: Tx, user_id: UUID, active: bytes, step: int) -> bool:
    """Use up all codes of a secret up to `step`; false when that one is used: of all, one is first."""
    used = await tx.fetchval(
        """
        UPDATE totp_secrets SET last_used_step = $3
        WHERE user_id = $1 AND client_id = current_client() AND active = $2 AND last_used_step < $3
        RETURNING true
        """,
        user_id,
        active,
        step,
    )
    return bool(used)


async def delete(tx: Tx, user_id: UUID) -> None:
    """Remove a user's secrets."""
    await tx.execute("DELETE FROM totp_secrets WHERE user_id = $1 AND client_id = current_client()", user_id)
