"""Every statement on initial access tokens, and on apps by the tokens that they change themselves by."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.orgs.registrations.models import InitialAccessToken, NewInitialAccessToken

_TOKEN = "id, client_id, name, prefix, max_uses, uses, created_at, expires_at, revoked_at, last_used_at"  # noqa: S105 - columns
_LIVE = "revoked_at IS NULL AND uses < max_uses"


async def insert(tx: Tx, new: NewInitialAccessToken) -> None:
    """Add a token."""
    await tx.execute(
        """
        INSERT INTO initial_access_tokens
            (id, client_id, name, prefix, token_sha256, max_uses, uses, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)
        """,
        new.token.id,
        new.token.client_id,
        new.token.name,
        new.token.prefix,
        new.sha256,
        new.token.max_uses,
        new.token.created_at,
        new.token.expires_at,
    )


async def count_live(tx: Tx, client_id: UUID, now: datetime) -> int:
    """Return how many tokens of a client still open something."""
    found: int = await tx.fetchval(
        f"SELECT count(*) FROM initial_access_tokens WHERE client_id = $1 AND expires_at > $2 AND {_LIVE}",  # noqa: S608 - a constant
        client_id,
        now,
    )
    return found


async def page(tx: Tx, client_id: UUID, *, before: UUID | None, limit: int) -> list[InitialAccessToken]:
    """Return tokens of a client, dead ones too, the newest first; `before` is where the last page ended."""
    rows = await tx.fetch(
        f"""
        SELECT {_TOKEN} FROM initial_access_tokens
        WHERE client_id = $1 AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,  # noqa: S608 - a constant of this module
        client_id,
        before,
        limit,
    )
    return [_token_of(row) for row in rows]


async def revoke(tx: Tx, client_id: UUID, token_id: UUID, now: datetime) -> bool:
    """Revoke a token; false when the client has no such one, or it is revoked already."""
    revoked = await tx.fetchval(
        """
        UPDATE initial_access_tokens SET revoked_at = $3
        WHERE id = $2 AND client_id = $1 AND revoked_at IS NULL
        RETURNING true
        """,
        client_id,
        token_id,
        now,
    )
    return bool(revoked)


async def find_live(tx: Tx, token_sha256: bytes, now: datetime) -> InitialAccessToken | None:
    """Return a token that opens something now; using it is another statement."""
    row = await tx.fetchrow(
        f"SELECT {_TOKEN} FROM initial_access_tokens WHERE token_sha256 = $1 AND expires_at > $2 AND {_LIVE}",  # noqa: S608 - constants
        token_sha256,
        now,
    )
    return _token_of(row) if row else None


async def use(tx: Tx, token_id: UUID, now: datetime) -> bool:
    """Use a token once; of more than it has uses for, the others get false."""
    used = await tx.fetchval(
        f"""
        UPDATE initial_access_tokens SET uses = uses + 1, last_used_at = $2
        WHERE id = $1 AND expires_at > $2 AND {_LIVE}
        RETURNING true
        """,  # noqa: S608 - a constant of this module
        token_id,
        now,
    )
    return bool(used)


async def client_of_registered(tx: Tx, app_id: UUID, token_sha256: bytes) -> UUID | None:
    """Return the client of an active app that a registration access token is of; None for any other."""
    found: UUID | None = await tx.fetchval(
        """
        SELECT client_id FROM apps
        WHERE id = $1 AND registration_sha256 = $2 AND deleted_at IS NULL AND status = 'active'
        """,
        app_id,
        token_sha256,
    )
    return found


async def replace_token(tx: Tx, app_id: UUID, token_sha256: bytes, new_sha256: bytes) -> bool:
    """Replace an app's registration access token; of all who present the old one, one gets true."""
    replaced = await tx.fetchval(
        """
        UPDATE apps SET registration_sha256 = $3
        WHERE id = $1 AND registration_sha256 = $2 AND deleted_at IS NULL AND status = 'active'
        RETURNING true
        """,
        app_id,
        token_sha256,
        new_sha256,
    )
    return bool(replaced)


def _token_of(row: asyncpg.Record) -> InitialAccessToken:
    return InitialAccessToken(
        **{name: row[name] for name in InitialAccessToken.__dataclass_fields__}  # the columns of `_TOKEN`
    )
