"""The table of consents, and a consent as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, Index, Text, UniqueConstraint
from sqlmodel import Field

from services.federation.tables import Base


class ConsentRow(Base, table=True):
    """What a user has agreed to at an app, over all times it was asked; withdrawn, it is gone."""

    __tablename__ = "consents"
    __table_args__ = (
        UniqueConstraint("client_id", "user_id", "app_id"),
        Index("ix_consents_user_id", "user_id"),
        Index("ix_consents_client_id_app_id", "client_id", "app_id"),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    user_id: UUID = Field()
    app_id: str = Field(sa_column=Column(Text, nullable=False))
    app_name: str = Field(sa_column=Column(Text, nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    resources: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    granted_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class Consent:
    """A user's consent at one app; `app_name` is what the user was shown last."""

    id: UUID
    user_id: UUID
    app_id: str
    app_name: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    granted_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """What an app wants a user to agree to."""

    app_id: str
    app_name: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...] = ()
