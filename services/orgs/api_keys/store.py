"""Every statement on API keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.context import KeyKind
from chassis.database import Tx
from services.orgs.api_keys.models import ApiKey, NewApiKey, ResolvedKey
from services.orgs.clients.store import client_of


async def insert(tx: Tx, new: NewApiKey) -> None:
    """Add a key."""
    await tx.execute(
        """
        INSERT INTO api_keys (id, client_id, kind, name, prefix, key_sha256, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        new.key.id,
        new.key.client_id,
        new.key.kind,
        new.key.name,
        new.key.prefix,
        new.key_sha256,
        new.key.created_at,
        new.key.expires_at,
    )


async def resolve(tx: Tx, key_sha256: bytes, now: datetime) -> ResolvedKey | None:
    """Return what a live key stands for, by its hash."""
    row = await tx.fetchrow(
        """
        SELECT c.*, k.id AS key_id, k.kind, k.expires_at
        FROM api_keys AS k JOIN clients AS c ON c.id = k.client_id
        WHERE k.key_sha256 = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
        """,
        key_sha256,
        now,
    )
    if row is None:
        return None
    return ResolvedKey(row["key_id"], KeyKind(row["kind"]), row["expires_at"], client_of(row))


async def page(tx: Tx, client_id: UUID, *, before: UUID | None, limit: int) -> list[ApiKey]:
    """Return a client's keys, dead ones too, the newest first; `before` is where the last page ended."""
    rows = await tx.fetch(
        """
        SELECT id, client_id, kind, name, prefix, created_at, expires_at, revoked_at, last_used_at
        FROM api_keys
        WHERE client_id = $1 AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC
        LIMIT $3
        """,
        client_id,
        before,
        limit,
    )
    return [_key_of(row) for row in rows]


async def count_live(tx: Tx, client_id: UUID, now: datetime) -> int:
    """Return how many keys of a client open something."""
    count: int = await tx.fetchval(
        """
        SELECT count(*) FROM api_keys
        WHERE client_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
        """,
        client_id,
        now,
    )
    return count


async def revoke(tx: Tx, client_id: UUID, key_id: UUID, now: datetime) -> ApiKey | None:
    """Revoke one key of a client; None when the client has no such key or it is revoked already."""
    row = await tx.fetchrow(
        """
        UPDATE api_keys SET revoked_at = $3
        WHERE id = $2 AND client_id = $1 AND revoked_at IS NULL
        RETURNING id, client_id, kind, name, prefix, created_at, expires_at, revoked_at, last_used_at
        """,
        client_id,
        key_id,
        now,
    )
    return _key_of(row) if row else None


async def revoke_secrets(tx: Tx, client_id: UUID, now: datetime) -> None:
    """Revoke every secret key of a client, those in a grace too."""
    await tx.execute(
        "UPDATE api_keys SET revoked_at = $2 WHERE client_id = $1 AND kind = 'secret' AND revoked_at IS NULL",
        client_id,
        now,
    )


async def retire_secrets(tx: Tx, client_id: UUID, at: datetime) -> None:
    """Let every secret key of a client end at a time, or earlier where it would have anyway."""
    await tx.execute(
        """
        UPDATE api_keys SET expires_at = LEAST(expires_at, $2)
        WHERE client_id = $1 AND kind = 'secret' AND revoked_at IS NULL
        """,
        client_id,
        at,
    )


async def note_uses(tx: Tx, uses: Mapping[UUID, datetime]) -> None:
    """Record when keys were last used; an older note changes nothing."""
    await tx.execute(
        """
        UPDATE api_keys AS k SET last_used_at = u.used_at
        FROM (
            SELECT k.id, u.used_at
            FROM api_keys AS k JOIN unnest($1::uuid[], $2::timestamptz[]) AS u (id, used_at) ON u.id = k.id
            WHERE k.last_used_at IS NULL OR k.last_used_at < u.used_at
            ORDER BY k.id  -- two processes must not wait for each other's rows crosswise
            FOR NO KEY UPDATE OF k
        ) AS u
        WHERE k.id = u.id
        """,
        list(uses.keys()),
        list(uses.values()),
    )


def _key_of(row: asyncpg.Record) -> ApiKey:
    return ApiKey(**{**row, "kind": KeyKind(row["kind"])})
