"""Every statement of validation: reads only, each for many calls at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.token.validation.models import LivingSession, StoredKey


async def public_keys(tx: Tx, kids: Sequence[str], now: datetime) -> list[StoredKey]:
    """Return the published keys with these names, of whichever client."""
    rows = await tx.fetch(
        """
        SELECT kid, client_id, public_jwk FROM signing_keys
        WHERE kid = ANY($1) AND (status <> 'retiring' OR retires_at > $2)
        """,
        kids,
        now,
    )
    return [StoredKey(row["kid"], row["client_id"], row["public_jwk"]) for row in rows]


async def secrets(tx: Tx, kids: Sequence[str]) -> list[StoredKey]:
    """Return the living JWT secrets with these names, sealed, of whichever client."""
    rows = await tx.fetch(
        "SELECT kid, client_id, sealed FROM jwt_secrets WHERE kid = ANY($1) AND status = 'active'", kids
    )
    return [StoredKey(row["kid"], row["client_id"], row["sealed"]) for row in rows]


async def standing(
    tx: Tx, session_ids: Collection[UUID], refs: Collection[str], now: datetime
) -> tuple[dict[UUID, LivingSession], dict[tuple[str, str, str], int]]:
    """Return which sessions live, with whose they are and what for, and what is revoked.

    What is revoked is (client, kind, ref) → the last dead second of `iat`.

    A machine's session is the secret its token was got with, or its account: alive while both are.
    """
    rows = await tx.fetch(
        """
        SELECT id AS session_id, user_id AS owner, audience, app_id IS NOT NULL AS is_grant,
               NULL::uuid AS client_id, NULL AS kind, NULL AS ref, NULL::timestamptz AS not_after
        FROM sessions
        WHERE id = ANY($1) AND ended_at IS NULL AND expires_at > $3
        UNION ALL
        SELECT k.id, a.id, NULL, false, NULL, NULL, NULL, NULL
        FROM service_account_keys AS k JOIN service_accounts AS a ON a.id = k.service_account_id
        WHERE k.id = ANY($1) AND k.revoked_at IS NULL AND a.status = 'active'
        UNION ALL
        SELECT id, id, NULL, false, NULL, NULL, NULL, NULL FROM service_accounts
        WHERE id = ANY($1) AND status = 'active'
        UNION ALL
        SELECT NULL, NULL, NULL, false, client_id, kind, ref, not_after FROM revocations
        WHERE ref = ANY($2) AND expires_at > $3
        """,
        list(session_ids),
        list(refs),
        now,
    )
    living: dict[UUID, LivingSession] = {}
    revoked: dict[tuple[str, str, str], int] = {}
    for session_id, owner, audience, is_grant, client_id, kind, ref, not_after in rows:
        if session_id is not None:
            living[session_id] = LivingSession(str(owner), is_grant, tuple(audience or ()))
        else:
            last_second = int(not_after.timestamp())
            named = str(client_id), kind, ref
            revoked[named] = max(last_second, revoked.get(named, last_second))
    return living, revoked
