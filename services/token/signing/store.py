"""Every statement of the signing slice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Tx
from services.token.signing.algorithms import Algorithm, KeyPair
from services.token.signing.models import (
    ISSUER_ID,
    DueKey,
    KeyStatus,
    NextKey,
    SealedKey,
    SigningKey,
)


async def lock_client(tx: Tx) -> None:
    """Let one rotation of a client's keys happen at a time; held to the end of the transaction."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(current_client()::text, 0))")


async def active_key(tx: Tx, algorithm: Algorithm) -> SealedKey | None:
    """Return the key that signs the tenant's tokens."""
    row = await tx.fetchrow(
        """
        SELECT kid, sealed FROM signing_keys
        WHERE client_id = current_client() AND alg = $1 AND status = 'active'
        """,
        str(algorithm),
    )
    return SealedKey(row["kid"], row["sealed"]) if row else None


async def missing_keys(tx: Tx, algorithm: Algorithm) -> list[KeyStatus]:
    """Return which of the tenant's active and next keys do not exist yet."""
    rows = await tx.fetch(
        "SELECT status FROM signing_keys WHERE client_id = current_client() AND alg = $1", str(algorithm)
    )
    found = {row["status"] for row in rows}
    return [status for status in (KeyStatus.ACTIVE, KeyStatus.NEXT) if status not in found]


async def insert_key(
    tx: Tx, algorithm: Algorithm, status: KeyStatus, pair: KeyPair, sealed: bytes, now: datetime
) -> bool:
    """Store a key pair in a place that is free; false when another process was first."""
    inserted: bool | None = await tx.fetchval(
        """
        INSERT INTO signing_keys (kid, client_id, alg, status, public_jwk, sealed, created_at, activated_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, CASE WHEN $3 = 'active' THEN $6::timestamptz END)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        pair.kid,
        str(algorithm),
        str(status),
        json.dumps(pair.public_jwk, separators=(",", ":")),
        sealed,
        now,
    )
    return bool(inserted)


async def next_key(tx: Tx, algorithm: Algorithm) -> NextKey | None:
    """Return the published key that is to take over."""
    row = await tx.fetchrow(
        """
        SELECT kid, created_at FROM signing_keys
        WHERE client_id = current_client() AND alg = $1 AND status = 'next'
        """,
        str(algorithm),
    )
    return NextKey(row["kid"], row["created_at"]) if row else None


async def retire_active(tx: Tx, algorithm: Algorithm, retires_at: datetime) -> str | None:
    """Stop the active key from signing, destroy its private half, and return its name."""
    kid: str | None = await tx.fetchval(
        """
        UPDATE signing_keys SET status = 'retiring', retires_at = $2, sealed = NULL
        WHERE client_id = current_client() AND alg = $1 AND status = 'active' RETURNING kid
        """,
        str(algorithm),
        retires_at,
    )
    return kid


async def activate(tx: Tx, kid: str, now: datetime) -> None:
    """Make the next key the one that signs."""
    await tx.execute(
        """
        UPDATE signing_keys SET status = 'active', activated_at = $2
        WHERE client_id = current_client() AND kid = $1
        """,
        kid,
        now,
    )


async def is_active(tx: Tx, kid: str) -> bool:
    """Whether the tenant's key is the one that signs."""
    found: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM signing_keys "
        "WHERE client_id = current_client() AND kid = $1 AND status = 'active')",
        kid,
    )
    return found


async def algorithm_of_key(tx: Tx, kid: str) -> Algorithm | None:
    """Return what the tenant's key is for; None when there is no such key."""
    found: str | None = await tx.fetchval(
        "SELECT alg FROM signing_keys WHERE client_id = current_client() AND kid = $1", kid
    )
    return Algorithm(found) if found is not None else None


async def delete_key(tx: Tx, kid: str) -> KeyStatus | None:
    """Destroy the tenant's key and return where it stood; None when another was first."""
    found: str | None = await tx.fetchval(
        "DELETE FROM signing_keys WHERE client_id = current_client() AND kid = $1 RETURNING status", kid
    )
    return KeyStatus(found) if found is not None else None


async def delete_next(tx: Tx, algorithm: Algorithm) -> None:
    """Destroy the key that was to take over."""
    await tx.execute(
        "DELETE FROM signing_keys WHERE client_id = current_client() AND alg = $1 AND status = 'next'",
        str(algorithm),
    )


async def names(tx: Tx, algorithm: Algorithm) -> tuple[str | None, str | None]:
    """Return the names of the tenant's active and next key."""
    rows = await tx.fetch(
        "SELECT status, kid FROM signing_keys WHERE client_id = current_client() AND alg = $1", str(algorithm)
    )
    by_status = {row["status"]: row["kid"] for row in rows}
    return by_status.get(KeyStatus.ACTIVE), by_status.get(KeyStatus.NEXT)


async def all_keys(tx: Tx, default_seconds: int, now: datetime) -> list[SigningKey]:
    """Return the tenant's keys: those that sign first, then the next ones, then the retiring."""
    rows = await tx.fetch(
        """
        SELECT kid, alg, status, created_at, activated_at, retires_at,
            CASE WHEN status = 'active' AND coalesce(p.seconds, $1) > 0 THEN
                activated_at + make_interval(
                    secs => coalesce(p.seconds, $1) * (1 - abs(hashtext(kid) % 1000) / 10000.0)
                )
            END AS due_at
        FROM signing_keys LEFT JOIN key_rotation_periods AS p USING (client_id)
        WHERE client_id = current_client() AND (status <> 'retiring' OR retires_at > $2)
        ORDER BY status = 'retiring', status = 'next', alg, created_at DESC, kid
        """,
        default_seconds,
        now,
    )
    return [SigningKey(**{**row, "status": KeyStatus(row["status"])}) for row in rows]


async def put_rotation_period(tx: Tx, seconds: int | None) -> None:
    """Store the tenant's own period of rotation; None forgets it."""
    if seconds is None:
        await tx.execute("DELETE FROM key_rotation_periods WHERE client_id = current_client()")
        return
    await tx.execute(
        """
        INSERT INTO key_rotation_periods (client_id, seconds) VALUES (current_client(), $1)
        ON CONFLICT (client_id) DO UPDATE SET seconds = excluded.seconds
        """,
        seconds,
    )


async def claim_due(
    tx: Tx, now: datetime, claim: timedelta, default_seconds: int, limit: int
) -> list[DueKey]:
    """Claim keys that have signed for their period, less up to a tenth of it; the oldest first."""
    rows = await tx.fetch(
        """
        WITH due AS MATERIALIZED (
            SELECT k.kid FROM signing_keys AS k LEFT JOIN key_rotation_periods AS p USING (client_id)
            WHERE k.status = 'active' AND (k.claimed_until IS NULL OR k.claimed_until <= $1)
                AND coalesce(p.seconds, $3) > 0
                AND k.activated_at + make_interval(
                    secs => coalesce(p.seconds, $3) * (1 - abs(hashtext(k.kid) % 1000) / 10000.0)
                ) <= $1
            ORDER BY k.activated_at LIMIT $4 FOR UPDATE OF k SKIP LOCKED
        )
        UPDATE signing_keys AS k SET claimed_until = $1::timestamptz + $2::interval
        FROM due WHERE k.kid = due.kid RETURNING k.kid, k.client_id, k.alg
        """,
        now,
        claim,
        default_seconds,
        limit,
    )
    return [DueKey(row["kid"], row["client_id"], Algorithm(row["alg"])) for row in rows]


async def oldest_active(tx: Tx) -> dict[str, datetime | None]:
    """Return since when the oldest active key of clients, and that of the issuer, signs."""
    row = await tx.fetchrow(
        """
        SELECT min(activated_at) FILTER (WHERE client_id <> $1) AS client,
            min(activated_at) FILTER (WHERE client_id = $1) AS issuer
        FROM signing_keys WHERE status = 'active'
        """,
        ISSUER_ID,
    )
    return dict(row) if row is not None else {}


async def has_more_owners(tx: Tx, most: int) -> bool:
    """Whether more than `most` clients and the issuer have keys; looks no further than that."""
    found: bool = await tx.fetchval(
        "SELECT count(*) > $1 FROM (SELECT DISTINCT client_id FROM signing_keys LIMIT $1 + 1) AS owners",
        most,
    )
    return found


async def published_jwks(tx: Tx, owners: Sequence[UUID] | None, now: datetime) -> list[str]:
    """Return public JWKs of some owners, or of all: next, active, retiring while tokens of theirs live."""
    rows = await tx.fetch(
        """
        SELECT public_jwk FROM signing_keys
        WHERE ($1::uuid[] IS NULL OR client_id = ANY($1)) AND (status <> 'retiring' OR retires_at > $2)
        ORDER BY created_at, kid
        """,
        owners,
        now,
    )
    return [row["public_jwk"] for row in rows]


async def delete_retired(tx: Tx, now: datetime) -> int:
    """Forget the retiring keys whose last token has expired; how many."""
    tag = await tx.execute("DELETE FROM signing_keys WHERE status = 'retiring' AND retires_at <= $1", now)
    return int(tag.split()[-1])


async def active_secret(tx: Tx) -> SealedKey | None:
    """Return the tenant's HS256 secret."""
    row = await tx.fetchrow(
        "SELECT kid, sealed FROM jwt_secrets WHERE client_id = current_client() AND status = 'active'"
    )
    return SealedKey(row["kid"], row["sealed"]) if row else None


async def insert_secret(tx: Tx, secret: SealedKey, now: datetime) -> bool:
    """Store a secret when there is none; false when another process was first."""
    inserted: bool | None = await tx.fetchval(
        """
        INSERT INTO jwt_secrets (kid, client_id, status, sealed, created_at)
        VALUES ($1, current_client(), 'active', $2, $3) ON CONFLICT DO NOTHING RETURNING true
        """,
        secret.kid,
        secret.sealed,
        now,
    )
    return bool(inserted)


async def revoke_secret(tx: Tx, now: datetime) -> str | None:
    """Destroy the tenant's secret and return its name, or None when there was none."""
    kid: str | None = await tx.fetchval(
        """
        UPDATE jwt_secrets SET status = 'revoked', revoked_at = $1, sealed = NULL
        WHERE client_id = current_client() AND status = 'active' RETURNING kid
        """,
        now,
    )
    return kid


async def delete_revoked_secrets(tx: Tx, before: datetime) -> None:
    """Forget the names of secrets that were revoked long ago."""
    await tx.execute("DELETE FROM jwt_secrets WHERE status = 'revoked' AND revoked_at <= $1", before)


async def seal_check(tx: Tx, fresh: bytes) -> bytes:
    """Return the sealed check value; the first process stores `fresh`."""
    await tx.execute("INSERT INTO seal_check (id, sealed) VALUES (1, $1) ON CONFLICT DO NOTHING", fresh)
    sealed: bytes = await tx.fetchval("SELECT sealed FROM seal_check WHERE id = 1")
    return sealed
