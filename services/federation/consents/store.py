"""Every statement on consents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.federation.consents.models import Asked, Consent

_COLUMNS = "id, user_id, app_id, app_name, scopes, resources, granted_at, updated_at"


async def covers(tx: Tx, user_id: UUID, asked: Asked) -> bool:
    """Whether a user has agreed to all that an app asks for."""
    return bool(
        await tx.fetchval(
            """
            SELECT scopes @> $3 AND resources @> $4 FROM consents
            WHERE client_id = current_client() AND user_id = $1 AND app_id = $2
            """,
            user_id,
            asked.app_id,
            asked.scopes,
            asked.resources,
        )
    )


async def grant(tx: Tx, consent_id: UUID, user_id: UUID, asked: Asked, now: datetime) -> UUID:
    """Add what a user agrees to now to what it has agreed to before; the id of its consent at the app."""
    found: UUID = await tx.fetchval(
        """
        INSERT INTO consents AS c (id, client_id, user_id, app_id, app_name, scopes, resources,
                                   granted_at, updated_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, $7, $7)
        ON CONFLICT (client_id, user_id, app_id) DO UPDATE SET
            app_name = excluded.app_name,
            scopes = ARRAY(SELECT DISTINCT s FROM unnest(c.scopes || excluded.scopes) AS s ORDER BY s),
            resources = ARRAY(
                SELECT DISTINCT r FROM unnest(c.resources || excluded.resources) AS r ORDER BY r
            ),
            updated_at = excluded.updated_at
        RETURNING id
        """,
        consent_id,
        user_id,
        asked.app_id,
        asked.app_name,
        sorted(asked.scopes),
        sorted(asked.resources),
        now,
    )
    return found


async def granted_at(tx: Tx, user_id: UUID, app_id: str) -> datetime | None:
    """Return since when a user's consent at an app stands; None without one."""
    since: datetime | None = await tx.fetchval(
        "SELECT granted_at FROM consents WHERE client_id = current_client() AND user_id = $1 AND app_id = $2",
        user_id,
        app_id,
    )
    return since


async def of_user(tx: Tx, user_id: UUID, *, before: UUID | None, limit: int) -> list[Consent]:
    """Return a user's consents, the newest first, older than `before`."""
    rows = await tx.fetch(
        f"""
        SELECT {_COLUMNS} FROM consents
        WHERE client_id = current_client() AND user_id = $1 AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,  # noqa: S608 - a constant of this module
        user_id,
        before,
        limit,
    )
    return [_read(row) for row in rows]


async def withdraw(tx: Tx, user_id: UUID, consent_id: UUID) -> Consent | None:
    """Remove a user's consent and return what it was."""
    row = await tx.fetchrow(
        f"""
        DELETE FROM consents WHERE client_id = current_client() AND user_id = $1 AND id = $2
        RETURNING {_COLUMNS}
        """,  # noqa: S608 - a constant of this module
        user_id,
        consent_id,
    )
    return _read(row) if row else None


async def delete_of_users(tx: Tx, user_ids: Sequence[UUID]) -> None:
    """Remove all consents of users, of whichever client."""
    await tx.execute("DELETE FROM consents WHERE user_id = ANY($1)", list(user_ids))


async def delete_of_app(tx: Tx, app_id: str, limit: int) -> int:
    """Remove up to `limit` consents at an app of the current client, and return how many there were."""
    removed: int = await tx.fetchval(
        """
        WITH removed AS (
            DELETE FROM consents WHERE id IN (
                SELECT id FROM consents WHERE client_id = current_client() AND app_id = $1
                ORDER BY id LIMIT $2 FOR UPDATE
            )
            RETURNING 1
        )
        SELECT count(*) FROM removed
        """,
        app_id,
        limit,
    )
    return removed


def _read(row: asyncpg.Record) -> Consent:
    return Consent(**{**dict(row), "scopes": tuple(row["scopes"]), "resources": tuple(row["resources"])})
