"""Every statement on what risk remembers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from chassis.geo import Place
from services.identity.lockouts.models import ANYWHERE
from services.identity.risk.models import Background, PastLogin

REUSE = "refresh_token_reuse"


async def background(
    tx: Tx, user_id: UUID, email_hash: bytes, *, failures_since: datetime, marks_since: datetime, logins: int
) -> Background:
    """Return what is known of a user, in one statement: every login pays for it."""
    row = await tx.fetchrow(
        """
        SELECT
            (SELECT json_agg(h) FROM (
                SELECT at, network, user_agent, country, latitude, longitude FROM login_history
                WHERE user_id = $1 AND client_id = current_client()
                ORDER BY at DESC LIMIT $6) AS h) AS logins,
            (SELECT attempts FROM login_attempts
             WHERE client_id = current_client() AND email_hash = $2 AND source = $3
               AND window_started_at > $4) AS failures,
            (SELECT count(*) FROM risk_marks
             WHERE user_id = $1 AND client_id = current_client() AND kind = $7 AND at > $5) AS reuses
        """,
        user_id,
        email_hash,
        ANYWHERE,
        failures_since,
        marks_since,
        logins,
        REUSE,
    )
    if row is None:
        return Background()
    past = [
        PastLogin(
            at=datetime.fromisoformat(login["at"]),
            network=login["network"],
            user_agent=login["user_agent"],
            place=Place(login["country"], None, login["latitude"], login["longitude"]),
        )
        for login in json.loads(row["logins"] or "[]")
    ]
    return Background(tuple(past), row["failures"] or 0, row["reuses"])


async def mark(tx: Tx, marks: Sequence[tuple[UUID, UUID, UUID, datetime]]) -> None:
    """Note reuses of refresh tokens as (event, client, user, time); what was noted before stays as it is."""
    await tx.executemany(
        """
        INSERT INTO risk_marks (event_id, client_id, user_id, kind, at) VALUES ($1, $2, $3, $5, $4)
        ON CONFLICT (event_id) DO NOTHING
        """,
        [(*found, REUSE) for found in marks],
    )


async def purge(tx: Tx, *, marks_before: datetime, history_before: datetime) -> None:
    """Forget marks and logins of long ago, of all clients."""
    await tx.execute("DELETE FROM risk_marks WHERE at < $1", marks_before)
    await tx.execute("DELETE FROM login_history WHERE at < $1", history_before)
