"""Every statement on devices."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.identity.devices.models import Device, Seen

_COLUMNS = """
d.id, d.name, d.user_agent, d.ip, d.created_at, d.last_seen_at, d.session_id,
CASE WHEN d.trusted_until > $2 AND d.trusted_epoch = u.auth_epoch THEN d.trusted_until END AS trusted_until
"""


async def see(tx: Tx, user_id: UUID, seen: Seen, keep: int) -> None:
    """Give the device of a login its next token, and make it if there is none.

    Of the user's devices that are not trusted, only the `keep` last seen stay when another one comes. An
    unset `trusted_until` leaves the trust as it is.
    """
    await tx.execute(
        """
        WITH known AS (
            UPDATE devices SET
                token_hash = $3, user_agent = $4, ip = $5, last_seen_at = $6,
                trusted_until = coalesce($7, trusted_until), session_id = $8,
                trusted_epoch = CASE WHEN $7::timestamptz IS NULL THEN trusted_epoch
                                     ELSE (SELECT auth_epoch FROM users WHERE id = $1) END
            WHERE id = $2 AND user_id = $1 AND client_id = current_client()
            RETURNING id
        ), stale AS (
            DELETE FROM devices WHERE NOT EXISTS (SELECT FROM known) AND id IN (
                SELECT id FROM devices
                WHERE user_id = $1 AND client_id = current_client()
                  AND (trusted_until IS NULL OR trusted_until <= $6)
                ORDER BY last_seen_at DESC OFFSET $9
            )
        )
        INSERT INTO devices (id, client_id, user_id, token_hash, user_agent, ip, created_at, last_seen_at,
                             trusted_until, trusted_epoch, session_id)
        SELECT $2, current_client(), $1, $3, $4, $5, $6, $6, $7,
               CASE WHEN $7::timestamptz IS NOT NULL THEN (SELECT auth_epoch FROM users WHERE id = $1) END, $8
        WHERE NOT EXISTS (SELECT FROM known)
        """,
        user_id,
        seen.device_id,
        seen.token_hash,
        seen.user_agent,
        seen.ip,
        seen.now,
        seen.trusted_until,
        seen.session_id,
        keep,
    )


async def find_by_token(
    tx: Tx, user_id: UUID, device_id: UUID, token_hash: bytes, now: datetime
) -> tuple[Device, bool] | None:
    """Return the device that a token names, if it is the user's, and whether the token is its present one."""
    row = await tx.fetchrow(
        f"""
        SELECT {_COLUMNS}, d.token_hash = $4 AS is_present
        FROM devices AS d JOIN users AS u ON u.id = d.user_id
        WHERE d.id = $3 AND d.user_id = $1 AND d.client_id = current_client()
        """,  # noqa: S608 - a constant of this module
        user_id,
        now,
        device_id,
        token_hash,
    )
    return (_read(row), row["is_present"]) if row else None


async def is_at(tx: Tx, email_normalized: str, device_id: UUID, token_hash: bytes) -> bool:
    """Whether a token is the present one of a device of the user with this address."""
    found = await tx.fetchval(
        """
        SELECT true FROM devices AS d JOIN users AS u ON u.id = d.user_id
        WHERE d.id = $2 AND d.token_hash = $3 AND d.client_id = current_client() AND u.email_normalized = $1
        """,
        email_normalized,
        device_id,
        token_hash,
    )
    return bool(found)


async def find_all(tx: Tx, user_id: UUID, now: datetime, limit: int) -> list[Device]:
    """Return the user's devices, the last seen first."""
    rows = await tx.fetch(
        f"""
        SELECT {_COLUMNS} FROM devices AS d JOIN users AS u ON u.id = d.user_id
        WHERE d.user_id = $1 AND d.client_id = current_client()
        ORDER BY d.last_seen_at DESC LIMIT $3
        """,  # noqa: S608 - a constant of this module
        user_id,
        now,
        limit,
    )
    return [_read(row) for row in rows]


async def find(tx: Tx, user_id: UUID, device_id: UUID, now: datetime) -> Device | None:
    """Return one device of a user."""
    row = await tx.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM devices AS d JOIN users AS u ON u.id = d.user_id
        WHERE d.user_id = $1 AND d.client_id = current_client() AND d.id = $3
        """,  # noqa: S608 - a constant of this module
        user_id,
        now,
        device_id,
    )
    return _read(row) if row else None


async def rename(tx: Tx, device_id: UUID, name: str | None) -> None:
    """Give a device a name, or none."""
    await tx.execute(
        "UPDATE devices SET name = $2 WHERE id = $1 AND client_id = current_client()", device_id, name
    )


async def trust(tx: Tx, device_id: UUID, until: datetime | None) -> None:
    """Trust a device until a time as long as the user's proofs stay good; None ends its trust."""
    await tx.execute(
        """
        UPDATE devices AS d
        SET trusted_until = $2, trusted_epoch = CASE WHEN $2::timestamptz IS NOT NULL THEN u.auth_epoch END
        FROM users AS u
        WHERE d.id = $1 AND d.client_id = current_client() AND u.id = d.user_id
        """,
        device_id,
        until,
    )


async def distrust_all(tx: Tx, user_id: UUID) -> None:
    """End the trust of all devices of a user."""
    await tx.execute(
        """
        UPDATE devices SET trusted_until = NULL, trusted_epoch = NULL
        WHERE user_id = $1 AND client_id = current_client() AND trusted_until IS NOT NULL
        """,
        user_id,
    )


async def delete(tx: Tx, user_id: UUID, device_id: UUID) -> bool:
    """Forget a device of a user; false when there is none."""
    deleted = await tx.fetchval(
        """
        DELETE FROM devices WHERE id = $2 AND user_id = $1 AND client_id = current_client() RETURNING true
        """,
        user_id,
        device_id,
    )
    return bool(deleted)


async def purge(tx: Tx, older_than: datetime) -> None:
    """Forget devices that were not seen since and are not trusted any more, of all clients."""
    await tx.execute(
        "DELETE FROM devices WHERE last_seen_at < $1 AND (trusted_until IS NULL OR trusted_until < now())",
        older_than,
    )


def _read(row: asyncpg.Record) -> Device:
    return Device(
        id=row["id"],
        name=row["name"],
        user_agent=row["user_agent"],
        ip=row["ip"],
        created_at=row["created_at"],
        last_seen_at=row["last_seen_at"],
        trusted_until=row["trusted_until"],
        session_id=row["session_id"],
    )
