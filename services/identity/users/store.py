"""Every statement on users."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.identity.users.models import NewUser, ProfileChange, User, UserId, UserStatus

COLUMNS = """
u.id, u.client_id, u.email, u.email_normalized, u.email_verified, u.display_name, u.role, u.status,
u.mfa_enabled, u.metadata, u.locale, u.phone, u.auth_epoch, u.version, u.created_at, u.updated_at,
u.last_login_at
"""
"""The columns that `read` needs, of `users AS u`; also for joins of other slices."""


async def insert(tx: Tx, user: NewUser) -> User | None:
    """Insert a user of the current client; None when the address is taken, by whichever request was first."""
    row = await tx.fetchrow(
        f"""
        INSERT INTO users AS u
            (id, client_id, email, email_normalized, display_name, metadata, created_at, updated_at)
        SELECT $1, current_client(), $2, $3, $4, $5::jsonb, $6, $6
        WHERE NOT EXISTS (
            -- Kept for whom it may have been taken from, until it cannot be taken back any more.
            SELECT FROM email_changes WHERE client_id = current_client() AND old_email_normalized = $3
            AND changed_at IS NOT NULL AND over_at IS NULL AND way_back_until > $6
        )
        ON CONFLICT (client_id, email_normalized) DO NOTHING
        RETURNING {COLUMNS}
        """,  # noqa: S608 - a constant of this module
        user.id,
        user.email,
        user.email_normalized,
        user.display_name,
        user.metadata_json,
        user.now,
    )
    return read(row) if row else None


async def find(tx: Tx, user_id: UUID) -> User | None:
    """Return a user of the current client."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM users AS u WHERE id = $1 AND client_id = current_client()",  # noqa: S608 - a constant
        user_id,
    )
    return read(row) if row else None


async def is_taken(tx: Tx, email_normalized: str) -> bool:
    """Whether the current client has a user with this address now; `insert` decides."""
    taken = await tx.fetchval(
        "SELECT true FROM users WHERE client_id = current_client() AND email_normalized = $1",
        email_normalized,
    )
    return bool(taken)


async def change_profile(tx: Tx, user_id: UUID, change: ProfileChange, now: datetime) -> User | None:
    """Write the changed fields of an active user; None when there is none."""
    row = await tx.fetchrow(
        f"""
        UPDATE users AS u
        SET display_name = CASE WHEN 'display_name' = ANY($2::text[]) THEN $3 ELSE display_name END,
            metadata = CASE WHEN 'metadata' = ANY($2) THEN $4::jsonb ELSE metadata END,
            locale = CASE WHEN 'locale' = ANY($2) THEN $5 ELSE locale END,
            phone = CASE WHEN 'phone' = ANY($2) THEN $6 ELSE phone END,
            version = version + 1, updated_at = $7
        WHERE id = $1 AND client_id = current_client() AND status = 'active'
        RETURNING {COLUMNS}
        """,  # noqa: S608 - a constant of this module
        user_id,
        sorted(change.fields),
        change.display_name,
        change.metadata_json,
        change.locale,
        change.phone,
        now,
    )
    return read(row) if row else None


async def void_proofs(tx: Tx, user_id: UUID) -> None:
    """Make void what proved a user until now: waiting logins, links, challenges. Sessions end otherwise."""
    await tx.execute(
        "UPDATE users SET auth_epoch = auth_epoch + 1 WHERE id = $1 AND client_id = current_client()", user_id
    )


async def set_mfa_enabled(tx: Tx, user_id: UUID, now: datetime, *, before: bool, after: bool) -> User | None:
    """Note whether a user has set up a second factor; None when it was not `before`, or is suspended."""
    row = await tx.fetchrow(
        f"""
        UPDATE users AS u SET mfa_enabled = $3, version = version + 1, updated_at = $4
        WHERE id = $1 AND client_id = current_client() AND status = 'active' AND mfa_enabled = $2
        RETURNING {COLUMNS}
        """,  # noqa: S608 - a constant of this module
        user_id,
        before,
        after,
        now,
    )
    return read(row) if row else None


async def mark_verified(tx: Tx, user_id: UUID, now: datetime) -> User | None:
    """Note that an active user's address is its own; None when that was known."""
    row = await tx.fetchrow(
        f"""
        UPDATE users AS u SET email_verified = true, version = version + 1, updated_at = $2
        WHERE id = $1 AND client_id = current_client() AND status = 'active' AND NOT email_verified
        RETURNING {COLUMNS}
        """,  # noqa: S608 - a constant of this module
        user_id,
        now,
    )
    return read(row) if row else None


async def take_back(tx: Tx, user_id: UUID, now: datetime) -> User | None:
    """Note that an active user's address is its own, and void its former proofs; None when it was known."""
    row = await tx.fetchrow(
        f"""
        UPDATE users AS u
        SET email_verified = true, mfa_enabled = false, auth_epoch = auth_epoch + 1, version = version + 1,
            updated_at = $2
        WHERE id = $1 AND client_id = current_client() AND status = 'active' AND NOT email_verified
        RETURNING {COLUMNS}
        """,  # noqa: S608 - a constant of this module
        user_id,
        now,
    )
    return read(row) if row else None


async def find_by_email(tx: Tx, email_normalized: str) -> User | None:
    """Return a user of the current client by the normal form of its address."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM users AS u WHERE client_id = current_client() AND email_normalized = $1",  # noqa: S608 - a constant
        email_normalized,
    )
    return read(row) if row else None


async def lock(tx: Tx, user_id: UUID) -> User | None:
    """Return a user of the current client, whom nobody else changes until the transaction ends."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM users AS u WHERE id = $1 AND client_id = current_client() FOR NO KEY UPDATE",  # noqa: S608 - a constant
        user_id,
    )
    return read(row) if row else None


def read(row: asyncpg.Record) -> User:
    """Read a row of `COLUMNS`."""
    return User(
        id=UserId(row["id"]),
        client_id=row["client_id"],
        email=row["email"],
        email_normalized=row["email_normalized"],
        email_verified=row["email_verified"],
        display_name=row["display_name"],
        role=row["role"],
        status=UserStatus(row["status"]),
        mfa_enabled=row["mfa_enabled"],
        metadata_json=row["metadata"],
        locale=row["locale"],
        phone=row["phone"],
        auth_epoch=row["auth_epoch"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_login_at=row["last_login_at"],
    )
