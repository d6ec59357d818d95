"""The statements on used assertions, and the one that finds whose a code or token is."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.token.oauth.models import LiveRefreshToken


async def use_assertion(tx: Tx, jti_hash: bytes, expires_at: datetime) -> bool:
    """Use up an assertion or proof of the current client; false when any request has used it before."""
    used = await tx.fetchval(
        """
        INSERT INTO used_assertions (jti_hash, client_id, expires_at) VALUES ($1, current_client(), $2)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        jti_hash,
        expires_at,
    )
    return bool(used)


async def delete_expired(tx: Tx, now: datetime) -> None:
    """Forget assertions that nobody would accept any more."""
    await tx.execute("DELETE FROM used_assertions WHERE expires_at < $1", now)


async def tenant_of(tx: Tx, digest: bytes) -> UUID | None:
    """Return the tenant of a code or refresh token by its hash, of all tenants."""
    client_id: UUID | None = await tx.fetchval(
        """
        SELECT client_id FROM authorization_codes WHERE code_hash = $1
        UNION ALL SELECT client_id FROM device_codes WHERE code_hash = $1
        UNION ALL SELECT client_id FROM refresh_tokens WHERE token_hash = $1
        LIMIT 1
        """,
        digest,
    )
    return client_id


async def live_refresh_token(
    tx: Tx, token_hash: bytes, app_id: str, now: datetime
) -> LiveRefreshToken | None:
    """Return an app's refresh token that would be accepted now."""
    row = await tx.fetchrow(
        """
        SELECT s.id AS session_id, s.user_id, s.scope, s.cnf_jkt AS jkt, t.created_at,
               least(t.expires_at, s.expires_at) AS expires_at
        FROM refresh_tokens AS t
        JOIN sessions AS s ON s.id = t.session_id
        JOIN users AS u ON u.client_id = s.client_id AND u.user_id = s.user_id
        WHERE t.token_hash = $1 AND t.client_id = current_client() AND s.app_id = $2 AND t.used_at IS NULL
          AND t.expires_at > $3 AND s.ended_at IS NULL AND s.expires_at > $3 AND u.status = 'active'
        """,
        token_hash,
        app_id,
        now,
    )
    return LiveRefreshToken(**row) if row else None
