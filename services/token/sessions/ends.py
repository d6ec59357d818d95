"""The statements that end sessions, and with them the grants that go by them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.token.sessions.models import EndedSession


async def end_session(
    tx: Tx, session_id: UUID, reason: str, now: datetime, *, user_id: UUID | None = None
) -> list[EndedSession]:
    """End one live session (of this user, when given), and the grants that end with it.

    The session comes first; the list is empty when there is none, or another was faster.
    """
    row = await tx.fetchrow(
        """
        UPDATE sessions SET ended_at = $2, end_reason = $3
        WHERE id = $1 AND client_id = current_client() AND ended_at IS NULL AND expires_at > $2
          AND ($4::uuid IS NULL OR user_id = $4)
        RETURNING id, user_id, app_id, parent_id
        """,
        session_id,
        now,
        reason,
        user_id,
    )
    if row is None:
        return []
    if row["app_id"] is not None:
        return [EndedSession(**row)]
    ended = await _end_grants(tx, session_id, reason, now)
    outliving = await _apps_of(tx, session_id, now)
    return [EndedSession(**row, kept_app_ids=outliving), *ended]


async def _apps_of(tx: Tx, parent_id: UUID, now: datetime) -> tuple[str, ...]:
    """Return the apps whose grants go on though the session that they were made with has ended."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT app_id FROM sessions
        WHERE parent_id = $1 AND client_id = current_client() AND ended_at IS NULL AND expires_at > $2
        ORDER BY app_id
        """,
        parent_id,
        now,
    )
    return tuple(row["app_id"] for row in rows)


async def _end_grants(tx: Tx, parent_id: UUID, reason: str, now: datetime) -> list[EndedSession]:
    """End the grants of a session that has ended, but those that were allowed to outlive it.

    A statement of its own: a grant that was being opened while the session ended is seen only now.
    """
    rows = await tx.fetch(
        """
        UPDATE sessions SET ended_at = $2, end_reason = $3
        WHERE parent_id = $1 AND client_id = current_client() AND ended_at IS NULL AND expires_at > $2
          AND NOT 'offline_access' = ANY(string_to_array(scope, ' '))
        RETURNING id, user_id, app_id, parent_id
        """,
        parent_id,
        now,
        reason,
    )
    return [EndedSession(**row) for row in rows]


async def end_sessions(
    tx: Tx, user_id: UUID, reason: str, now: datetime, *, kept: UUID | None = None
) -> list[EndedSession]:
    """End all live sessions and grants of a user, but the session that is kept; its codes are void."""
    ended: list[EndedSession] = []
    if kept is not None:
        await tx.execute(
            """
            DELETE FROM authorization_codes
            WHERE client_id = current_client() AND parent_id = $1 AND session_id IS NULL
            """,
            kept,
        )
        # Those that were approved in another login find it over.
        await tx.execute(
            """
            UPDATE device_codes SET status = 'refused'
            WHERE client_id = current_client() AND parent_id = $1 AND status = 'approved'
            """,
            kept,
        )
    # Twice: a grant that was being opened while its session ended is seen only after that.
    for _ in range(2):
        rows = await tx.fetch(
            """
            WITH doomed AS (
                -- In one order, so that two of these never wait for each other.
                SELECT id FROM sessions
                WHERE client_id = current_client() AND user_id = $1 AND ended_at IS NULL AND expires_at > $2
                  AND id IS DISTINCT FROM $4
                ORDER BY id FOR UPDATE
            )
            UPDATE sessions AS s SET ended_at = $2, end_reason = $3 FROM doomed WHERE s.id = doomed.id
            RETURNING s.id, s.user_id, s.app_id, s.parent_id
            """,
            user_id,
            now,
            reason,
            kept,
        )
        ended += [EndedSession(**row) for row in rows]
        if not rows:
            break
    return ended


async def end_grants(
    tx: Tx,
    user_id: UUID,
    app_id: str,
    reason: str,
    now: datetime,
    *,
    granted_until: datetime | None = None,
) -> list[EndedSession]:
    """End what a user granted to an app, and void the codes, devices' too, that nobody has redeemed yet.

    With a time only what was granted until then; a device's code counts by when the device asked.
    """
    await tx.execute(
        """
        DELETE FROM authorization_codes
        WHERE client_id = current_client() AND user_id = $1 AND app_id = $2 AND session_id IS NULL
          AND ($3::timestamptz IS NULL OR created_at <= $3)
        """,
        user_id,
        app_id,
        granted_until,
    )
    await tx.execute(
        """
        UPDATE device_codes SET status = 'refused'
        WHERE client_id = current_client() AND user_id = $1 AND app_id = $2 AND status = 'approved'
          AND ($3::timestamptz IS NULL OR created_at <= $3)
        """,
        user_id,
        app_id,
        granted_until,
    )
    rows = await tx.fetch(
        """
        WITH doomed AS (
            SELECT id FROM sessions
            WHERE client_id = current_client() AND user_id = $1 AND app_id = $2 AND ended_at IS NULL
              AND expires_at > $4 AND ($5::timestamptz IS NULL OR created_at <= $5)
            ORDER BY id FOR UPDATE
        )
        UPDATE sessions AS s SET ended_at = $4, end_reason = $3 FROM doomed WHERE s.id = doomed.id
        RETURNING s.id, s.user_id, s.app_id, s.parent_id
        """,
        user_id,
        app_id,
        reason,
        now,
        granted_until,
    )
    return [EndedSession(**row) for row in rows]
