"""Every statement of the revocations slice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from authservice_validator import RevocationKind

from chassis.database import Tx
from services.token.revocations.models import NumberedRevocation, Revocation


async def insert(tx: Tx, revocations: Sequence[Revocation]) -> None:
    """Store revocations of the tenant."""
    await tx.execute(
        """
        INSERT INTO revocations (client_id, kind, ref, not_after, expires_at)
        SELECT current_client(), * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
        """,
        [str(revocation.kind) for revocation in revocations],
        [revocation.ref for revocation in revocations],
        [revocation.not_after for revocation in revocations],
        [revocation.expires_at for revocation in revocations],
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
        SELECT id, client_id, kind, ref, not_after, expires_at, created_at FROM revocations
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
        )
        for row in rows
    ]


async def delete_expired(tx: Tx, now: datetime) -> int:
    """Forget revocations whose tokens have all expired; how many."""
    tag = await tx.execute("DELETE FROM revocations WHERE expires_at <= $1", now)
    return int(tag.split()[-1])
