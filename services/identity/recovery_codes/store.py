"""Every statement on recovery codes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.identity.recovery_codes.models import CodesLeft


async def insert(tx: Tx, user_id: UUID, hashes: Sequence[bytes], key_id: bytes, now: datetime) -> None:
    """Store the codes of a user who has none."""
    await tx.execute(
        """
        INSERT INTO recovery_codes (user_id, client_id, code_hash, generated_at, key_id)
        SELECT $1, current_client(), code_hash, $3, $4 FROM unnest($2::bytea[]) AS code_hash
        """,
        user_id,
        list(hashes),
        now,
        key_id,
    )


async def use(tx: Tx, user_id: UUID, hashes: Sequence[bytes], now: datetime) -> bool:
    """Use up the code that has one of these hashes; false when there is none left: of all, one is first."""
    used = await tx.fetchval(
        """
        UPDATE recovery_codes SET used_at = $3
        WHERE user_id = $1 AND client_id = current_client() AND code_hash = ANY($2::bytea[])
          AND used_at IS NULL
        RETURNING true
        """,
        user_id,
        list(hashes),
        now,
    )
    return bool(used)


async def left(tx: Tx, user_id: UUID) -> CodesLeft:
    """Return how many a user has left."""
    row = await tx.fetchrow(
        """
        SELECT count(*) FILTER (WHERE used_at IS NULL) AS remaining, max(generated_at) AS generated_at
        FROM recovery_codes WHERE user_id = $1 AND client_id = current_client()
        """,
        user_id,
    )
    return CodesLeft(row["remaining"], row["generated_at"]) if row else CodesLeft(0, None)


async def delete(tx: Tx, user_id: UUID) -> None:
    """Remove a user's codes."""
    await tx.execute(
        "DELETE FROM recovery_codes WHERE user_id = $1 AND client_id = current_client()", user_id
    )
