"""Every statement on tokens that travel by mail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Tx
from services.identity.email_tokens.models import LiveToken, TokenKind
from services.identity.users import store as users
from services.identity.users.models import User

_IS_LIVE = """
t.token_hash = $1 AND t.kind = $2 AND t.used_at IS NULL AND t.expires_at > $3
AND u.id = t.user_id AND u.status = 'active' AND u.email_normalized = t.email_normalized
AND u.auth_epoch = t.auth_epoch
"""


async def insert(
    tx: Tx,
    token_hash: bytes,
    kind: TokenKind,
    user: User,
    payload: Mapping[str, Any],
    *,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Store a token of a user of the current client; its older ones of the kind are void by this."""
    await tx.execute(
        """
        WITH replaced AS (
            UPDATE email_tokens SET used_at = $6
            WHERE user_id = $3 AND client_id = current_client() AND kind = $2 AND used_at IS NULL
        )
        INSERT INTO email_tokens
            (token_hash, client_id, user_id, kind, email_normalized, auth_epoch, payload, created_at,
             expires_at)
        SELECT $1, current_client(), id, $2, email_normalized, auth_epoch, $5::jsonb, $6, $7
        FROM users WHERE id = $3 AND client_id = current_client() AND auth_epoch = $4
        """,
        token_hash,
        kind,
        user.id,
        user.auth_epoch,
        json.dumps(payload),
        now,
        expires_at,
    )


async def find(tx: Tx, raw: str, token_hash: bytes, kind: TokenKind, now: datetime) -> LiveToken | None:
    """Return a token of whichever client that could be redeemed now."""
    row = await tx.fetchrow(
        f"SELECT t.payload, {users.COLUMNS} FROM email_tokens AS t, users AS u WHERE {_IS_LIVE}",  # noqa: S608 - constants
        token_hash,
        kind,
        now,
    )
    return LiveToken(raw, kind, users.read(row), json.loads(row["payload"])) if row else None


async def redeem(tx: Tx, token_hash: bytes, kind: TokenKind, now: datetime) -> User | None:
    """Use up a token of the current client and return its user; of all who try, one gets it."""
    row = await tx.fetchrow(
        f"""
        WITH used AS (
            UPDATE email_tokens AS t SET used_at = $3 FROM users AS u
            WHERE t.client_id = current_client() AND {_IS_LIVE}
            RETURNING t.user_id
        )
        SELECT {users.COLUMNS} FROM used JOIN users AS u ON u.id = used.user_id
        """,  # noqa: S608 - constants
        token_hash,
        kind,
        now,
    )
    return users.read(row) if row else None


async def count_since(tx: Tx, user_id: UUID, kind: TokenKind, since: datetime) -> int:
    """Return how many tokens of a kind a user was sent since a time."""
    count: int = await tx.fetchval(
        """
        SELECT count(*) FROM email_tokens
        WHERE user_id = $1 AND client_id = current_client() AND kind = $2 AND created_at > $3
        """,
        user_id,
        kind,
        since,
    )
    return count


async def purge(tx: Tx, expired_before: datetime) -> None:
    """Forget tokens that expired before a time, of all clients."""
    await tx.execute("DELETE FROM email_tokens WHERE expires_at < $1", expired_before)
