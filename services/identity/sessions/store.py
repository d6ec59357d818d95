"""Every statement on duties."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.context import Access
from chassis.database import Tx
from services.identity.sessions.models import Duty, DutyKind


async def insert(tx: Tx, duty: Duty, due_at: datetime) -> None:
    """Record a duty of the current client, for the job from `due_at` on."""
    await tx.execute(
        """
        INSERT INTO session_duties
            (id, client_id, user_id, kind, except_session_id, reason, request_id, due_at, access, admin_id)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        duty.id,
        duty.user_id,
        duty.kind,
        duty.except_session_id,
        duty.reason,
        duty.request_id,
        due_at,
        duty.access,
        duty.admin_id,
    )


async def delete(tx: Tx, duty_id: UUID) -> None:
    """Remove a duty that is done."""
    await tx.execute("DELETE FROM session_duties WHERE id = $1", duty_id)


async def claim(tx: Tx, now: datetime, next_at: datetime, limit: int) -> list[Duty]:
    """Take duties that are due, and make them due again at `next_at` in case this process dies with them."""
    rows = await tx.fetch(
        """
        UPDATE session_duties SET attempts = attempts + 1, due_at = $2
        WHERE id IN (
            SELECT id FROM session_duties WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING id, client_id, user_id, kind, except_session_id, reason, request_id, attempts, access,
                  admin_id
        """,
        now,
        next_at,
        limit,
    )
    return [
        Duty(
            id=row["id"],
            client_id=row["client_id"],
            user_id=row["user_id"],
            kind=DutyKind(row["kind"]),
            reason=row["reason"],
            request_id=row["request_id"],
            access=Access(row["access"]),
            admin_id=row["admin_id"],
            except_session_id=row["except_session_id"],
            attempts=row["attempts"],
        )
        for row in rows
    ]


async def postpone(tx: Tx, duty_id: UUID, due_at: datetime) -> None:
    """Make a duty due at another time."""
    await tx.execute("UPDATE session_duties SET due_at = $2 WHERE id = $1", duty_id, due_at)
