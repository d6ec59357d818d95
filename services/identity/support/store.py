"""Every statement of support."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.identity.support.models import UserChange
from services.identity.users import store as users
from services.identity.users.models import User, UserStatus


async def page(
    tx: Tx,
    client_id: UUID,
    *,
    user_id: UUID | None,
    email: str | None,
    name: str | None,
    status: UserStatus | None,
    before: UUID | None,
    limit: int,
) -> list[User]:
    """Return users of a client, the newest first, older than `before`.

    With any of them, those with this id, an address that begins with `email`, or a name that begins with
    `name` in any case.
    """
    # Ranges of bytes and not LIKE: a prepared statement has no pattern to derive them from.
    rows = await tx.fetch(
        f"""
        SELECT {users.COLUMNS} FROM users AS u
        WHERE u.client_id = $1
          AND ($2::text IS NULL
               OR u.id = $4
               OR (u.email_normalized ~>=~ $3 AND u.email_normalized ~<~ ($3 || chr(1114111)))
               OR (lower(u.display_name) ~>=~ lower($2)
                   AND lower(u.display_name) ~<~ (lower($2) || chr(1114111))))
          AND ($5::text IS NULL OR u.status = $5)
          AND ($6::uuid IS NULL OR u.id < $6)
        ORDER BY u.id DESC LIMIT $7
        """,  # noqa: S608 - a constant of the slice that owns the table
        client_id,
        name,
        email,
        user_id,
        status,
        before,
        limit,
    )
    return [users.read(row) for row in rows]


async def change(tx: Tx, user_id: UUID, change: UserChange, now: datetime) -> User:
    """Write the changed fields of a locked user; a suspension also voids what proved the user before."""
    row = await tx.fetchrow(
        f"""
        UPDATE users AS u
        SET auth_epoch = auth_epoch + ('status' = ANY($2::text[]) AND $3 = 'suspended')::int,
            status = CASE WHEN 'status' = ANY($2) THEN $3 ELSE status END,
            email_verified = CASE WHEN 'email_verified' = ANY($2) THEN $4 ELSE email_verified END,
            role = CASE WHEN 'role' = ANY($2) THEN $5 ELSE role END,
            display_name = CASE WHEN 'display_name' = ANY($2) THEN $6 ELSE display_name END,
            metadata = CASE WHEN 'metadata' = ANY($2) THEN $7::jsonb ELSE metadata END,
            locale = CASE WHEN 'locale' = ANY($2) THEN $8 ELSE locale END,
            phone = CASE WHEN 'phone' = ANY($2) THEN $9 ELSE phone END,
            version = version + 1, updated_at = $10
        WHERE id = $1 AND client_id = current_client()
        RETURNING {users.COLUMNS}
        """,  # noqa: S608 - a constant of the slice that owns the table
        user_id,
        sorted(change.fields),
        change.status,
        change.email_verified,
        change.role,
        change.display_name,
        change.metadata_json,
        change.locale,
        change.phone,
        now,
    )
    if row is None:
        raise LookupError("the user was not locked")
    return users.read(row)


async def drop_factors(tx: Tx, user_id: UUID, now: datetime) -> User:
    """Say of a locked user that it has no second factor, and void what proved it before."""
    row = await tx.fetchrow(
        f"""
        UPDATE users AS u
        SET mfa_enabled = false, auth_epoch = auth_epoch + 1, version = version + 1, updated_at = $2
        WHERE id = $1 AND client_id = current_client()
        RETURNING {users.COLUMNS}
        """,  # noqa: S608 - a constant of the slice that owns the table
        user_id,
        now,
    )
    if row is None:
        raise LookupError("the user was not locked")
    return users.read(row)


async def has_password(tx: Tx, user_id: UUID) -> bool:
    """Whether a user of the current client has a password."""
    found = await tx.fetchval(
        "SELECT true FROM passwords WHERE user_id = $1 AND client_id = current_client()", user_id
    )
    return bool(found)
