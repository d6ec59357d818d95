"""Every statement on authorization codes, and the one that opens a grant."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.token.grants.models import Authorization, CodeBinding, NewGrant, StoredCode
from services.token.sessions import store as sessions_store
from services.token.sessions.models import EndedSession, LiveSession


async def insert_code(
    tx: Tx,
    code_hash: bytes,
    authorization: Authorization,
    binding: CodeBinding,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Keep what a code of the current client stands for."""
    await tx.execute(
        """
        INSERT INTO authorization_codes (code_hash, client_id, app_id, user_id, parent_id, scope, audience,
            nonce, requested_claims, redirect_uri, code_challenge, dpop_jkt, created_at, expires_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        code_hash,
        authorization.app_id,
        authorization.user_id,
        authorization.parent_id,
        authorization.scope,
        list(authorization.audience),
        authorization.nonce,
        authorization.requested_claims,
        binding.redirect_uri,
        binding.code_challenge,
        binding.dpop_jkt,
        now,
        expires_at,
    )


async def find_code(tx: Tx, code_hash: bytes, app_id: str) -> StoredCode | None:
    """Return a code of an app of the current client, used or not."""
    row = await tx.fetchrow(
        """
        SELECT * FROM authorization_codes
        WHERE code_hash = $1 AND client_id = current_client() AND app_id = $2
        """,
        code_hash,
        app_id,
    )
    return _code(row) if row else None


async def use_code(tx: Tx, code_hash: bytes, session_id: UUID, now: datetime) -> bool:
    """Use a code up for a session: of all who ask, one gets true."""
    used = await tx.fetchval(
        """
        UPDATE authorization_codes SET session_id = $2
        WHERE code_hash = $1 AND client_id = current_client() AND session_id IS NULL AND expires_at > $3
        RETURNING true
        """,
        code_hash,
        session_id,
        now,
    )
    return bool(used)


async def purge_codes(tx: Tx, before: datetime) -> None:
    """Forget codes that expired before a time, of all clients."""
    await tx.execute("DELETE FROM authorization_codes WHERE expires_at < $1", before)


async def open_grant(tx: Tx, grant: NewGrant) -> LiveSession | None:
    """Open a grant of the current client while its user is active and its login lives; None otherwise.

    The user's row, then the login's, stay locked to the end of the transaction, so that what ends either
    comes before or after, never in between.
    """
    authorization = grant.authorization
    row = await tx.fetchrow(
        """
        WITH account AS MATERIALIZED (
            SELECT user_id, message FROM users
            WHERE client_id = current_client() AND user_id = $2 AND status = 'active' FOR SHARE
        ), login AS MATERIALIZED (
            SELECT s.*, a.message FROM account AS a JOIN sessions AS s ON s.user_id = a.user_id
            WHERE s.id = $3 AND s.client_id = current_client() AND s.app_id IS NULL
              AND s.impersonator_id IS NULL AND s.ended_at IS NULL AND s.expires_at > $8
            FOR SHARE OF s
        ), opened AS (
            INSERT INTO sessions (id, client_id, user_id, created_at, last_used_at, expires_at,
                                  absolute_expires_at, ip, user_agent, amr, acr, parent_id, app_id, scope,
                                  audience, cnf_jkt, auth_time, requested_claims, status_index)
            SELECT $1, current_client(), $2, $8, $8,
                   CASE WHEN $11::bytea IS NULL THEN login.expires_at ELSE $9 END,
                   CASE WHEN $11::bytea IS NULL THEN login.absolute_expires_at ELSE $10 END,
                   $12, $13, login.amr, login.acr, login.id,
                   $4, $5, $6, $7, coalesce(login.auth_time, login.created_at), $14,
                   nextval('status_indices')
            FROM login
            RETURNING *
        ), token AS (
            INSERT INTO refresh_tokens (token_hash, client_id, session_id, created_at, expires_at)
            SELECT $11::bytea, current_client(), id, $8, expires_at FROM opened WHERE $11::bytea IS NOT NULL
        )
        SELECT opened.*, account.message FROM opened, account
        """,
        grant.id,
        authorization.user_id,
        authorization.parent_id,
        authorization.app_id,
        authorization.scope,
        list(authorization.audience),
        grant.jkt,
        grant.now,
        grant.expires_at,
        grant.absolute_expires_at,
        grant.token_hash,
        grant.ip,
        grant.user_agent,
        authorization.requested_claims,
    )
    return sessions_store.live(row) if row else None


async def end_grants_of_app(
    tx: Tx, app_id: str, reason: str, granted_until: datetime, now: datetime, limit: int
) -> list[EndedSession]:
    """End up to `limit` grants of an app of the current client that were made until a time."""
    rows = await tx.fetch(
        """
        WITH doomed AS (
            SELECT id FROM sessions
            WHERE client_id = current_client() AND app_id = $1 AND ended_at IS NULL AND expires_at > $4
              AND created_at <= $3
            ORDER BY id LIMIT $5 FOR UPDATE
        )
        UPDATE sessions AS s SET ended_at = $4, end_reason = $2 FROM doomed WHERE s.id = doomed.id
        RETURNING s.id, s.user_id, s.app_id, s.parent_id
        """,
        app_id,
        reason,
        granted_until,
        now,
        limit,
    )
    return [EndedSession(**row) for row in rows]


async def login_session(tx: Tx, session_id: UUID, now: datetime) -> LiveSession | None:
    """Return a living login of an active user of the current client; a grant is none."""
    session = await sessions_store.live_session(tx, session_id, now)
    return session if session is not None and session.grant is None else None


def _code(row: asyncpg.Record) -> StoredCode:
    return StoredCode(
        Authorization(
            client_id=row["client_id"],
            app_id=row["app_id"],
            user_id=row["user_id"],
            parent_id=row["parent_id"],
            scope=row["scope"],
            audience=tuple(row["audience"]),
            nonce=row["nonce"],
            requested_claims=row["requested_claims"],
        ),
        CodeBinding(row["redirect_uri"], row["code_challenge"], row["dpop_jkt"]),
        row["expires_at"],
        row["session_id"],
    )
