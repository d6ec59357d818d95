"""The statement that records a login."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Tx


@dataclass(frozen=True, slots=True)
class LoginEntry:
    """A login as its history keeps it."""

    id: UUID
    method: str
    session_id: UUID
    device_id: UUID | None
    network: str
    user_agent: str
    country: str | None
    latitude: float | None
    longitude: float | None
    risk_level: str
    signals: tuple[str, ...]


async def record(tx: Tx, user_id: UUID, auth_epoch: int, now: datetime, entry: LoginEntry) -> bool:
    """Note a login; false for a user who was suspended, or whose proofs became void, since it was proven."""
    recorded = await tx.fetchval(
        """
        WITH recorded AS (
            UPDATE users SET last_login_at = $3
            WHERE id = $1 AND client_id = current_client() AND status = 'active' AND auth_epoch = $2
            RETURNING id
        )
        INSERT INTO login_history (id, client_id, user_id, at, method, session_id, device_id, network,
                                   user_agent, country, latitude, longitude, risk_level, signals)
        SELECT $4, current_client(), id, $3, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 FROM recorded
        RETURNING true
        """,
        user_id,
        auth_epoch,
        now,
        entry.id,
        entry.method,
        entry.session_id,
        entry.device_id,
        entry.network,
        entry.user_agent,
        entry.country,
        entry.latitude,
        entry.longitude,
        entry.risk_level,
        entry.signals,
    )
    return bool(recorded)
