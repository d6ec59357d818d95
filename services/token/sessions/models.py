"""The tables of sessions, their refresh tokens and the copy of their users, and the slice's values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from chassis.tables import Keyed, keyed_column
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.token_use import ACCESS
from services.token.tables import Base


class UserRow(Base, table=True):
    """A user as `identity` last told: `message` is an encoded `internal.identity.v1.User` of that version."""

    __tablename__ = "users"
    __table_args__ = (PrimaryKeyConstraint("client_id", "user_id"),)

    client_id: UUID = Field()
    user_id: UUID = Field()
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False))
    message: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class SessionRow(Base, table=True):
    """A session: from a login until it is ended, unused for too long (`expires_at`), or too old.

    One with an `app_id` is a grant: what its user, logged in with the session `parent_id`, allowed an app. No
    index on the times: they move with each refresh, and would cost each one an index entry.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_client_id_user_id_id", "client_id", "user_id", "id"),
        Index("ix_sessions_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index(
            "ix_sessions_client_id_app_id", "client_id", "app_id", postgresql_where=text("app_id IS NOT NULL")
        ),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field(nullable=False)
    user_id: UUID = Field(nullable=False)
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    last_used_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    absolute_expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    ended_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    end_reason: str | None = Field(sa_column=Column(Text))
    ip: str = Field(sa_column=Column(Text, nullable=False))
    user_agent: str = Field(sa_column=Column(Text, nullable=False))
    amr: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    acr: str = Field(sa_column=Column(Text, nullable=False))
    impersonator_id: str | None = Field(default=None, sa_column=Column(Text))
    status_index: int | None = Field(default=None, sa_column=Column(BigInteger))
    parent_id: UUID | None = Field(default=None)
    app_id: str | None = Field(default=None, sa_column=Column(Text))
    scope: str | None = Field(default=None, sa_column=Column(Text))
    audience: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    cnf_jkt: str | None = Field(default=None, sa_column=Column(Text))
    auth_time: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    requested_claims: str | None = Field(default=None, sa_column=Column(Text))


class RefreshTokenRow(Base, table=True):
    """A refresh token by its SHA-256; a used one keeps its successor's hash and seed."""

    __tablename__ = "refresh_tokens"
    __table_args__: ClassVar[Any] = (Index("ix_refresh_tokens_session_id", "session_id"),)

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field(nullable=False)
    session_id: UUID = Field(sa_column=Column(ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    seed: bytes | None = Field(
        sa_column=keyed_column(
            Keyed(
                "Their successors can be asked for again for REFRESH_REUSE_GRACE; wait five minutes.",
                where="used_at > now() - interval '5 minutes'",
            ),
            nullable=True,
        )
    )
    successor_hash: bytes | None = Field(sa_column=Column(LargeBinary))


class EndReason(StrEnum):
    """Why a session ended before its time; `EndSessions` may give others."""

    LOGOUT = "logout"
    USER_REVOKED = "user_revoked"
    USER_NOT_ACTIVE = "user_not_active"
    USER_DELETED = "user_deleted"
    TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 - a reason, not a secret
    CODE_REUSED = "code_reused"
    GRANT_REVOKED = "grant_revoked"
    APP_ENDED = "app_ended"
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - a reason, not a secret


@dataclass(frozen=True, slots=True)
class Session:
    """A session as listed; `impersonator_id` names who acts in the user's name, None for the user itself."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ip: str
    user_agent: str
    amr: tuple[str, ...]
    impersonator_id: str | None


@dataclass(frozen=True, slots=True)
class Opening:
    """How a session begins: what proved the user, and what its tokens are for.

    One that is `only_for` a while ends then, or with its access token, and cannot be renewed. One without a
    refresh token, of any length, gives out no tokens by itself. `act_json` names who acts for the user.
    """

    amr: tuple[str, ...]
    acr: str
    token_use: str = ACCESS
    only_for: timedelta | None = None
    act_json: str = ""
    has_refresh_token: bool = True

    @property
    def impersonator_id(self) -> str | None:
        """Who acts for the user, by id; None for the user itself."""
        return str(json.loads(self.act_json)["sub"]) if self.act_json else None


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that is to be opened."""

    id: UUID
    user_id: UUID
    created_at: datetime
    expires_at: datetime
    absolute_expires_at: datetime
    ip: str
    user_agent: str
    amr: tuple[str, ...]
    acr: str
    impersonator_id: str | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user allowed an app, as its session keeps it.

    `scope` is words parted by spaces; `audience` is empty for the tenant itself; `jkt` names the key that the
    grant is bound to (RFC 9449 §6.1), None without; `requested_claims` is the `claims` parameter, or empty.
    """

    app_id: str
    parent_id: UUID
    scope: str
    audience: tuple[str, ...]
    jkt: str | None
    requested_claims: str

    @property
    def scopes(self) -> tuple[str, ...]:
        """The words of `scope`."""
        return tuple(self.scope.split(" ")) if self.scope else ()


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that may have an access token now, with its user as last heard of; `grant` is an app's.

    `status_index` is the place of its tokens in the status lists.
    """

    id: UUID
    user_id: UUID
    auth_time: datetime
    expires_at: datetime
    amr: tuple[str, ...]
    acr: str
    user: users_pb2.User
    status_index: int | None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who presents a refresh token: the user's own browser, or an app.

    `jkt` names the key that the app proved to have. The token of a confidential app is bound to the app by
    its credentials, so its key may be another than at first (RFC 9449 §5); that of a public one is bound to
    the key alone. `audiences` are the resources that the app may ask for now: a grant of others only opens
    nothing.
    """

    app_id: str | None = None
    jkt: str | None = None
    is_confidential: bool = False
    audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenUse:
    """A refresh token that is to be used, by whom, and what it leaves behind."""

    token_hash: bytes
    seed: bytes
    successor_hash: bytes
    holder: Holder


@dataclass(frozen=True, slots=True)
class UsedToken:
    """A presented refresh token that had been used before."""

    session_id: UUID
    seed: bytes
    is_within_grace: bool
    successor_used: bool


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that was ended just now; one with an `app_id` was a grant of the session `parent_id`.

    `kept_app_ids` are apps whose grants of this session go on without it.
    """

    id: UUID
    user_id: UUID
    app_id: str | None = None
    parent_id: UUID | None = None
    kept_app_ids: tuple[str, ...] = ()
