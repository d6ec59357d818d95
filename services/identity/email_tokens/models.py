"""Tokens that travel by mail: the table, and the slice's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from services.identity.tables import Base
from services.identity.users.models import User


class TokenKind(StrEnum):
    """What a token is good for."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a kind's name
    MAGIC_LINK = "magic_link"
    EMAIL_CHANGE = "email_change"


class EmailTokenRow(Base, table=True):
    """A token under its SHA-256, and the state of the user that it was made for: in another it is void.

    `used_at` is also set when a newer token of its kind replaces it.
    """

    __tablename__ = "email_tokens"
    __table_args__ = (
        Index("ix_email_tokens_user_id_kind_created_at", "user_id", "kind", "created_at"),
        Index("ix_email_tokens_expires_at", "expires_at"),
    )

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field()
    user_id: UUID = Field(sa_column=Column(ForeignKey("users.id", ondelete="CASCADE"), nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    email_normalized: str = Field(sa_column=Column(Text, nullable=False))
    auth_epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    payload: dict[str, Any] = Field(
        sa_column=Column(JSONB, nullable=False, server_default=text("'{}'::jsonb"))
    )
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A token that could be redeemed when it was looked up, with its user; `redeem` decides."""

    raw: str
    kind: TokenKind
    user: User
    payload: Mapping[str, Any]

    @property
    def client_id(self) -> UUID:
        """The tenant that the token leads to."""
        return self.user.client_id
