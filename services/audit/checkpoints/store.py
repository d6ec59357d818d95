"""Every statement of checkpoints and their key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.audit.checkpoints.models import Checkpoint, DueHead
from services.audit.ingest.models import Head
from services.audit.ingest.store import head_of


async def read_key(tx: Tx) -> tuple[str, bytes] | None:
    """Return kid and sealed key, or None before there is one."""
    row = await tx.fetchrow("SELECT kid, sealed_key FROM checkpoint_keys WHERE slot = 1")
    return None if row is None else (row["kid"], row["sealed_key"])


async def add_key(tx: Tx, kid: str, sealed_key: bytes, now: datetime) -> None:
    """Store the key, unless another process was faster."""
    await tx.execute(
        "INSERT INTO checkpoint_keys (slot, kid, sealed_key, created_at) VALUES (1, $1, $2, $3) "
        "ON CONFLICT DO NOTHING",
        kid,
        sealed_key,
        now,
    )


async def lock_due(
    tx: Tx, *, news_before: datetime, every: int, key_ids: Collection[bytes], limit: int
) -> list[DueHead]:
    """Lock heads, proven under one of these keys, that want a checkpoint and that nobody is working on."""
    rows = await tx.fetch(
        """
        SELECT h.client_id, h.position, h.hash, h.checkpoint_position, h.key_id, h.mac, h.broken_position,
               (SELECT c.signed FROM checkpoints AS c
                WHERE c.client_id = h.client_id ORDER BY c.position DESC LIMIT 1) AS last_signed
        FROM chain_heads AS h
        WHERE h.news_since IS NOT NULL AND h.broken_position IS NULL
          AND (h.news_since <= $1 OR h.position - h.checkpoint_position >= $2) AND h.key_id = ANY($3)
        ORDER BY h.client_id LIMIT $4 FOR UPDATE OF h SKIP LOCKED
        """,
        news_before,
        every,
        list(key_ids),
        limit,
    )
    return [DueHead(head_of(row), row["last_signed"]) for row in rows]


async def add_checkpoints(tx: Tx, checkpoints: Sequence[Checkpoint]) -> None:
    """Store checkpoints."""
    await tx.executemany(
        "INSERT INTO checkpoints (client_id, position, hash, created_at, kid, signed) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        [(c.client_id, c.position, c.hash, c.created_at, c.kid, c.signed) for c in checkpoints],
    )


async def settle_heads(tx: Tx, heads: Sequence[Head]) -> None:
    """Store locked heads that have no news any more: checkpointed now, or found broken."""
    await tx.executemany(
        """
        UPDATE chain_heads SET checkpoint_position = $2, key_id = $3, mac = $4, broken_position = $5,
            news_since = NULL
        WHERE client_id = $1
        """,
        [(h.client_id, h.checkpoint_position, h.key_id, h.mac, h.broken_position) for h in heads],
    )


async def of_chain(tx: Tx, client_id: UUID, first: int, last: int) -> list[Checkpoint]:
    """Return a chain's checkpoints between two positions, in order."""
    rows = await tx.fetch(
        """
        SELECT client_id, position, hash, created_at, kid, signed FROM checkpoints
        WHERE client_id = $1 AND position BETWEEN $2 AND $3 ORDER BY position
        """,
        client_id,
        first,
        last,
    )
    return [_checkpoint(row) for row in rows]


async def last_before(tx: Tx, client_id: UUID, position: int) -> str | None:
    """Return the signed text of a chain's last checkpoint before a position."""
    signed: str | None = await tx.fetchval(
        "SELECT signed FROM checkpoints WHERE client_id = $1 AND position < $2 "
        "ORDER BY position DESC LIMIT 1",
        client_id,
        position,
    )
    return signed


async def newest(
    tx: Tx, within: Collection[UUID] | None, after: tuple[datetime, UUID, int] | None, limit: int
) -> list[Checkpoint]:
    """Return checkpoints of some chains (None: of all), newest first, after a place in that order."""
    conditions, args = ["true"], [limit]  # type: tuple[list[str], list[object]]
    if within is not None:
        args.append(list(within))
        conditions.append(f"client_id = ANY(${len(args)})")
    if after is not None:
        args += after
        end = len(args)
        conditions.append(f"(created_at, client_id, position) < (${end - 2}, ${end - 1}, ${end})")
    rows = await tx.fetch(
        "SELECT client_id, position, hash, created_at, kid, signed FROM checkpoints WHERE "  # noqa: S608 - literals only
        + " AND ".join(conditions)
        + " ORDER BY created_at DESC, client_id DESC, position DESC LIMIT $1",
        *args,
    )
    return [_checkpoint(row) for row in rows]


def _checkpoint(row: asyncpg.Record) -> Checkpoint:
    return Checkpoint(
        client_id=row["client_id"],
        position=row["position"],
        hash=row["hash"],
        created_at=row["created_at"],
        kid=row["kid"],
        signed=row["signed"],
    )
