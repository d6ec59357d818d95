"""Every statement of taking events in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.audit.ingest.models import Head, Link, Record


async def ensure_partition(tx: Tx, moment: datetime) -> None:
    """Create the partition of the month of `moment` when it is missing; safe in several processes at once."""
    await tx.execute("SELECT ensure_audit_partition($1)", moment)


async def lock_heads(tx: Tx, client_ids: Collection[UUID]) -> dict[UUID, Head]:
    """Lock the heads of the chains, always in one order so that two batches never wait for each other."""
    rows = await tx.fetch(
        """
        SELECT client_id, position, hash, checkpoint_position, key_id, mac, broken_position FROM chain_heads
        WHERE client_id = ANY($1) ORDER BY client_id FOR UPDATE
        """,
        client_ids,
    )
    return {row["client_id"]: head_of(row) for row in rows}


async def missing_keys(tx: Tx, key_ids: Collection[bytes]) -> dict[str, int]:
    """Return the names of keys beside these, with how many unbroken chains have a head that needs them."""
    rows = await tx.fetch(
        """
        SELECT encode(key_id, 'hex') AS name, count(*) AS chains FROM chain_heads
        WHERE broken_position IS NULL AND key_id <> ALL($1) GROUP BY key_id ORDER BY key_id
        """,
        list(key_ids),
    )
    return {row["name"]: row["chains"] for row in rows}


async def lock_heads_of_other_keys(tx: Tx, key_id: bytes, after: UUID | None, limit: int) -> list[Head]:
    """Lock heads that are proven under another key than this one, in the order in which all lock them."""
    rows = await tx.fetch(
        """
        SELECT client_id, position, hash, checkpoint_position, key_id, mac, broken_position FROM chain_heads
        WHERE key_id <> $1 AND ($2::uuid IS NULL OR client_id > $2) ORDER BY client_id LIMIT $3 FOR UPDATE
        """,
        key_id,
        after,
        limit,
    )
    return [head_of(row) for row in rows]


async def put_proofs(tx: Tx, heads: Sequence[Head]) -> None:
    """Store the proofs of locked heads."""
    await tx.execute(
        """
        UPDATE chain_heads AS h SET key_id = n.key_id, mac = n.mac
        FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n(client_id, key_id, mac)
        WHERE h.client_id = n.client_id
        """,
        [head.client_id for head in heads],
        [head.key_id for head in heads],
        [head.mac for head in heads],
    )


async def last_links(tx: Tx, client_ids: Collection[UUID]) -> dict[UUID, tuple[int, bytes]]:
    """Return position and hash of the newest row of those chains that have rows."""
    rows = await tx.fetch(
        """
        SELECT chain.client_id, newest.position, newest.hash
        FROM unnest($1::uuid[]) AS chain(client_id)
        CROSS JOIN LATERAL (
            SELECT position, hash FROM audit_events AS e WHERE e.client_id = chain.client_id
            ORDER BY position DESC LIMIT 1
        ) AS newest
        """,
        client_ids,
    )
    return {row["client_id"]: (row["position"], row["hash"]) for row in rows}


async def add_heads(tx: Tx, heads: Sequence[Head]) -> None:
    """Add heads in one order; those that another process added meanwhile stay."""
    await tx.execute(
        """
        INSERT INTO chain_heads
            (client_id, position, hash, checkpoint_position, key_id, mac, broken_position)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bytea[],
                             $7::bigint[]) AS head ORDER BY 1
        ON CONFLICT DO NOTHING
        """,
        *_columns(heads),
    )


async def grow_heads(tx: Tx, heads: Sequence[Head], now: datetime) -> None:
    """Move locked heads to where their chains end now."""
    await tx.execute(
        """
        UPDATE chain_heads AS h
        SET position = n.position, hash = n.hash, key_id = n.key_id, mac = n.mac,
            broken_position = n.broken_position, news_since = coalesce(h.news_since, $8)
        FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bytea[],
                    $7::bigint[])
            AS n(client_id, position, hash, checkpoint_position, key_id, mac, broken_position)
        WHERE h.client_id = n.client_id
        """,
        *_columns(heads),
        now,
    )


async def known(tx: Tx, records: Sequence[Record]) -> set[UUID]:
    """Return the ids of those records that are stored already."""
    times = [record.occurred_at for record in records]
    rows = await tx.fetch(
        """
        SELECT e.event_id FROM unnest($1::timestamptz[], $2::uuid[]) AS n(occurred_at, event_id)
        JOIN audit_events AS e ON e.occurred_at = n.occurred_at AND e.event_id = n.event_id
        WHERE e.occurred_at BETWEEN $3 AND $4
        """,
        times,
        [record.event_id for record in records],
        min(times),
        max(times),
    )
    return {row["event_id"] for row in rows}


async def add_links(tx: Tx, links: Sequence[Link]) -> None:
    """Store rows. COPY would be faster, and PostgreSQL has none into a table with row-level security."""
    await tx.execute(
        """
        INSERT INTO audit_events (client_id, position, occurred_at, event_id, recorded_at, type, service,
            actor_type, actor_id, target_type, target_id, session_id, ip, user_agent, request_id, data,
            key_id, hash)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::timestamptz[],
            $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[],
            $13::text[], $14::text[], $15::text[], $16::json[], $17::bytea[], $18::bytea[])
        """,
        *zip(*map(_row, links), strict=True),
    )


def head_of(row: asyncpg.Record) -> Head:
    """Read a head from its row."""
    return Head(
        client_id=row["client_id"],
        position=row["position"],
        hash=row["hash"],
        checkpoint_position=row["checkpoint_position"],
        key_id=row["key_id"],
        mac=row["mac"],
        broken_position=row["broken_position"],
    )


def _columns(heads: Sequence[Head]) -> tuple[list[object], ...]:
    return (
        [head.client_id for head in heads],
        [head.position for head in heads],
        [head.hash for head in heads],
        [head.checkpoint_position for head in heads],
        [head.key_id for head in heads],
        [head.mac for head in heads],
        [head.broken_position for head in heads],
    )


def _row(link: Link) -> tuple[object, ...]:
    record = link.record
    return (
        record.client_id,
        link.position,
        record.occurred_at,
        record.event_id,
        record.recorded_at,
        record.type,
        record.service,
        record.actor_type,
        record.actor_id,
        record.target_type,
        record.target_id,
        record.session_id,
        record.ip,
        record.user_agent,
        record.request_id,
        record.data,
        link.key_id,
        link.hash,
    )
