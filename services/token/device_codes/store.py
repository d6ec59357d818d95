"""Every statement on device codes."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.token.device_codes.models import DeviceCodeStatus, DeviceRequest, Poll
from services.token.grants.models import Authorization


async def insert(
    tx: Tx, code_hash: bytes, user_code_hash: bytes, request: DeviceRequest, now: datetime, interval: int
) -> bool:
    """Keep a request of the current client; false when another goes by this user code."""
    inserted = await tx.fetchval(
        """
        INSERT INTO device_codes (code_hash, user_code_hash, client_id, app_id, scope, audience, ip,
                                  user_agent, created_at, expires_at, interval_seconds, status)
        VALUES ($1, $2, current_client(), $3, $4, $5, $6, $7, $8, $9, $10, 'waiting')
        ON CONFLICT (user_code_hash) DO NOTHING RETURNING true
        """,
        code_hash,
        user_code_hash,
        request.app_id,
        request.scope,
        list(request.audience),
        request.ip,
        request.user_agent,
        now,
        request.expires_at,
        interval,
    )
    return bool(inserted)


async def find_waiting(tx: Tx, user_code_hash: bytes, now: datetime) -> DeviceRequest | None:
    """Return the request of any client that waits under a user code."""
    row = await tx.fetchrow(
        """
        SELECT client_id, app_id, scope, audience, ip, user_agent, expires_at FROM device_codes
        WHERE user_code_hash = $1 AND status = 'waiting' AND expires_at > $2
        """,
        user_code_hash,
        now,
    )
    return _request(row) if row else None


async def approve(tx: Tx, user_code_hash: bytes, authorization: Authorization, now: datetime) -> bool:
    """Let a request of the current client that waits have what its user granted; once."""
    approved = await tx.fetchval(
        """
        UPDATE device_codes
        SET status = 'approved', scope = $4, audience = $5, user_id = $6, parent_id = $7
        WHERE user_code_hash = $1 AND client_id = current_client() AND app_id = $2 AND status = 'waiting'
          AND expires_at > $3
        RETURNING true
        """,
        user_code_hash,
        authorization.app_id,
        now,
        authorization.scope,
        list(authorization.audience),
        authorization.user_id,
        authorization.parent_id,
    )
    return bool(approved)


async def refuse(tx: Tx, user_code_hash: bytes, now: datetime) -> bool:
    """Refuse a request of the current client that waits; once."""
    refused = await tx.fetchval(
        """
        UPDATE device_codes SET status = 'refused'
        WHERE user_code_hash = $1 AND client_id = current_client() AND status = 'waiting' AND expires_at > $2
        RETURNING true
        """,
        user_code_hash,
        now,
    )
    return bool(refused)


async def poll(
    tx: Tx, code_hash: bytes, app_id: str, session_id: UUID, now: datetime, tolerance: timedelta
) -> Poll | None:
    """Note a question of a device, and redeem its code for `session_id` once it is approved.

    Of all that ask at once, one redeems it. Who asks sooner than the interval allows, less `tolerance`,
    has to wait five seconds longer each time from then on.
    """
    row = await tx.fetchrow(
        """
        WITH before AS (
            SELECT code_hash, status, expires_at <= $4 AS is_expired,
                   coalesce(polled_at > $4 - make_interval(secs => interval_seconds) + $5::interval, false)
                       AS is_too_soon
            FROM device_codes WHERE code_hash = $1 AND client_id = current_client() AND app_id = $2
            FOR UPDATE
        )
        UPDATE device_codes AS d
        SET polled_at = $4,
            interval_seconds = least(d.interval_seconds + CASE WHEN b.is_too_soon THEN 5 ELSE 0 END, 300),
            status = CASE WHEN b.status = 'approved' AND NOT b.is_expired AND NOT b.is_too_soon
                          THEN 'redeemed' ELSE d.status END,
            session_id = CASE WHEN b.status = 'approved' AND NOT b.is_expired AND NOT b.is_too_soon
                              THEN $3 ELSE d.session_id END
        FROM before AS b WHERE d.code_hash = b.code_hash
        RETURNING b.status AS was, b.is_expired, b.is_too_soon, d.session_id = $3 AS is_redeemed, d.client_id,
                  d.app_id, d.user_id, d.parent_id, d.scope, d.audience
        """,
        code_hash,
        app_id,
        session_id,
        now,
        tolerance,
    )
    if row is None:
        return None
    authorization = None
    if row["is_redeemed"]:
        authorization = Authorization(
            client_id=row["client_id"],
            app_id=row["app_id"],
            user_id=row["user_id"],
            parent_id=row["parent_id"],
            scope=row["scope"],
            audience=tuple(row["audience"]),
            nonce="",
            requested_claims="",
        )
    return Poll(DeviceCodeStatus(row["was"]), row["is_expired"], row["is_too_soon"], authorization)


async def purge(tx: Tx, before: datetime) -> None:
    """Forget requests that expired before a time, of all clients."""
    await tx.execute("DELETE FROM device_codes WHERE expires_at < $1", before)


def _request(row: asyncpg.Record) -> DeviceRequest:
    return DeviceRequest(
        client_id=row["client_id"],
        app_id=row["app_id"],
        scope=row["scope"],
        audience=tuple(row["audience"]),
        ip=row["ip"],
        user_agent=row["user_agent"],
        expires_at=row["expires_at"],
    )
