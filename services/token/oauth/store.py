"""The statements on used assertions, and the one that finds whose a code or token is."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx


async def use_assertion(tx: Tx, jti_hash: bytes, expires_at: datetime) -> bool:
    """Use up an assertion of the current client; false when it was used before, by whichever request."""
    used = await tx.fetchval(
        """
        INSERT INTO used_assertions (jti_hash, client_id, expires_at) VALUES ($1, current_client(), $2)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        jti_hash,
        expires_at,
    )
    return bool(used)


async def use_proof(tx: Tx, name: bytes, owner: UUID, expires_at: datetime) -> bool:
    """Use up a proof of possession, in a transaction that spans tenants; false when it was used before."""
    used = await tx.fetchval(
        """
        INSERT INTO used_assertions (jti_hash, client_id, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        name,
        owner,
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
