"""Every statement of the revocations slice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from authservice_validator import RevocationKind

from chassis.database import Tx
from services.token.revocations.models import NumberedRevocation, Revocation, Sweep, SweptSessions


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


async def insert_wide(tx: Tx, revocation: Revocation, since: datetime) -> None:
    """Store a revocation of many sessions' tokens that leaves the sessions alive, and the sweep it needs.

    The sweep is of sessions that have had a token since `since`, and of the places given out until now.
    """
    await tx.execute(
        """
        WITH revoked AS (
            INSERT INTO revocations (client_id, created_at, kind, ref, not_after, expires_at)
            VALUES (current_client(), clock_timestamp(), $1, $2, $3, $4)
        )
        INSERT INTO status_sweeps (client_id, kind, ref, not_after, expires_at, since, last_index)
        VALUES (current_client(), $1, $2, $3, $4, $5, nextval('status_indices'))
        """,
        str(revocation.kind),
        revocation.ref,
        revocation.not_after,
        revocation.expires_at,
        since,
    )


async def lock_sweep(tx: Tx, after: int) -> Sweep | None:
    """Lock the oldest sweep with a number above `after` that no other process is at; None without one."""
    row = await tx.fetchrow(
        """
        SELECT id, client_id, kind, ref, not_after, expires_at, since, last_index, after_user_id, after_id,
               is_incomplete
        FROM status_sweeps WHERE id > $1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        after,
    )
    if row is None:
        return None
    revocation = Revocation(
        row["client_id"], RevocationKind(row["kind"]), row["ref"], row["not_after"], row["expires_at"]
    )
    return Sweep(
        row["id"],
        revocation,
        row["since"],
        row["last_index"],
        (row["after_user_id"], row["after_id"]),
        row["is_incomplete"],
    )


async def move_sessions(tx: Tx, sweep: Sweep, limit: int) -> SweptSessions:
    """Look through the next `limit` sessions; those that the sweep is of leave their places for new ones.

    It waits for no lock, so that nobody ever waits for two: a session that is locked is passed over.
    """
    rows = await tx.fetch(
        """
        WITH looked AS MATERIALIZED (
            SELECT user_id, id, ended_at IS NULL AND status_index <= $4 AND last_used_at > $5
                   AND date_trunc('second', created_at) <= $6 AS is_named
            FROM sessions WHERE client_id = $1 AND (user_id, id) > ($2, $3)
            ORDER BY user_id, id LIMIT $7
        ), old AS MATERIALIZED (
            SELECT id, status_index FROM sessions
            WHERE id IN (SELECT id FROM looked WHERE is_named) AND ended_at IS NULL AND status_index <= $4
            FOR NO KEY UPDATE SKIP LOCKED
        ), moved AS (
            UPDATE sessions AS s SET status_index = nextval('status_indices') FROM old WHERE s.id = old.id
        )
        SELECT looked.user_id, looked.id, is_named, status_index FROM looked LEFT JOIN old USING (id)
        ORDER BY user_id, id
        """,
        sweep.revocation.client_id,
        *sweep.after,
        sweep.last_index,
        sweep.since,
        sweep.revocation.not_after,
        limit,
    )
    return SweptSessions(
        places=[row["status_index"] for row in rows if row["status_index"] is not None],
        passed_over=any(row["is_named"] and row["status_index"] is None for row in rows),
        last=(rows[-1]["user_id"], rows[-1]["id"]) if len(rows) == limit else None,
    )


async def insert_places(tx: Tx, revocation: Revocation, places: Sequence[int], expires_at: datetime) -> None:
    """Say that these places are dead by a revocation that is known already."""
    await tx.execute(
        """
        INSERT INTO revocations (client_id, created_at, kind, ref, not_after, expires_at, status_indices)
        VALUES ($1, clock_timestamp(), $2, $3, $4, $5, $6)
        """,
        revocation.client_id,
        str(revocation.kind),
        revocation.ref,
        revocation.not_after,
        expires_at,
        places,
    )


async def put_sweep(tx: Tx, number: int, after: tuple[UUID, UUID], *, is_incomplete: bool) -> None:
    """Store how far a sweep has come."""
    await tx.execute(
        "UPDATE status_sweeps SET after_user_id = $2, after_id = $3, is_incomplete = $4 WHERE id = $1",
        number,
        *after,
        is_incomplete,
    )


async def delete_sweep(tx: Tx, number: int) -> None:
    """Forget a sweep."""
    await tx.execute("DELETE FROM status_sweeps WHERE id = $1", number)


async def pending_sweeps(tx: Tx) -> tuple[int, float]:
    """Return how many sweeps there are, and the age of the oldest in seconds."""
    row = await tx.fetchrow(
        "SELECT count(*) AS count, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS age "
        "FROM status_sweeps"
    )
    return (row["count"], row["age"]) if row is not None else (0, 0.0)


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
