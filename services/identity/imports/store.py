"""Every statement of imports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.identity.imports.models import ImportedUser


async def insert(tx: Tx, users: Sequence[ImportedUser], now: datetime) -> set[UUID]:
    """Insert the users of the current client whose addresses are free, with their passwords; their ids.

    Of several with one address the first line wins.
    """
    rows = await tx.fetch(
        """
        WITH wanted AS (
            SELECT * FROM unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::bool[], $6::text[],
                                 $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
                                 $12::timestamptz[], $13::text[])
            AS w(line, id, email, email_normalized, email_verified, display_name, role, status, metadata,
                 locale, phone, created_at, hash)
        ), created AS (
            INSERT INTO users (id, client_id, email, email_normalized, email_verified, display_name, role,
                               status, metadata, locale, phone, created_at, updated_at)
            SELECT id, current_client(), email, email_normalized, email_verified, display_name, role,
                   status, metadata::jsonb, locale, phone, created_at, $14
            FROM wanted
            -- In one order, so that two imports of the same users never wait for each other.
            ORDER BY email_normalized, line
            ON CONFLICT (client_id, email_normalized) DO NOTHING
            RETURNING id
        ), hashed AS (
            INSERT INTO passwords (user_id, client_id, hash, changed_at)
            SELECT w.id, current_client(), w.hash, $14
            FROM wanted AS w JOIN created AS c ON c.id = w.id WHERE w.hash IS NOT NULL
        )
        SELECT id FROM created
        """,
        [user.line for user in users],
        [user.id for user in users],
        [user.email for user in users],
        [user.email_normalized for user in users],
        [user.email_verified for user in users],
        [user.display_name for user in users],
        [user.role for user in users],
        [user.status for user in users],
        [user.metadata_json for user in users],
        [user.locale for user in users],
        [user.phone for user in users],
        [user.created_at for user in users],
        [user.password_hash for user in users],
        now,
    )
    return {row["id"] for row in rows}


async def ids_of(tx: Tx, emails: Sequence[str]) -> dict[str, UUID]:
    """Return the ids of the current client's users by address, in normal form."""
    rows = await tx.fetch(
        """
        SELECT email_normalized, id FROM users
        WHERE client_id = current_client() AND email_normalized = ANY($1)
        """,
        list(emails),
    )
    return {row["email_normalized"]: row["id"] for row in rows}
