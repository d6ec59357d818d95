"""Every statement on apps and their secrets. None is bound to a tenant by the database: each names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Tx
from services.orgs.apps.models import (
    AppFields,
    ApplicationType,
    AppStatus,
    AuthMethod,
    IdTokenAlgorithm,
    NewSecret,
    StoredApp,
    StoredSecret,
)

_FIELDS = tuple(AppFields.__dataclass_fields__)
_COLUMNS = ["jwks" if name == "jwks_json" else name for name in _FIELDS]
_SECRET = "id, client_id, app_id, name, prefix, created_at, expires_at, revoked_at, last_used_at"  # noqa: S105 - columns
_FIRST_FIELD = 8
_PLACES = [
    f"${number}" + ("::jsonb" if column == "jwks" else "")
    for number, column in enumerate(_COLUMNS, _FIRST_FIELD)
]


async def insert(tx: Tx, app: StoredApp, *, registration_sha256: bytes | None = None) -> None:
    """Add an app; who registered itself changes itself by the token with this hash."""
    await tx.execute(
        f"""
        INSERT INTO apps (id, client_id, status, is_registered, registration_sha256, created_at, updated_at,
                          {", ".join(_COLUMNS)})
        VALUES ($1, $2, $3, $4, $5, $6, $7, {", ".join(_PLACES)})
        """,  # noqa: S608 - constants of this module
        app.id,
        app.client_id,
        app.status,
        app.is_registered,
        registration_sha256,
        app.created_at,
        app.updated_at,
        *_values(app.fields),
    )


async def count(tx: Tx, client_id: UUID, *, is_registered: bool) -> int:
    """Return how many apps a client has: of those that registered themselves, or of the others."""
    found: int = await tx.fetchval(
        "SELECT count(*) FROM apps WHERE client_id = $1 AND is_registered = $2 AND deleted_at IS NULL",
        client_id,
        is_registered,
    )
    return found


async def page(tx: Tx, client_id: UUID, *, before: UUID | None, limit: int) -> list[StoredApp]:
    """Return apps of a client, the newest first; `before` is where the last page ended."""
    rows = await tx.fetch(
        """
        SELECT * FROM apps
        WHERE client_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        client_id,
        before,
        limit,
    )
    return [_app_of(row) for row in rows]


async def find(tx: Tx, client_id: UUID, app_id: UUID, *, for_change: bool = False) -> StoredApp | None:
    """Return an app of a client; `for_change` keeps others from changing it meanwhile."""
    row = await tx.fetchrow(
        f"""
        SELECT * FROM apps WHERE id = $1 AND client_id = $2 AND deleted_at IS NULL
        {"FOR NO KEY UPDATE" if for_change else ""}
        """,  # noqa: S608 - constants
        app_id,
        client_id,
    )
    return _app_of(row) if row else None


async def resolve(tx: Tx, app_id: UUID) -> StoredApp | None:
    """Return an app of any client."""
    row = await tx.fetchrow("SELECT * FROM apps WHERE id = $1 AND deleted_at IS NULL", app_id)
    return _app_of(row) if row else None


async def update(tx: Tx, app: StoredApp) -> None:
    """Write what may change of an app."""
    changes = ", ".join(
        f"{column} = {place}" for column, place in zip(_COLUMNS, _PLACES_OF_UPDATE, strict=True)
    )
    await tx.execute(
        f"""
        UPDATE apps SET status = $3, updated_at = $4, {changes}
        WHERE id = $1 AND client_id = $2 AND deleted_at IS NULL
        """,  # noqa: S608 - constants of this module
        app.id,
        app.client_id,
        app.status,
        app.updated_at,
        *_values(app.fields),
    )


async def delete(tx: Tx, client_id: UUID, app_id: UUID, now: datetime) -> bool:
    """Delete an app; its row stays, so that its id never means another. False when there is none."""
    deleted = await tx.fetchval(
        """
        UPDATE apps SET deleted_at = $3, status = 'disabled', jwks = NULL, registration_sha256 = NULL
        WHERE id = $1 AND client_id = $2 AND deleted_at IS NULL
        RETURNING true
        """,
        app_id,
        client_id,
        now,
    )
    return bool(deleted)


async def insert_secret(tx: Tx, new: NewSecret) -> None:
    """Add a secret of an app."""
    await tx.execute(
        """
        INSERT INTO app_secrets (id, client_id, app_id, name, prefix, secret_sha256, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        new.secret.id,
        new.secret.client_id,
        new.secret.app_id,
        new.secret.name,
        new.secret.prefix,
        new.sha256,
        new.secret.created_at,
        new.secret.expires_at,
    )


async def secrets(tx: Tx, client_id: UUID, app_id: UUID) -> list[StoredSecret]:
    """Return an app's secrets, dead ones too, the newest first."""
    rows = await tx.fetch(
        f"SELECT {_SECRET} FROM app_secrets WHERE app_id = $1 AND client_id = $2 ORDER BY id DESC",  # noqa: S608 - a constant
        app_id,
        client_id,
    )
    return [_secret_of(row) for row in rows]


async def secret_hashes(tx: Tx, app_id: UUID) -> list[tuple[UUID, bytes, datetime | None]]:
    """Return id, hash and end of an app's secrets that are not revoked."""
    rows = await tx.fetch(
        """
        SELECT id, secret_sha256, expires_at FROM app_secrets
        WHERE app_id = $1 AND revoked_at IS NULL
        """,
        app_id,
    )
    return [(row["id"], row["secret_sha256"], row["expires_at"]) for row in rows]


async def revoke_secret(
    tx: Tx, client_id: UUID, app_id: UUID, secret_id: UUID, now: datetime
) -> StoredSecret | None:
    """Revoke a secret; None when the app has no such one, or it is revoked already."""
    row = await tx.fetchrow(
        f"""
        UPDATE app_secrets SET revoked_at = $4
        WHERE id = $3 AND app_id = $2 AND client_id = $1 AND revoked_at IS NULL
        RETURNING {_SECRET}
        """,  # noqa: S608 - a constant of this module
        client_id,
        app_id,
        secret_id,
        now,
    )
    return _secret_of(row) if row else None


async def revoke_secrets(tx: Tx, client_id: UUID, app_id: UUID, now: datetime) -> list[UUID]:
    """Revoke all secrets of an app that are not; return their ids."""
    rows = await tx.fetch(
        """
        UPDATE app_secrets SET revoked_at = $3
        WHERE id IN (
            SELECT id FROM app_secrets WHERE app_id = $2 AND client_id = $1 AND revoked_at IS NULL
            ORDER BY id  -- as `note_uses` does
            FOR NO KEY UPDATE
        )
        RETURNING id
        """,
        client_id,
        app_id,
        now,
    )
    return [row["id"] for row in rows]


async def retire_secret(
    tx: Tx, client_id: UUID, app_id: UUID, secret_id: UUID, at: datetime, now: datetime
) -> StoredSecret | None:
    """Let a live secret end at a time, or earlier where it would have anyway; None when there is none."""
    row = await tx.fetchrow(
        f"""
        UPDATE app_secrets SET expires_at = least(expires_at, $4)
        WHERE id = $3 AND app_id = $2 AND client_id = $1 AND revoked_at IS NULL
          AND (expires_at IS NULL OR expires_at > $5)
        RETURNING {_SECRET}
        """,  # noqa: S608 - a constant of this module
        client_id,
        app_id,
        secret_id,
        at,
        now,
    )
    return _secret_of(row) if row else None


async def note_uses(tx: Tx, uses: Mapping[UUID, datetime]) -> None:
    """Record when secrets were last used; an older note changes nothing."""
    await tx.execute(
        """
        UPDATE app_secrets AS k SET last_used_at = u.used_at
        FROM (
            SELECT k.id, u.used_at
            FROM app_secrets AS k
            JOIN unnest($1::uuid[], $2::timestamptz[]) AS u (id, used_at) ON u.id = k.id
            WHERE k.last_used_at IS NULL OR k.last_used_at < u.used_at
            ORDER BY k.id  -- two processes must not wait for each other's rows crosswise
            FOR NO KEY UPDATE OF k
        ) AS u
        WHERE k.id = u.id
        """,
        list(uses.keys()),
        list(uses.values()),
    )


_PLACES_OF_UPDATE = [
    f"${number}" + ("::jsonb" if column == "jwks" else "") for number, column in enumerate(_COLUMNS, 5)
]


def _values(fields: AppFields) -> Sequence[object]:
    return [getattr(fields, name) for name in _FIELDS]


def _app_of(row: asyncpg.Record) -> StoredApp:
    read = {name: row[column] for name, column in zip(_FIELDS, _COLUMNS, strict=True)}
    several = {name: tuple(value) for name, value in read.items() if isinstance(value, list)}
    kinds = {
        "application_type": ApplicationType(row["application_type"]),
        "auth_method": AuthMethod(row["auth_method"]),
        "id_token_alg": IdTokenAlgorithm(row["id_token_alg"]),
    }
    return StoredApp(
        id=row["id"],
        client_id=row["client_id"],
        status=AppStatus(row["status"]),
        is_registered=row["is_registered"],
        fields=AppFields(**{**read, **several, **kinds}),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _secret_of(row: asyncpg.Record) -> StoredSecret:
    return StoredSecret(
        **{name: row[name] for name in StoredSecret.__dataclass_fields__}  # the columns of `_SECRET`
    )
