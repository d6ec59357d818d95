"""Every statement on the counters of attempts."""

from __future__ import annotations

from datetime import datetime

from chassis.database import Tx
from services.identity.lockouts.models import Counted, LockoutRules


async def count(
    tx: Tx, email_hash: bytes, source: str, threshold: int, rules: LockoutRules, now: datetime
) -> Counted | datetime:
    """Count one attempt, or return until when no attempt is allowed; atomic over all processes.

    The attempt that reaches the threshold sets the lock itself, so that however many run at once, no more
    than the threshold are evaluated. A window begins anew when it is over or a lock has ended; a lock doubles
    the next one until nothing was tried for a window and the longest lock.
    """
    row = await tx.fetchrow(
        """
        INSERT INTO login_attempts AS a
            (client_id, email_hash, source, attempts, locks, window_started_at, locked_until, updated_at)
        VALUES (current_client(), $1, $2, 1, ($3::int = 1)::int, $4::timestamptz,
                CASE WHEN $3 = 1 THEN $4 + $6::interval END, $4)
        ON CONFLICT (client_id, email_hash, source) DO UPDATE SET
            (attempts, locks, window_started_at, locked_until, updated_at) = (
                SELECT n,
                       CASE WHEN n >= $3 THEN earlier_locks + 1 ELSE earlier_locks END,
                       CASE WHEN is_new THEN $4 ELSE a.window_started_at END,
                       CASE WHEN n >= $3
                            THEN $4 + least($6::interval * (2 ^ least(earlier_locks, 20)), $7::interval) END,
                       $4
                FROM (SELECT a.locked_until IS NOT NULL OR a.window_started_at + $5::interval <= $4 AS is_new,
                             CASE WHEN a.updated_at + $5::interval + $7::interval <= $4 THEN 0
                                  ELSE a.locks END AS earlier_locks) AS past,
                     LATERAL (SELECT CASE WHEN is_new THEN 1 ELSE a.attempts + 1 END AS n) AS present)
        WHERE a.locked_until IS NULL OR a.locked_until <= $4
        RETURNING attempts, locked_until
        """,
        email_hash,
        source,
        threshold,
        now,
        rules.window,
        rules.shortest,
        rules.longest,
    )
    if row is not None:
        return Counted(source, row["attempts"], row["locked_until"])
    until: datetime = await tx.fetchval(
        """
        SELECT locked_until FROM login_attempts
        WHERE client_id = current_client() AND email_hash = $1 AND source = $2
        """,
        email_hash,
        source,
    )
    return until


async def take_back(tx: Tx, email_hash: bytes, counted: Counted) -> None:
    """Undo one counted attempt, and the lock it would have meant."""
    await tx.execute(
        """
        UPDATE login_attempts
        SET attempts = greatest(attempts - 1, 0),
            locks = CASE WHEN locked_until = $3 THEN locks - 1 ELSE locks END,
            locked_until = CASE WHEN locked_until = $3 THEN NULL ELSE locked_until END
        WHERE client_id = current_client() AND email_hash = $1 AND source = $2
        """,
        email_hash,
        counted.source,
        counted.locked_until,
    )


async def clear(tx: Tx, email_hash: bytes, source: str) -> None:
    """Forget all attempts from one source."""
    await tx.execute(
        "DELETE FROM login_attempts WHERE client_id = current_client() AND email_hash = $1 AND source = $2",
        email_hash,
        source,
    )


async def clear_all(tx: Tx, email_hash: bytes) -> bool:
    """Forget the attempts from every source; false when there were none."""
    cleared = await tx.fetch(
        "DELETE FROM login_attempts WHERE client_id = current_client() AND email_hash = $1 RETURNING source",
        email_hash,
    )
    return bool(cleared)


async def locked_until(
    tx: Tx, email_hash: bytes, now: datetime, source: str | None = None
) -> datetime | None:
    """Return the end of the last lock of an address, from whichever source or one; None when none holds."""
    until: datetime | None = await tx.fetchval(
        """
        SELECT max(locked_until) FROM login_attempts
        WHERE client_id = current_client() AND email_hash = $1 AND locked_until > $2
          AND ($3::text IS NULL OR source = $3)
        """,
        email_hash,
        now,
        source,
    )
    return until


async def purge(tx: Tx, older_than: datetime) -> None:
    """Delete counters that nobody has touched, and whose locks have ended, since."""
    await tx.execute(
        """
        DELETE FROM login_attempts
        WHERE updated_at < $1 AND (locked_until IS NULL OR locked_until < $1)
        """,
        older_than,
    )
