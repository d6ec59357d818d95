"""Every statement on logout deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chassis.database import Tx
from chassis.ids import new_id
from services.federation.backchannel.models import Delivery, EndedLogin

_PER_APP = 4
"""How many deliveries of one app are on their way at a time: one that hangs must not hold up the others'."""


async def queue(tx: Tx, ended: Sequence[EndedLogin], now: datetime) -> None:
    """Queue one delivery for each login and app; what was queued before stays as it is.

    One that was finished before the login ended (it had ended for this app alone, and the app came again) is
    queued anew. The same news twice changes nothing. No pair may be named twice.
    """
    await tx.execute(
        """
        INSERT INTO logout_deliveries AS d (id, client_id, app_id, user_id, session_id, due_at, created_at)
        SELECT id, client_id, app_id, user_id, session_id, $7, $7
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::timestamptz[])
             AS news(id, client_id, app_id, user_id, session_id, ended_at)
        ON CONFLICT (session_id, app_id) DO UPDATE
        SET status = 'queued', attempts = 0, due_at = $7, created_at = $7, finished_at = NULL
        WHERE d.finished_at < (
            SELECT ended_at
            FROM unnest($3::text[], $5::uuid[], $6::timestamptz[]) AS n(app_id, session_id, ended_at)
            WHERE n.app_id = d.app_id AND n.session_id = d.session_id
        )
        """,
        [new_id() for _ in ended],
        [one.client_id for one in ended],
        [one.app_id for one in ended],
        [one.user_id for one in ended],
        [one.session_id for one in ended],
        [one.ended_at for one in ended],
        now,
    )


async def claim_due(tx: Tx, now: datetime, lease_until: datetime, limit: int) -> list[Delivery]:
    """Take deliveries whose time has come: new, to be tried again, or left behind by a process that died."""
    rows = await tx.fetch(
        """
        UPDATE logout_deliveries SET status = 'sending', attempts = attempts + 1, due_at = $2
        WHERE id IN (
            SELECT id FROM logout_deliveries
            WHERE status IN ('queued', 'sending') AND due_at <= $1 AND id IN (
                SELECT id FROM (
                    SELECT d.id, row_number() OVER (PARTITION BY d.app_id ORDER BY d.due_at) + coalesce((
                        SELECT count(*) FROM logout_deliveries AS s
                        WHERE s.app_id = d.app_id AND s.status = 'sending' AND s.due_at > $1
                    ), 0) AS place
                    FROM logout_deliveries AS d
                    WHERE d.status IN ('queued', 'sending') AND d.due_at <= $1
                ) AS due WHERE place <= $4
            )
            ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING id, client_id, app_id, user_id, session_id, attempts, created_at
        """,
        now,
        lease_until,
        limit,
        _PER_APP,
    )
    return [Delivery(**row) for row in rows]


async def finish(tx: Tx, delivery: Delivery, status: str, now: datetime) -> bool:
    """Note that a delivery is over; false when this process lost it to another, or it was noted before."""
    finished = await tx.fetchval(
        """
        UPDATE logout_deliveries SET status = $3, finished_at = $4
        WHERE id = $1 AND status = 'sending' AND attempts = $2 RETURNING true
        """,
        delivery.id,
        delivery.attempts,
        status,
        now,
    )
    return bool(finished)


async def postpone(tx: Tx, delivery: Delivery, due_at: datetime) -> None:
    """Give a delivery back, to be tried again at a time."""
    await tx.execute(
        """
        UPDATE logout_deliveries SET status = 'queued', due_at = $3
        WHERE id = $1 AND status = 'sending' AND attempts = $2
        """,
        delivery.id,
        delivery.attempts,
        due_at,
    )


async def purge(tx: Tx, older_than: datetime) -> None:
    """Forget deliveries that are over since long ago."""
    await tx.execute(
        "DELETE FROM logout_deliveries WHERE created_at < $1 AND status IN ('delivered', 'failed')",
        older_than,
    )
