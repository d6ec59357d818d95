"""Every statement of the sessions slice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.database import Tx
from contracts.gen.internal.identity.v1 import users_pb2
from services.token.sessions.models import (
    Grant,
    LiveSession,
    NewSession,
    Session,
    TokenUse,
    UsedToken,
)

ACTIVE = "active"
"""The only status of a user that may have sessions."""

DELETED = "deleted"
LAST_VERSION = 2**63 - 1
"""Of a user that is no more: no news of it can be newer."""


async def open_session(
    tx: Tx, session: NewSession, user: users_pb2.User, token_hash: bytes | None
) -> tuple[users_pb2.User, int] | None:
    """Open a session of the tenant, unless the user is known not to be active.

    Without a token hash it cannot be renewed.
    Takes over the given copy of the user when it is the newer one, and returns the newest, with the session's
    place in the status lists. The user's row stays locked to the end of the transaction: `put_user` comes
    before or after, never in between.
    """
    row = await tx.fetchrow(
        """
        WITH account AS (
            INSERT INTO users AS u (client_id, user_id, version, status, message)
            VALUES (current_client(), $1, $2, $3, $4)
            ON CONFLICT (client_id, user_id) DO UPDATE
            SET version = greatest(u.version, EXCLUDED.version),
                status = CASE WHEN EXCLUDED.version >= u.version THEN EXCLUDED.status ELSE u.status END,
                message = CASE WHEN EXCLUDED.version >= u.version THEN EXCLUDED.message ELSE u.message END
            RETURNING status, message
        ), opened AS (
            INSERT INTO sessions (id, client_id, user_id, created_at, last_used_at, expires_at,
                                  absolute_expires_at, ip, user_agent, amr, acr, impersonator_id,
                                  status_index)
            SELECT $5, current_client(), $1, $6, $6, $7, $8, $9, $10, $11, $12, $14,
                   nextval('status_indices')
            FROM account WHERE status = 'active'
            RETURNING id, status_index
        ), token AS (
            INSERT INTO refresh_tokens (token_hash, client_id, session_id, created_at, expires_at)
            SELECT $13::bytea, current_client(), id, $6, $7 FROM opened WHERE $13::bytea IS NOT NULL
        )
        SELECT message, status_index FROM account, opened
        """,
        session.user_id,
        user.version,
        user.status,
        user.SerializeToString(),
        session.id,
        session.created_at,
        session.expires_at,
        session.absolute_expires_at,
        session.ip,
        session.user_agent,
        list(session.amr),
        session.acr,
        token_hash,
        session.impersonator_id,
    )
    return None if row is None else (users_pb2.User.FromString(row["message"]), row["status_index"])


async def rotate(
    tx: Tx, uses: Sequence[TokenUse], now: datetime, expires_at: datetime
) -> dict[bytes, LiveSession]:
    """Use unused refresh tokens: each one's successor takes its place, and its session is prolonged.

    Returns the sessions by token hash; a token that opens nothing is missing, and nothing of it has changed
    but, for the loser of a race, the time of last use. Of any number of transactions that present one token
    at once, exactly one gets the session: the token's row is the arbiter, because an UPDATE that waited for
    another looks again whether `used_at` is still null. No token may be named twice.
    """
    rows = await tx.fetch(
        """
        WITH presented AS (
            SELECT use.*, t.session_id
            FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $6::text[], $7::text[], $8::bool[],
                        $9::text[])
                 AS use(token_hash, seed, successor_hash, app_id, jkt, is_confidential, audiences)
            JOIN refresh_tokens AS t ON t.token_hash = use.token_hash
            WHERE t.client_id = current_client() AND t.used_at IS NULL AND t.expires_at > $4
        ), locked AS (
            -- In one order, so that two of these never wait for each other.
            SELECT s.id FROM sessions AS s WHERE s.id IN (SELECT session_id FROM presented)
            ORDER BY s.id FOR UPDATE
        ), live AS (
            UPDATE sessions AS s
            SET last_used_at = $4, expires_at = least(s.absolute_expires_at, $5),
                status_index = coalesce(s.status_index, nextval('status_indices'))
            FROM locked AS l, presented AS p, users AS u
            WHERE s.id = l.id AND s.id = p.session_id AND s.ended_at IS NULL AND s.expires_at > $4
              AND u.client_id = s.client_id AND u.user_id = s.user_id AND u.status = 'active'
              AND s.app_id IS NOT DISTINCT FROM p.app_id
              AND (s.cnf_jkt IS NULL OR s.cnf_jkt = p.jkt OR (p.is_confidential AND p.jkt IS NOT NULL))
              AND (coalesce(cardinality(s.audience), 0) = 0
                   OR s.audience && string_to_array(p.audiences, ' '))
            RETURNING p.token_hash, p.seed, p.successor_hash,
                      s.id, s.user_id, coalesce(s.auth_time, s.created_at) AS auth_time, s.expires_at, s.amr,
                      s.acr, s.app_id, s.parent_id, s.scope, s.audience, s.cnf_jkt, s.requested_claims,
                      u.message, s.status_index
        ), used AS (
            UPDATE refresh_tokens AS t
            SET used_at = clock_timestamp(), seed = live.seed, successor_hash = live.successor_hash
            FROM live WHERE t.token_hash = live.token_hash AND t.used_at IS NULL
            RETURNING t.token_hash
        ), successor AS (
            INSERT INTO refresh_tokens (token_hash, client_id, session_id, created_at, expires_at)
            SELECT live.successor_hash, current_client(), live.id, $4, live.expires_at
            FROM live JOIN used ON used.token_hash = live.token_hash
        )
        SELECT live.* FROM live JOIN used ON used.token_hash = live.token_hash
        """,
        [use.token_hash for use in uses],
        [use.seed for use in uses],
        [use.successor_hash for use in uses],
        now,
        expires_at,
        [use.holder.app_id for use in uses],
        [use.holder.jkt for use in uses],
        [use.holder.is_confidential for use in uses],
        [" ".join(use.holder.audiences) for use in uses],
    )
    return {row["token_hash"]: live(row) for row in rows}


async def used_token(
    tx: Tx, token_hash: bytes, app_id: str | None, grace: timedelta, now: datetime
) -> UsedToken | None:
    """Return what is known of a holder's used refresh token whose session still lives; None without such.

    The grace goes by the database's clock alone: those of the processes may differ by more than it lasts.
    """
    row = await tx.fetchrow(
        """
        SELECT t.session_id, t.seed, clock_timestamp() - t.used_at < $3::interval AS is_within_grace,
               coalesce(n.used_at IS NOT NULL, true) AS successor_used
        FROM refresh_tokens AS t
        JOIN sessions AS s ON s.id = t.session_id
        LEFT JOIN refresh_tokens AS n ON n.token_hash = t.successor_hash
        WHERE t.token_hash = $1 AND t.client_id = current_client() AND t.used_at IS NOT NULL
          AND s.ended_at IS NULL AND s.expires_at > $2 AND s.app_id IS NOT DISTINCT FROM $4
        """,
        token_hash,
        now,
        grace,
        app_id,
    )
    if row is None:
        return None
    return UsedToken(row["session_id"], row["seed"], row["is_within_grace"], row["successor_used"])


async def live_session(tx: Tx, session_id: UUID, now: datetime) -> LiveSession | None:
    """Return a session of an active user that has neither ended nor expired."""
    row = await tx.fetchrow(
        """
        SELECT s.id, s.user_id, coalesce(s.auth_time, s.created_at) AS auth_time, s.expires_at, s.amr, s.acr,
               s.app_id, s.parent_id, s.scope, s.audience, s.cnf_jkt, s.requested_claims,
               u.message, s.status_index
        FROM sessions AS s JOIN users AS u ON u.client_id = s.client_id AND u.user_id = s.user_id
        WHERE s.id = $1 AND s.client_id = current_client() AND s.ended_at IS NULL AND s.expires_at > $2
          AND u.status = 'active'
        """,
        session_id,
        now,
    )
    return live(row) if row else None


async def session_of_token(tx: Tx, token_hash: bytes, app_id: str | None = None) -> UUID | None:
    """Return the session of an app's refresh token, used or not; without an app, of a login's."""
    session_id: UUID | None = await tx.fetchval(
        """
        SELECT t.session_id FROM refresh_tokens AS t JOIN sessions AS s ON s.id = t.session_id
        WHERE t.token_hash = $1 AND t.client_id = current_client() AND s.app_id IS NOT DISTINCT FROM $2
        """,
        token_hash,
        app_id,
    )
    return session_id


async def grant_of_token(tx: Tx, token_hash: bytes, app_id: str) -> Grant | None:
    """Return what an app's refresh token, used or not, was granted."""
    row = await tx.fetchrow(
        """
        SELECT s.app_id, s.parent_id, s.scope, s.audience, s.cnf_jkt, s.requested_claims
        FROM refresh_tokens AS t JOIN sessions AS s ON s.id = t.session_id
        WHERE t.token_hash = $1 AND t.client_id = current_client() AND s.app_id = $2
        """,
        token_hash,
        app_id,
    )
    return _grant(row) if row else None


async def put_user(tx: Tx, user_id: UUID, user: users_pb2.User) -> bool:
    """Take over a copy of a user; false, and nothing changed, when a newer one is known."""
    taken: bool | None = await tx.fetchval(
        """
        INSERT INTO users AS u (client_id, user_id, version, status, message)
        VALUES (current_client(), $1, $2, $3, $4)
        ON CONFLICT (client_id, user_id) DO UPDATE
        SET version = EXCLUDED.version, status = EXCLUDED.status, message = EXCLUDED.message
        WHERE u.version <= EXCLUDED.version
        RETURNING true
        """,
        user_id,
        user.version,
        user.status,
        user.SerializeToString(),
    )
    return bool(taken)


async def list_sessions(
    tx: Tx, user_id: UUID, now: datetime, *, before: UUID | None, limit: int
) -> list[Session]:
    """Return a user's live sessions, newest first, older than `before`."""
    rows = await tx.fetch(
        """
        SELECT id, created_at, last_used_at, expires_at, ip, user_agent, amr, impersonator_id FROM sessions
        WHERE client_id = current_client() AND user_id = $1 AND ended_at IS NULL AND expires_at > $2
          AND app_id IS NULL AND ($3::uuid IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4
        """,
        user_id,
        now,
        before,
        limit,
    )
    return [Session(**{**dict(row), "amr": tuple(row["amr"])}) for row in rows]


async def prune(tx: Tx, after: UUID, expired_before: datetime, now: datetime, limit: int) -> UUID | None:
    """Look through the next `limit` sessions by id and delete what is over; the last id, None at the end.

    Deletes sessions that ended or expired before `expired_before`, with their tokens, and of the others the
    refresh tokens that have expired.
    """
    rows = await tx.fetch(
        "SELECT id, least(expires_at, ended_at) AS over_at FROM sessions WHERE id > $1 ORDER BY id LIMIT $2",
        after,
        limit,
    )
    over = [row["id"] for row in rows if row["over_at"] < expired_before]
    await _delete(tx, over, [row["id"] for row in rows if row["over_at"] >= expired_before], now)
    return rows[-1]["id"] if len(rows) == limit else None


async def _delete(tx: Tx, over: Sequence[UUID], going_on: Sequence[UUID], now: datetime) -> None:
    if over:
        await tx.execute("DELETE FROM sessions WHERE id = ANY($1)", over)
    if going_on:
        await tx.execute(
            "DELETE FROM refresh_tokens WHERE session_id = ANY($1) AND expires_at < $2", going_on, now
        )


def live(row: asyncpg.Record) -> LiveSession:
    """Decode a session that lives, and its user."""
    return LiveSession(
        id=row["id"],
        user_id=row["user_id"],
        auth_time=row["auth_time"],
        expires_at=row["expires_at"],
        amr=tuple(row["amr"]),
        acr=row["acr"],
        user=users_pb2.User.FromString(row["message"]),
        status_index=row["status_index"],
        grant=_grant(row) if row["app_id"] is not None else None,
    )


def _grant(row: asyncpg.Record) -> Grant:
    return Grant(
        app_id=row["app_id"],
        parent_id=row["parent_id"],
        scope=row["scope"],
        audience=tuple(row["audience"]),
        jkt=row["cnf_jkt"],
        requested_claims=row["requested_claims"],
    )


async def owners(tx: Tx, session_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Return whose sessions those are, of all clients."""
    rows = await tx.fetch("SELECT id, user_id FROM sessions WHERE id = ANY($1::uuid[])", list(session_ids))
    return {row["id"]: row["user_id"] for row in rows}


async def forget_user(tx: Tx, user_id: UUID, nobody: users_pb2.User) -> None:
    """Put the copy of a deleted user in the place of whatever was known of it."""
    await tx.execute(
        """
        INSERT INTO users (client_id, user_id, version, status, message)
        VALUES (current_client(), $1, $2, $3, $4)
        ON CONFLICT (client_id, user_id) DO UPDATE
        SET version = EXCLUDED.version, status = EXCLUDED.status, message = EXCLUDED.message
        """,
        user_id,
        nobody.version,
        nobody.status,
        nobody.SerializeToString(),
    )


async def erase_origins(tx: Tx, user_id: UUID) -> None:
    """Erase from where a user's sessions were used."""
    await tx.execute(
        "UPDATE sessions SET ip = '', user_agent = '' WHERE user_id = $1 AND client_id = current_client()",
        user_id,
    )
