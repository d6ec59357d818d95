"""Every statement on the end of accounts, and those that only an export needs."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.identity.account.models import PastLogin


async def delete(tx: Tx, user_id: UUID, email_hash: bytes, now: datetime) -> None:
    """Remove a locked user of the current client and all that hangs on it.

    Its id stays taken, for ever; its address is free.
    """
    await tx.execute(
        """
        WITH gone AS (
            DELETE FROM users WHERE id = $1 AND client_id = current_client() RETURNING id
        ), marks AS (
            DELETE FROM risk_marks WHERE user_id = $1 AND client_id = current_client()
        )
        INSERT INTO deleted_users (user_id, client_id, deleted_at, email_hash)
        SELECT id, current_client(), $2, $3 FROM gone
        """,
        user_id,
        now,
        email_hash,
    )


async def proofs_since(tx: Tx, user_id: UUID) -> tuple[datetime | None, datetime | None]:
    """Return since when a user has the password, and the authenticator app."""
    row = await tx.fetchrow(
        """
        SELECT (SELECT changed_at FROM passwords WHERE user_id = $1 AND client_id = current_client())
                   AS password,
               (SELECT enabled_at FROM totp_secrets
                WHERE user_id = $1 AND client_id = current_client() AND active IS NOT NULL) AS totp
        """,
        user_id,
    )
    return (row["password"], row["totp"]) if row else (None, None)


async def logins(tx: Tx, user_id: UUID) -> list[PastLogin]:
    """Return the logins of the history, the newest first."""
    rows = await tx.fetch(
        """
        SELECT at, method, network, user_agent, country, risk_level, signals FROM login_history
        WHERE user_id = $1 AND client_id = current_client() ORDER BY at DESC
        """,
        user_id,
    )
    return [PastLogin(**{**row, "signals": tuple(row["signals"])}) for row in rows]
