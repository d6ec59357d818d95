"""The table of issuer sessions, and a login as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, LargeBinary
from sqlmodel import Field

from contracts.gen.internal.identity.v1 import users_pb2
from services.federation.tables import Base


class IssuerSessionRow(Base, table=True):
    """A browser in which a user logged in at the issuer, by the hash of its cookie.

    `session_id` is of the session at `token`, which alone says whether it lives.
    """

    __tablename__ = "issuer_sessions"
    __table_args__ = (
        Index("ix_issuer_sessions_session_id", "session_id"),
        Index("ix_issuer_sessions_expires_at", "expires_at"),
    )

    handle_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field(nullable=False)
    user_id: UUID = Field(nullable=False)
    session_id: UUID = Field(nullable=False)
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class Login:
    """A user who is logged in at the issuer in this browser, by a session that lives.

    `auth_time` and `expires_at` are in Unix seconds; `acr` is `urn:authservice:acr:1fa` or `…:2fa`.
    """

    client_id: UUID
    session_id: UUID
    user: users_pb2.User
    auth_time: int
    amr: tuple[str, ...]
    acr: str
    expires_at: int

    @property
    def user_id(self) -> UUID:
        """The user's id, which is the `sub` of every token."""
        return UUID(self.user.id)
