"""Every statement on passwords."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.identity.passwords.models import Account, StoredPassword
from services.identity.passwords.schemes import SCHEMES, Scheme
from services.identity.users import store as users


async def stored_schemes(tx: Tx) -> set[Scheme]:
    """Return the schemes that any stored hash has; looks through the table for one that none has."""
    row = await tx.fetchrow(
        """
        SELECT EXISTS (SELECT FROM passwords WHERE hash LIKE '$2%') AS bcrypt,
               EXISTS (SELECT FROM passwords WHERE hash LIKE '$argon2id$%') AS argon2id
        """
    )
    return {scheme for scheme in SCHEMES if row is not None and row[scheme]}


async def insert(tx: Tx, user_id: UUID, password_hash: str, now: datetime) -> None:
    """Store the first password of a user of the current client."""
    await tx.execute(
        "INSERT INTO passwords (user_id, client_id, hash, changed_at) VALUES ($1, current_client(), $2, $3)",
        user_id,
        password_hash,
        now,
    )


async def find_by_email(tx: Tx, email_normalized: str) -> Account | None:
    """Return a user of the current client with the password, by address."""
    row = await tx.fetchrow(
        f"""
        SELECT {users.COLUMNS}, p.hash, p.epoch
        FROM users AS u LEFT JOIN passwords AS p ON p.user_id = u.id
        WHERE u.client_id = current_client() AND u.email_normalized = $1
        """,  # noqa: S608 - a constant of the slice that owns the table
        email_normalized,
    )
    return _account(row)


async def find_by_id(tx: Tx, user_id: UUID) -> Account | None:
    """Return a user of the current client with the password, by id."""
    row = await tx.fetchrow(
        f"""
        SELECT {users.COLUMNS}, p.hash, p.epoch
        FROM users AS u LEFT JOIN passwords AS p ON p.user_id = u.id
        WHERE u.client_id = current_client() AND u.id = $1
        """,  # noqa: S608 - a constant of the slice that owns the table
        user_id,
    )
    return _account(row)


async def replace_hash(tx: Tx, user_id: UUID, old: str, new: str) -> bool:
    """Store another hash of the same password; false when it is not the stored one any more."""
    replaced = await tx.fetchval(
        """
        UPDATE passwords SET hash = $3
        WHERE user_id = $1 AND client_id = current_client() AND hash = $2
        RETURNING true
        """,
        user_id,
        old,
        new,
    )
    return bool(replaced)


async def change(tx: Tx, user_id: UUID, epoch: int, new: str, now: datetime) -> bool:
    """Replace the password of `epoch`; false when another change was first or the user is suspended."""
    changed = await tx.fetchval(
        """
        WITH changed AS (
            UPDATE passwords AS p SET hash = $3, epoch = p.epoch + 1, changed_at = $4
            FROM users AS u
            WHERE p.user_id = $1 AND p.client_id = current_client() AND p.epoch = $2
              AND u.id = p.user_id AND u.status = 'active'
            RETURNING p.user_id
        )
        UPDATE users AS u SET auth_epoch = u.auth_epoch + 1 FROM changed WHERE u.id = changed.user_id
        RETURNING true
        """,
        user_id,
        epoch,
        new,
        now,
    )
    return bool(changed)


async def delete(tx: Tx, user_id: UUID) -> None:
    """Remove a user's password, which leaves it the other ways in."""
    await tx.execute("DELETE FROM passwords WHERE user_id = $1 AND client_id = current_client()", user_id)


async def reset(tx: Tx, user_id: UUID, new: str, now: datetime) -> None:
    """Give a user a password, whether or not it had one, and void what proved it before."""
    await tx.execute(
        """
        WITH proofs AS (
            UPDATE users SET auth_epoch = auth_epoch + 1 WHERE id = $1 AND client_id = current_client()
        )
        INSERT INTO passwords AS p (user_id, client_id, hash, changed_at)
        VALUES ($1, current_client(), $2, $3)
        ON CONFLICT (user_id) DO UPDATE SET hash = $2, epoch = p.epoch + 1, changed_at = $3
        """,
        user_id,
        new,
        now,
    )


def _account(row: asyncpg.Record | None) -> Account | None:
    if row is None:
        return None
    password = None if row["hash"] is None else StoredPassword(row["hash"], row["epoch"])
    return Account(users.read(row), password)
