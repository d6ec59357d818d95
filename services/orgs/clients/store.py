"""Every statement on clients."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from uuid import UUID

import asyncpg

from chassis.database import Tx
from contracts.clients import TokenMode
from services.orgs.clients.models import Client, ClientStatus

_AUDIENCES = 7_304_118


async def insert(tx: Tx, client: Client) -> bool:
    """Add a client; false when another one has its slug."""
    added = await tx.fetchval(
        """
        INSERT INTO clients (id, name, slug, status, token_mode, allowed_origins, webhook_url, settings, cell,
                             created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, $11)
        ON CONFLICT (slug) DO NOTHING
        RETURNING true
        """,
        client.id,
        client.name,
        client.slug,
        client.status,
        client.token_mode,
        client.allowed_origins,
        client.webhook_url,
        json.dumps(client.settings),
        client.cell,
        client.created_at,
        client.updated_at,
    )
    return added is not None


async def find(tx: Tx, client_id: UUID) -> Client | None:
    """Return a client."""
    row = await tx.fetchrow("SELECT * FROM clients WHERE id = $1", client_id)
    return client_of(row) if row else None


async def allows_origin(tx: Tx, origin: str) -> bool:
    """Return whether any active client lists an origin."""
    return bool(
        await tx.fetchval(
            """
            SELECT EXISTS (SELECT FROM clients WHERE allowed_origins @> ARRAY[$1::text] AND status = 'active')
            """,
            origin,
        )
    )


async def of_audiences(tx: Tx, audiences: Sequence[str]) -> list[Client]:
    """Return active clients, two at most, that take client id documents and have one of some audiences."""
    rows = await tx.fetch(
        """
        SELECT * FROM clients
        WHERE settings -> 'oidc_client_id_metadata_documents' = 'true'::jsonb
          AND settings -> 'oidc_audiences' ?| $1::text[] AND status = 'active'
        LIMIT 2
        """,
        list(audiences),
    )
    return [client_of(row) for row in rows]


async def is_audience_taken(
    tx: Tx, client_id: UUID, audiences: Sequence[str], *, takes_documents: bool
) -> bool:
    """Return whether another client has one of some audiences, and it or this one takes documents.

    Until the transaction ends nobody else is answered: what it writes then is still true.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _AUDIENCES)
    return bool(
        await tx.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM clients
                WHERE id <> $1 AND settings -> 'oidc_audiences' ?| $2::text[]
                  AND ($3 OR settings -> 'oidc_client_id_metadata_documents' = 'true'::jsonb)
            )
            """,
            client_id,
            list(audiences),
            takes_documents,
        )
    )


async def lock(tx: Tx, client_id: UUID) -> Client | None:
    """Return a client and keep everyone else from changing it, or its keys, until the transaction ends."""
    row = await tx.fetchrow("SELECT * FROM clients WHERE id = $1 FOR NO KEY UPDATE", client_id)
    return client_of(row) if row else None


async def update(tx: Tx, client: Client) -> None:
    """Store what may change of a client."""
    await tx.execute(
        """
        UPDATE clients
        SET name = $2, status = $3, token_mode = $4, allowed_origins = $5, webhook_url = $6,
            settings = $7::jsonb, updated_at = $8
        WHERE id = $1
        """,
        client.id,
        client.name,
        client.status,
        client.token_mode,
        client.allowed_origins,
        client.webhook_url,
        json.dumps(client.settings),
        client.updated_at,
    )


async def page(
    tx: Tx,
    *,
    within: Collection[UUID] | None,
    search: str | None,
    status: ClientStatus | None,
    before: UUID | None,
    limit: int,
) -> list[Client]:
    """Return clients of those in `within` (None: of all), the newest first, after `before`.

    `search` is part of the name or the slug.
    """
    rows = await tx.fetch(
        """
        SELECT * FROM clients
        WHERE ($1::text IS NULL OR strpos(lower(name), lower($1)) > 0 OR strpos(slug, lower($1)) > 0)
          AND ($2::text IS NULL OR status = $2)
          AND ($3::uuid IS NULL OR id < $3)
          AND ($5::uuid[] IS NULL OR id = ANY($5))
        ORDER BY id DESC
        LIMIT $4
        """,
        search,
        status,
        before,
        limit,
        None if within is None else list(within),
    )
    return [client_of(row) for row in rows]


def client_of(row: asyncpg.Record) -> Client:
    """Read a row that has all columns of `clients`."""
    return Client(
        id=row["id"],
        name=row["name"],
        slug=row["slug"],
        status=ClientStatus(row["status"]),
        token_mode=TokenMode(row["token_mode"]),
        allowed_origins=tuple(row["allowed_origins"]),
        webhook_url=row["webhook_url"],
        settings=json.loads(row["settings"]),
        cell=row["cell"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
