"""The table of clients, and a client as the slice's value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from contracts.clients import TokenMode
from services.orgs.tables import Base

DEFAULT_CELL = "default"


class ClientStatus(StrEnum):
    """Whether a client's keys and tokens open anything."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class ClientRow(Base, table=True):
    """A tenant. It is what tenants are told apart by, so only the jobs role, which spans them, sees it."""

    __tablename__ = "clients"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended')", name="status"),
        CheckConstraint("token_mode IN ('v1_hs256', 'v2_jwks', 'v3_es256', 'v3_eddsa')", name="token_mode"),
        CheckConstraint("jsonb_typeof(settings) = 'object'", name="settings"),
        Index("ix_clients_allowed_origins", "allowed_origins", postgresql_using="gin"),
        Index(
            "ix_clients_oidc_audiences",
            text("(settings -> 'oidc_audiences'::text)"),
            postgresql_using="gin",
            postgresql_where=text("settings -> 'oidc_client_id_metadata_documents' = 'true'::jsonb"),
        ),
    )

    id: UUID = Field(primary_key=True)
    name: str = Field(sa_column=Column(Text, nullable=False))
    slug: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    status: str = Field(sa_column=Column(Text, nullable=False))
    token_mode: str = Field(sa_column=Column(Text, nullable=False))
    allowed_origins: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    webhook_url: str | None = Field(sa_column=Column(Text))
    settings: dict[str, Any] = Field(
        sa_column=Column(JSONB, nullable=False, server_default=text("'{}'::jsonb"))
    )
    cell: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class Client:
    """A tenant as stored; `settings` may hold secrets, so a face shows `views.ClientView` instead."""

    id: UUID
    name: str
    slug: str
    status: ClientStatus
    token_mode: TokenMode
    allowed_origins: tuple[str, ...]
    webhook_url: str | None
    settings: Mapping[str, Any]
    cell: str
    created_at: datetime
    updated_at: datetime
