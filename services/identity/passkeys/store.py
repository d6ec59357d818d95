"""Every statement on passkeys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.identity.passkeys.models import Passkey, Registered
from services.identity.users import store as users
from services.identity.users.models import User

_COLUMNS = """
p.id AS passkey_id, p.user_id, p.credential_id, p.public_key, p.sign_count, p.name, p.aaguid, p.transports,
p.attestation_format, p.backup_eligible, p.backed_up, p.user_verified, p.created_at AS registered_at,
p.last_used_at, p.clone_suspected_at
"""


async def insert(
    tx: Tx,
    passkey_id: UUID,
    user_id: UUID,
    new: Registered,
    *,
    name: str,
    transports: tuple[str, ...],
    now: datetime,
) -> Passkey | None:
    """Keep a passkey; None when the client knows the credential already, whoever's it is."""
    row = await tx.fetchrow(
        f"""
        INSERT INTO passkeys AS p
            (id, client_id, user_id, credential_id, public_key, sign_count, name, aaguid, transports,
             attestation_format, backup_eligible, backed_up, user_verified, created_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT (client_id, credential_id) DO NOTHING
        RETURNING {_COLUMNS}
        """,  # noqa: S608 - a constant of this module
        passkey_id,
        user_id,
        new.credential_id,
        new.public_key,
        new.sign_count,
        name,
        new.aaguid,
        list(transports),
        new.attestation_format,
        new.backup_eligible,
        new.backed_up,
        new.user_verified,
        now,
    )
    return _read(row) if row else None


async def of_user(tx: Tx, user_id: UUID) -> list[Passkey]:
    """Return a user's passkeys, the oldest first."""
    rows = await tx.fetch(
        f"""
        SELECT {_COLUMNS} FROM passkeys AS p
        WHERE p.user_id = $1 AND p.client_id = current_client() ORDER BY p.id
        """,  # noqa: S608 - a constant of this module
        user_id,
    )
    return [_read(row) for row in rows]


async def of_email(tx: Tx, email_normalized: str, limit: int) -> tuple[UUID | None, list[bytes]]:
    """Return the active user with an address, None without one, and the credentials it used last."""
    row = await tx.fetchrow(
        """
        SELECT u.id, ARRAY(
            SELECT p.credential_id FROM passkeys AS p WHERE p.user_id = u.id
            ORDER BY p.last_used_at DESC NULLS LAST, p.id DESC LIMIT $2
        ) AS credentials
        FROM users AS u
        WHERE u.client_id = current_client() AND u.email_normalized = $1 AND u.status = 'active'
        """,
        email_normalized,
        limit,
    )
    return (row["id"], list(row["credentials"])) if row else (None, [])


async def find_by_credential(tx: Tx, credential_id: bytes) -> tuple[Passkey, User] | None:
    """Return the passkey of the current client with this credential, and its user."""
    row = await tx.fetchrow(
        f"""
        SELECT {_COLUMNS}, {users.COLUMNS}
        FROM passkeys AS p JOIN users AS u ON u.id = p.user_id
        WHERE p.client_id = current_client() AND p.credential_id = $1
        """,  # noqa: S608 - constants
        credential_id,
    )
    return (_read(row), users.read(row)) if row else None


async def has_factor(tx: Tx, user_id: UUID) -> bool:
    """Whether a user has a passkey that has verified its user, and so can be a second factor."""
    found = await tx.fetchval(
        """
        SELECT true FROM passkeys
        WHERE user_id = $1 AND client_id = current_client() AND user_verified LIMIT 1
        """,
        user_id,
    )
    return bool(found)


async def use(
    tx: Tx, passkey_id: UUID, *, sign_count: int, backed_up: bool, user_verified: bool, now: datetime
) -> bool:
    """Record one use; false when the counter did not grow (WebAuthn Level 3 §6.1.1), or the key is gone.

    Of several uses with one counter, one is recorded. Authenticators without a counter always say 0.
    """
    used = await tx.fetchval(
        """
        UPDATE passkeys
        SET sign_count = $2, backed_up = $3, user_verified = user_verified OR $4, last_used_at = $5
        WHERE id = $1 AND client_id = current_client() AND (sign_count < $2 OR (sign_count = 0 AND $2 = 0))
        RETURNING true
        """,
        passkey_id,
        sign_count,
        backed_up,
        user_verified,
        now,
    )
    return bool(used)


async def suspect(tx: Tx, passkey_id: UUID, now: datetime) -> None:
    """Note that a copy of the key may be in use."""
    await tx.execute(
        "UPDATE passkeys SET clone_suspected_at = $2 WHERE id = $1 AND client_id = current_client()",
        passkey_id,
        now,
    )


async def rename(tx: Tx, user_id: UUID, passkey_id: UUID, name: str) -> Passkey | None:
    """Name a passkey of a user; None when it has none with this id."""
    row = await tx.fetchrow(
        f"""
        UPDATE passkeys AS p SET name = $3
        WHERE p.id = $2 AND p.user_id = $1 AND p.client_id = current_client()
        RETURNING {_COLUMNS}
        """,  # noqa: S608 - a constant of this module
        user_id,
        passkey_id,
        name,
    )
    return _read(row) if row else None


async def lock_user(tx: Tx, user_id: UUID) -> User | None:
    """Return a user of the current client, kept from changing until the transaction ends."""
    row = await tx.fetchrow(
        f"""
        SELECT {users.COLUMNS} FROM users AS u
        WHERE u.id = $1 AND u.client_id = current_client() FOR UPDATE
        """,  # noqa: S608 - a constant
        user_id,
    )
    return users.read(row) if row else None


async def delete(tx: Tx, passkey_id: UUID) -> None:
    """Remove a passkey of the current client."""
    await tx.execute("DELETE FROM passkeys WHERE id = $1 AND client_id = current_client()", passkey_id)


async def delete_all(tx: Tx, user_id: UUID) -> int:
    """Remove all passkeys of a user of the current client; how many there were."""
    deleted = await tx.fetch(
        "DELETE FROM passkeys WHERE user_id = $1 AND client_id = current_client() RETURNING id", user_id
    )
    return len(deleted)


def _read(row: asyncpg.Record) -> Passkey:
    return Passkey(
        id=row["passkey_id"],
        user_id=row["user_id"],
        credential_id=row["credential_id"],
        public_key=row["public_key"],
        sign_count=row["sign_count"],
        name=row["name"],
        aaguid=row["aaguid"],
        transports=tuple(row["transports"]),
        attestation_format=row["attestation_format"],
        backup_eligible=row["backup_eligible"],
        backed_up=row["backed_up"],
        user_verified=row["user_verified"],
        created_at=row["registered_at"],
        last_used_at=row["last_used_at"],
        clone_suspected_at=row["clone_suspected_at"],
    )
