"""The tables of apps and their secrets, and the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from chassis.ids import hash_of, new_id, new_secret, shown_part
from contracts.apps import SECRET_PREFIX
from services.orgs.tables import Base


class AppStatus(StrEnum):
    """Whether an app may have tokens."""

    ACTIVE = "active"
    DISABLED = "disabled"


class ApplicationType(StrEnum):
    """What an app runs on (OpenID Connect Registration §2); only a native one may have its own scheme."""

    WEB = "web"
    NATIVE = "native"


class AuthMethod(StrEnum):
    """How an app proves itself at the token endpoint (RFC 7591 §2); any way to send a secret is accepted."""

    NONE = "none"
    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"

    @property
    def has_secret(self) -> bool:
        """Whether it is by a secret."""
        return self in (AuthMethod.BASIC, AuthMethod.POST)


class IdTokenAlgorithm(StrEnum):
    """What an app's ID tokens are signed with."""

    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


class AppRow(Base, table=True):
    """An app. It is looked up before its tenant is known: jobs role only."""

    __tablename__ = "apps"
    __table_args__: ClassVar[Any] = (
        CheckConstraint("status IN ('active', 'disabled')", name="status"),
        CheckConstraint("application_type IN ('web', 'native')", name="application_type"),
        Index("ix_apps_client_id_id", "client_id", "id"),
        {"info": {"tenant_role": ""}},
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field(sa_column=Column(ForeignKey("clients.id"), nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False))
    is_registered: bool = Field()
    registration_sha256: bytes | None = Field(sa_column=Column(LargeBinary))
    name: str = Field(sa_column=Column(Text, nullable=False))
    application_type: str = Field(sa_column=Column(Text, nullable=False))
    auth_method: str = Field(sa_column=Column(Text, nullable=False))
    jwks: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    redirect_uris: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    post_logout_redirect_uris: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    grant_types: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    scopes: list[str] | None = Field(sa_column=Column(ARRAY(Text)))
    audiences: list[str] | None = Field(sa_column=Column(ARRAY(Text)))
    is_trusted: bool = Field()
    requires_consent: bool = Field()
    requires_pkce: bool = Field()
    requires_par: bool = Field()
    is_dpop_bound: bool = Field()
    backchannel_logout_uri: str = Field(sa_column=Column(Text, nullable=False))
    id_token_alg: str = Field(sa_column=Column(Text, nullable=False))
    logo_uri: str = Field(sa_column=Column(Text, nullable=False))
    client_uri: str = Field(sa_column=Column(Text, nullable=False))
    policy_uri: str = Field(sa_column=Column(Text, nullable=False))
    tos_uri: str = Field(sa_column=Column(Text, nullable=False))
    contacts: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    software_id: str = Field(sa_column=Column(Text, nullable=False))
    software_version: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    deleted_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class AppSecretRow(Base, table=True):
    """A secret of an app, known by its hash only."""

    __tablename__ = "app_secrets"
    __table_args__: ClassVar[Any] = (
        Index("ix_app_secrets_app_id", "app_id"),
        {"info": {"tenant_role": ""}},
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    app_id: UUID = Field(sa_column=Column(ForeignKey("apps.id", ondelete="CASCADE"), nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    prefix: str = Field(sa_column=Column(Text, nullable=False))
    secret_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    revoked_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    last_used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class AppFields:
    """What an admin, or the app itself where it registered itself, writes about an app.

    `scopes` and `audiences` are None for all that the tenant allows. `jwks_json` is None without keys.
    """

    name: str
    application_type: ApplicationType
    auth_method: AuthMethod
    jwks_json: str | None
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    scopes: tuple[str, ...] | None
    audiences: tuple[str, ...] | None
    is_trusted: bool
    requires_consent: bool
    requires_pkce: bool
    requires_par: bool
    is_dpop_bound: bool
    backchannel_logout_uri: str
    id_token_alg: IdTokenAlgorithm
    logo_uri: str
    client_uri: str
    policy_uri: str
    tos_uri: str
    contacts: tuple[str, ...]
    software_id: str
    software_version: str


@dataclass(frozen=True, slots=True)
class StoredApp:
    """An app of a tenant, as stored; `is_registered` says that it registered itself (RFC 7591)."""

    id: UUID
    client_id: UUID
    status: AppStatus
    is_registered: bool
    fields: AppFields
    created_at: datetime
    updated_at: datetime


class SecretStatus(StrEnum):
    """What has become of a secret."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret without what makes it one."""

    id: UUID
    client_id: UUID
    app_id: UUID
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def status(self, now: datetime) -> SecretStatus:
        """Return what has become of it."""
        if self.revoked_at is not None:
            return SecretStatus.REVOKED
        is_over = self.expires_at is not None and self.expires_at <= now
        return SecretStatus.EXPIRED if is_over else SecretStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A new secret, and the text that is shown once."""

    secret: StoredSecret
    raw: str

    @property
    def sha256(self) -> bytes:
        """What is stored of it."""
        return hash_of(self.raw)


def draw_secret(app: StoredApp, name: str, now: datetime, expires_at: datetime | None = None) -> NewSecret:
    """Draw a secret of 256 bits for an app."""
    raw = new_secret(SECRET_PREFIX)
    secret = StoredSecret(
        id=new_id(),
        client_id=app.client_id,
        app_id=app.id,
        name=name,
        prefix=shown_part(raw),
        created_at=now,
        expires_at=expires_at,
    )
    return NewSecret(secret, raw)
