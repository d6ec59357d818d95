"""Every statement on changes of addresses."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.identity.email_change.models import TakenBack
from services.identity.users import store as users
from services.identity.users.email import Email
from services.identity.users.models import User


async def insert(tx: Tx, user: User, way_back_hash: bytes, now: datetime, until: datetime) -> None:
    """Note that somebody asked for another address for a user of the current client."""
    await tx.execute(
        """
        INSERT INTO email_changes (way_back_hash, client_id, user_id, old_email, old_email_normalized,
                                   old_email_verified, requested_at, way_back_until)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, $7)
        """,
        way_back_hash,
        user.id,
        user.email,
        user.email_normalized,
        user.email_verified,
        now,
        until,
    )


async def is_kept(tx: Tx, email_normalized: str, user_id: UUID | None, now: datetime) -> bool:
    """Whether an address is kept for a user, another one than this, who may want it back."""
    kept = await tx.fetchval(
        """
        SELECT true FROM email_changes
        WHERE client_id = current_client() AND old_email_normalized = $1 AND changed_at IS NOT NULL
          AND over_at IS NULL AND way_back_until > $3 AND user_id IS DISTINCT FROM $2
        LIMIT 1
        """,
        email_normalized,
        user_id,
        now,
    )
    return bool(kept)


async def change(
    tx: Tx, user: User, email: Email, way_back_hash: bytes, now: datetime, until: datetime
) -> User | None:
    """Give a user the address that was confirmed; None when anything of it changed meanwhile.

    Raises:
        asyncpg.UniqueViolationError: another user has the address.
    """
    row = await tx.fetchrow(
        f"""
        WITH asked AS (
            UPDATE email_changes SET changed_at = $6, way_back_until = $7
            WHERE way_back_hash = $5 AND client_id = current_client() AND changed_at IS NULL
              AND over_at IS NULL
            RETURNING user_id
        )
        UPDATE users AS u
        SET email = $2, email_normalized = $3, email_verified = true, auth_epoch = auth_epoch + 1,
            version = version + 1, updated_at = $6
        FROM asked
        WHERE u.id = $1 AND u.id = asked.user_id AND u.client_id = current_client() AND u.auth_epoch = $4
          AND u.status = 'active'
        RETURNING {users.COLUMNS}
        """,  # noqa: S608 - a constant of the slice that owns the table
        user.id,
        email.address,
        email.normalized,
        user.auth_epoch,
        way_back_hash,
        now,
        until,
    )
    return users.read(row) if row else None


async def find_user(tx: Tx, way_back_hash: bytes, now: datetime) -> User | None:
    """Return the user, of any client, whose change can be taken back."""
    row = await tx.fetchrow(
        f"""
        SELECT {users.COLUMNS}
        FROM email_changes AS c JOIN users AS u ON u.id = c.user_id
        WHERE c.way_back_hash = $1 AND c.over_at IS NULL AND c.way_back_until > $2
        """,  # noqa: S608 - a constant of the slice that owns the table
        way_back_hash,
        now,
    )
    return users.read(row) if row else None


async def end(tx: Tx, way_back_hash: bytes, now: datetime) -> TakenBack | None:
    """End a change, and every later one of its user; of all who try, one gets it."""
    row = await tx.fetchrow(
        """
        WITH ended AS (
            UPDATE email_changes SET over_at = $2
            WHERE way_back_hash = $1 AND client_id = current_client() AND over_at IS NULL
              AND way_back_until > $2
            RETURNING user_id, requested_at, changed_at IS NOT NULL AS was_changed
        ), later AS (
            UPDATE email_changes AS c SET over_at = $2 FROM ended
            WHERE c.user_id = ended.user_id AND c.client_id = current_client() AND c.over_at IS NULL
              AND c.requested_at > ended.requested_at
        )
        SELECT user_id, was_changed FROM ended
        """,
        way_back_hash,
        now,
    )
    return TakenBack(row["user_id"], row["was_changed"]) if row else None


async def restore(tx: Tx, user_id: UUID, way_back_hash: bytes, now: datetime) -> User | None:
    """Give a user the address of before a change; None when it is gone.

    Raises:
        asyncpg.UniqueViolationError: another user has the address now.
    """
    row = await tx.fetchrow(
        f"""
        UPDATE users AS u
        SET email = c.old_email, email_normalized = c.old_email_normalized,
            email_verified = c.old_email_verified, auth_epoch = auth_epoch + 1, version = version + 1,
            updated_at = $3
        FROM email_changes AS c
        WHERE u.id = $1 AND u.client_id = current_client() AND c.way_back_hash = $2 AND c.user_id = u.id
        RETURNING {users.COLUMNS}
        """,  # noqa: S608 - a constant of the slice that owns the table
        user_id,
        way_back_hash,
        now,
    )
    return users.read(row) if row else None


async def purge(tx: Tx, before: datetime) -> None:
    """Forget changes, of all clients, that cannot be taken back since a time."""
    await tx.execute("DELETE FROM email_changes WHERE way_back_until < $1", before)
