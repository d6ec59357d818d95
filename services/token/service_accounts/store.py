"""Every statement on service accounts and their secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.token.service_accounts.models import (
    NewKey,
    ServiceAccount,
    ServiceAccountKey,
    ServiceAccountStatus,
)

_ACCOUNT = "id, client_id, name, description, scopes, status, jwks, created_at, updated_at"
_KEY = """
id, client_id, service_account_id, name, prefix, created_at, expires_at, revoked_at, last_used_at
"""


async def insert(tx: Tx, account: ServiceAccount) -> None:
    """Add an account of the current client."""
    await tx.execute(
        """
        INSERT INTO service_accounts
            (id, client_id, name, description, scopes, status, jwks, created_at, updated_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6::jsonb, $7, $8)
        """,
        account.id,
        account.name,
        account.description,
        list(account.scopes),
        account.status,
        account.jwks_json,
        account.created_at,
        account.updated_at,
    )


async def count(tx: Tx) -> int:
    """Return how many accounts the current client has."""
    found: int = await tx.fetchval(
        "SELECT count(*) FROM service_accounts WHERE client_id = current_client() AND deleted_at IS NULL"
    )
    return found


async def page(tx: Tx, *, before: UUID | None, limit: int) -> list[ServiceAccount]:
    """Return accounts of the current client, the newest first; `before` is where the last page ended."""
    rows = await tx.fetch(
        f"""
        SELECT {_ACCOUNT} FROM service_accounts
        WHERE client_id = current_client() AND deleted_at IS NULL AND ($1::uuid IS NULL OR id < $1)
        ORDER BY id DESC LIMIT $2
        """,  # noqa: S608 - a constant of this module
        before,
        limit,
    )
    return [_account_of(row) for row in rows]


async def find(tx: Tx, account_id: UUID, *, for_change: bool = False) -> ServiceAccount | None:
    """Return an account of the current client; `for_change` keeps others from changing it meanwhile."""
    row = await tx.fetchrow(
        f"""
        SELECT {_ACCOUNT} FROM service_accounts
        WHERE id = $1 AND client_id = current_client() AND deleted_at IS NULL
        {"FOR UPDATE" if for_change else ""}
        """,  # noqa: S608 - constants of this module
        account_id,
    )
    return _account_of(row) if row else None


async def update(tx: Tx, account: ServiceAccount) -> None:
    """Write what may change of an account."""
    await tx.execute(
        """
        UPDATE service_accounts
        SET name = $2, description = $3, scopes = $4, status = $5, jwks = $6::jsonb, updated_at = $7
        WHERE id = $1 AND client_id = current_client()
        """,
        account.id,
        account.name,
        account.description,
        list(account.scopes),
        account.status,
        account.jwks_json,
        account.updated_at,
    )


async def delete(tx: Tx, account_id: UUID, now: datetime) -> bool:
    """Delete an account of the current client; its row stays, so that its id never means another."""
    deleted = await tx.fetchval(
        """
        UPDATE service_accounts SET deleted_at = $2, status = 'disabled', jwks = NULL
        WHERE id = $1 AND client_id = current_client() AND deleted_at IS NULL
        RETURNING true
        """,
        account_id,
        now,
    )
    return bool(deleted)


async def insert_key(tx: Tx, new: NewKey) -> None:
    """Add a secret of an account of the current client."""
    await tx.execute(
        """
        INSERT INTO service_account_keys
            (id, client_id, service_account_id, name, prefix, secret_sha256, created_at, expires_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, $7)
        """,
        new.key.id,
        new.key.service_account_id,
        new.key.name,
        new.key.prefix,
        new.sha256,
        new.key.created_at,
        new.key.expires_at,
    )


async def keys(tx: Tx, account_id: UUID) -> list[ServiceAccountKey]:
    """Return an account's secrets, dead ones too, the newest first."""
    rows = await tx.fetch(
        f"""
        SELECT {_KEY} FROM service_account_keys
        WHERE service_account_id = $1 AND client_id = current_client()
        ORDER BY id DESC
        """,  # noqa: S608 - a constant of this module
        account_id,
    )
    return [_key_of(row) for row in rows]


async def revoke_key(tx: Tx, account_id: UUID, key_id: UUID, now: datetime) -> ServiceAccountKey | None:
    """Revoke a secret; None when the account has no such one, or it is revoked already."""
    row = await tx.fetchrow(
        f"""
        UPDATE service_account_keys SET revoked_at = $3
        WHERE id = $2 AND service_account_id = $1 AND client_id = current_client() AND revoked_at IS NULL
        RETURNING {_KEY}
        """,  # noqa: S608 - a constant of this module
        account_id,
        key_id,
        now,
    )
    return _key_of(row) if row else None


async def retire_key(tx: Tx, account_id: UUID, key_id: UUID, at: datetime) -> ServiceAccountKey | None:
    """Let a live secret end at a time, or earlier where it would have anyway; None when there is none."""
    row = await tx.fetchrow(
        f"""
        UPDATE service_account_keys SET expires_at = least(expires_at, $3)
        WHERE id = $2 AND service_account_id = $1 AND client_id = current_client() AND revoked_at IS NULL
          AND (expires_at IS NULL OR expires_at > now())
        RETURNING {_KEY}
        """,  # noqa: S608 - a constant of this module
        account_id,
        key_id,
        at,
    )
    return _key_of(row) if row else None


async def resolve(tx: Tx, account_id: UUID) -> tuple[ServiceAccount, dict[bytes, ServiceAccountKey]] | None:
    """Return an account of any client and its secrets that are not revoked, by hash."""
    row = await tx.fetchrow(
        f"SELECT {_ACCOUNT} FROM service_accounts WHERE id = $1 AND deleted_at IS NULL",  # noqa: S608 - a constant
        account_id,
    )
    if row is None:
        return None
    rows = await tx.fetch(
        f"""
        SELECT {_KEY}, secret_sha256 FROM service_account_keys
        WHERE service_account_id = $1 AND revoked_at IS NULL
        """,  # noqa: S608 - a constant of this module
        account_id,
    )
    return _account_of(row), {found["secret_sha256"]: _key_of(found) for found in rows}


async def note_uses(tx: Tx, uses: Mapping[UUID, datetime]) -> None:
    """Record when secrets were last used; an older note changes nothing."""
    await tx.execute(
        """
        UPDATE service_account_keys AS k SET last_used_at = u.used_at
        FROM (
            SELECT k.id, u.used_at
            FROM service_account_keys AS k
            JOIN unnest($1::uuid[], $2::timestamptz[]) AS u (id, used_at) ON u.id = k.id
            WHERE k.last_used_at IS NULL OR k.last_used_at < u.used_at
            ORDER BY k.id  -- two processes must not wait for each other's rows crosswise
            FOR NO KEY UPDATE OF k
        ) AS u
        WHERE k.id = u.id
        """,
        list(uses.keys()),
        list(uses.values()),
    )


def _account_of(row: asyncpg.Record) -> ServiceAccount:
    return ServiceAccount(
        id=row["id"],
        client_id=row["client_id"],
        name=row["name"],
        description=row["description"],
        scopes=tuple(row["scopes"]),
        status=ServiceAccountStatus(row["status"]),
        jwks_json=row["jwks"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _key_of(row: asyncpg.Record) -> ServiceAccountKey:
    return ServiceAccountKey(
        **{name: row[name] for name in ServiceAccountKey.__dataclass_fields__}  # the columns of `_KEY`
    )
