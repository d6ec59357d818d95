"""Every statement on admins."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from contracts.admin_roles import Role
from services.identity.admins.models import Admin, AdminStatus, SsoIdentity

PLATFORM = UUID(int=0)
"""Stands for "no tenant" where rows need one: the counters of attempts."""

_CHANGES = 7_304_117


async def enter_platform(tx: Tx) -> None:
    """Let the counters of attempts of this transaction be those of admins."""
    await tx.execute("SELECT set_config('auth.client_id', $1, true)", str(PLATFORM))


async def serialize(tx: Tx) -> None:
    """Let changes of admins follow one another until the transaction ends.

    Whether an owner is the last one, and whether whoever changes another may still do so, depends on other
    rows; admins change rarely enough to wait for each other.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _CHANGES)


async def insert(tx: Tx, admin: Admin) -> bool:
    """Add an admin; false when another one has its address or its identity at a provider."""
    added = await tx.fetchval(
        """
        INSERT INTO admin_users (id, email, email_normalized, display_name, password_hash, roles, scopes,
                                 status, mfa_required, sso_issuer, sso_subject, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        admin.id,
        admin.email,
        admin.email_normalized,
        admin.display_name,
        admin.password_hash,
        admin.roles,
        admin.scopes,
        admin.status,
        admin.mfa_required,
        admin.sso.issuer if admin.sso else None,
        admin.sso.subject if admin.sso else None,
        admin.created_at,
        admin.updated_at,
    )
    return bool(added)


async def find(tx: Tx, admin_id: UUID) -> Admin | None:
    """Return an admin."""
    row = await tx.fetchrow("SELECT * FROM admin_users WHERE id = $1", admin_id)
    return _admin(row) if row else None


async def lock(tx: Tx, admin_id: UUID) -> Admin | None:
    """Return an admin and keep everyone else from changing it until the transaction ends."""
    row = await tx.fetchrow("SELECT * FROM admin_users WHERE id = $1 FOR UPDATE", admin_id)
    return _admin(row) if row else None


async def find_by_email(tx: Tx, email_normalized: str) -> Admin | None:
    """Return the admin with an address."""
    row = await tx.fetchrow("SELECT * FROM admin_users WHERE email_normalized = $1", email_normalized)
    return _admin(row) if row else None


async def find_by_sso(tx: Tx, sso: SsoIdentity) -> Admin | None:
    """Return the admin with an identity at a provider."""
    row = await tx.fetchrow(
        "SELECT * FROM admin_users WHERE sso_issuer = $1 AND sso_subject = $2", sso.issuer, sso.subject
    )
    return _admin(row) if row else None


async def use_assertion(tx: Tx, admin_id: UUID, issued_at: datetime) -> bool:
    """Use up all assertions of an admin up to this one; false when it is used: of all, one is first."""
    used = await tx.fetchval(
        """
        UPDATE admin_users SET sso_last_issued_at = $2
        WHERE id = $1 AND status = 'active' AND (sso_last_issued_at IS NULL OR sso_last_issued_at < $2)
        RETURNING true
        """,
        admin_id,
        issued_at,
    )
    return bool(used)


async def is_sso_taken(tx: Tx, sso: SsoIdentity, by_other_than: UUID) -> bool:
    """Return whether another admin has an identity at a provider."""
    return bool(
        await tx.fetchval(
            """
            SELECT EXISTS (SELECT FROM admin_users
                           WHERE sso_issuer = $1 AND sso_subject = $2 AND id <> $3)
            """,
            sso.issuer,
            sso.subject,
            by_other_than,
        )
    )


async def page(tx: Tx, *, within: Collection[str] | None, before: UUID | None, limit: int) -> list[Admin]:
    """Return admins of no scope beyond `within` (None: all), the newest first, after `before`."""
    rows = await tx.fetch(
        """
        SELECT * FROM admin_users
        WHERE ($1::text[] IS NULL OR scopes <@ $1) AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        None if within is None else list(within),
        before,
        limit,
    )
    return [_admin(row) for row in rows]


async def has_owner_beside(tx: Tx, admin_id: UUID) -> bool:
    """Return whether another active admin owns the whole installation."""
    return bool(
        await tx.fetchval(
            """
            SELECT EXISTS (SELECT FROM admin_users
                           WHERE id <> $1 AND status = 'active'
                             AND 'owner' = ANY(roles) AND 'all' = ANY(scopes))
            """,
            admin_id,
        )
    )


async def update(tx: Tx, admin: Admin) -> None:
    """Store what may change of an admin by hand."""
    await tx.execute(
        """
        UPDATE admin_users
        SET display_name = $2, password_hash = $3, roles = $4, scopes = $5, status = $6, mfa_required = $7,
            totp_secret = $8, totp_pending = $9, sso_issuer = $10, sso_subject = $11, token_epoch = $12,
            updated_at = $13
        WHERE id = $1
        """,
        admin.id,
        admin.display_name,
        admin.password_hash,
        admin.roles,
        admin.scopes,
        admin.status,
        admin.mfa_required,
        admin.totp_secret,
        admin.totp_pending,
        admin.sso.issuer if admin.sso else None,
        admin.sso.subject if admin.sso else None,
        admin.token_epoch,
        admin.updated_at,
    )


async def delete(tx: Tx, admin_id: UUID) -> None:
    """Remove an admin."""
    await tx.execute("DELETE FROM admin_users WHERE id = $1", admin_id)


async def record_login(tx: Tx, admin_id: UUID, epoch: int, now: datetime) -> bool:
    """Record a login; false when what proved the admin became void meanwhile."""
    recorded = await tx.fetchval(
        """
        UPDATE admin_users SET last_login_at = $3
        WHERE id = $1 AND token_epoch = $2 AND status = 'active'
        RETURNING true
        """,
        admin_id,
        epoch,
        now,
    )
    return bool(recorded)


async def replace_hash(tx: Tx, admin_id: UUID, old: str, new: str) -> None:
    """Store a stronger hash of the same password, unless the password was changed meanwhile."""
    await tx.execute(
        "UPDATE admin_users SET password_hash = $3 WHERE id = $1 AND password_hash = $2", admin_id, old, new
    )


async def put_pending(tx: Tx, admin_id: UUID, epoch: int, sealed: bytes) -> bool:
    """Keep a secret that is being set up instead of an earlier one; false beside an active one."""
    kept = await tx.fetchval(
        """
        UPDATE admin_users SET totp_pending = $3
        WHERE id = $1 AND token_epoch = $2 AND status = 'active' AND totp_secret IS NULL
        RETURNING true
        """,
        admin_id,
        epoch,
        sealed,
    )
    return bool(kept)


async def activate(tx: Tx, admin_id: UUID, epoch: int, pending: bytes, step: int) -> bool:
    """Make a pending secret the active one, its code of `step` used; false when it no longer pends."""
    activated = await tx.fetchval(
        """
        UPDATE admin_users SET totp_secret = totp_pending, totp_pending = NULL, totp_last_step = $4
        WHERE id = $1 AND token_epoch = $2 AND status = 'active' AND totp_secret IS NULL
          AND totp_pending = $3
        RETURNING true
        """,
        admin_id,
        epoch,
        pending,
        step,
    )
    return bool(activated)


async def use_step(tx: Tx, admin_id: UUID, secret: bytes, step: int) -> bool:
    """Use up all codes of a secret up to `step`; false when that one is used: of all, one is first."""
    used = await tx.fetchval(
        """
        UPDATE admin_users SET totp_last_step = $3
        WHERE id = $1 AND totp_secret = $2 AND totp_last_step < $3
        RETURNING true
        """,
        admin_id,
        secret,
        step,
    )
    return bool(used)


def _admin(row: asyncpg.Record) -> Admin:
    return Admin(
        id=row["id"],
        email=row["email"],
        email_normalized=row["email_normalized"],
        display_name=row["display_name"],
        password_hash=row["password_hash"],
        roles=tuple(map(Role, row["roles"])),
        scopes=tuple(row["scopes"]),
        status=AdminStatus(row["status"]),
        mfa_required=row["mfa_required"],
        totp_secret=row["totp_secret"],
        totp_pending=row["totp_pending"],
        sso=SsoIdentity(row["sso_issuer"], row["sso_subject"]) if row["sso_issuer"] else None,
        token_epoch=row["token_epoch"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_login_at=row["last_login_at"],
    )
