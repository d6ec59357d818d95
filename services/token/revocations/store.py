"""Every statement of the revocations slice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from authservice_validator import RevocationKind

from chassis.database import Tx
from services.token.revocations.models import NumberedRevocation, Revocation

_LOOK_THROUGH_MILLISECONDS = "2000"


async def insert(tx: Tx, revocations: Sequence[Revocation]) -> None:
    """Store revocations of the tenant, those of sessions with their places in the status lists."""
    await tx.execute(
        """
        INSERT INTO revocations (client_id, created_at, kind, ref, not_after, expires_at, status_indices)
        SELECT current_client(), clock_timestamp(), r.*,
               CASE r.kind WHEN 'session' THEN (
                   SELECT ARRAY[s.status_index] FROM sessions AS s
                   WHERE s.id = r.ref::uuid AND s.client_id = current_client() AND s.status_index IS NOT NULL
               ) END
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
             AS r(kind, ref, not_after, expires_at)
        """,
        [str(revocation.kind) for revocation in revocations],
        [revocation.ref for revocation in revocations],
        [revocation.not_after for revocation in revocations],
        [revocation.expires_at for revocation in revocations],
    )


async def insert_wide(tx: Tx, revocation: Revocation, since: datetime) -> bool:
    """Store a revocation of many sessions' tokens that leaves the sessions alive.

    Dead in the status lists are the places of those which were opened by the revocation's last second and
    have had a token since `since`, however late the last one: the elder ones of that place die. They are not
    locked: `rotate` gives a living session another place once its process has heard of
    this. A client may have so many sessions that they cannot be looked through in time: then the revocation
    is stored without their places, and this is False.
    """
    try:
        async with tx.savepoint():
            await tx.execute("SELECT set_config('statement_timeout', $1, true)", _LOOK_THROUGH_MILLISECONDS)
            await _insert_with_places(tx, revocation, since)
            await tx.execute("SET LOCAL statement_timeout TO DEFAULT")
    except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError):
        await tx.execute(
            """
            INSERT INTO revocations (client_id, created_at, kind, ref, not_after, expires_at)
            VALUES (current_client(), clock_timestamp(), $1, $2, $3, $4)
            """,
            str(revocation.kind),
            revocation.ref,
            revocation.not_after,
            revocation.expires_at,
        )
        return False
    return True


async def _insert_with_places(tx: Tx, revocation: Revocation, since: datetime) -> None:
    await tx.execute(
        """
        INSERT INTO revocations (client_id, created_at, kind, ref, not_after, expires_at, status_indices)
        SELECT current_client(), clock_timestamp(), $1, $2, $3, $4, array_agg(status_index) FROM sessions
        WHERE client_id = current_client() AND ended_at IS NULL AND status_index IS NOT NULL
          AND date_trunc('second', created_at) <= $3 AND last_used_at > $5
        """,
        str(revocation.kind),
        revocation.ref,
        revocation.not_after,
        revocation.expires_at,
        since,
    )


async def insert_token(tx: Tx, revocation: Revocation, session_id: UUID | None) -> None:
    """Store the revocation of one token, whose session goes on in another place of the status lists."""
    await tx.execute(
        """
        WITH old AS (
            SELECT id, status_index FROM sessions
            WHERE id = $5 AND client_id = current_client() AND status_index IS NOT NULL FOR UPDATE
        ), moved AS (
            UPDATE sessions AS s SET status_index = nextval('status_indices') FROM old WHERE s.id = old.id
        )
        INSERT INTO revocations (client_id, created_at, kind, ref, not_after, expires_at, status_indices)
        VALUES (current_client(), clock_timestamp(), $1, $2, $3, $4, (SELECT ARRAY[status_index] FROM old))
        """,
        str(revocation.kind),
        revocation.ref,
        revocation.not_after,
        revocation.expires_at,
        session_id,
    )


async def database_time(tx: Tx) -> datetime:
    """Return when the transaction began, by the clock that dates the rows."""
    now: datetime = await tx.fetchval("SELECT now()")
    return now


async def read(
    tx: Tx, since: datetime | None, after: int, now: datetime, limit: int
) -> list[NumberedRevocation]:
    """Return revocations in force written after `since`, with a number above `after`, lowest first."""
    rows = await tx.fetch(
        """
        SELECT id, client_id, kind, ref, not_after, expires_at, created_at, status_indices FROM revocations
        WHERE created_at > coalesce($1, '-infinity'::timestamptz) AND id > $2 AND expires_at > $3
        ORDER BY id LIMIT $4
        """,
        since,
        after,
        now,
        limit,
    )
    return [
        NumberedRevocation(
            row["id"],
            Revocation(
                row["client_id"],
                RevocationKind(row["kind"]),
                row["ref"],
                row["not_after"],
                row["expires_at"],
            ),
            row["created_at"],
            tuple(row["status_indices"] or ()),
        )
        for row in rows
    ]


async def delete_expired(tx: Tx, now: datetime) -> int:
    """Forget revocations whose tokens have all expired; how many."""
    tag = await tx.execute("DELETE FROM revocations WHERE expires_at <= $1", now)
    return int(tag.split()[-1])
