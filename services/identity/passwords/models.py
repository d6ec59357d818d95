"""Passwords: the table, and what login needs of a user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Text, text
from sqlmodel import Field

from services.identity.tables import Base
from services.identity.users.models import User


class PasswordRow(Base, table=True):
    """The password of a user; a user without one has no row.

    `epoch` grows when the password is changed, and stays when only its hash is replaced by a stronger one.
    """

    __tablename__ = "passwords"

    user_id: UUID = Field(
        sa_column=Column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    client_id: UUID = Field()
    hash: str = Field(sa_column=Column(Text, nullable=False))
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("1")))
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """A hash as stored, and which password of the user's it is of."""

    hash: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Account:
    """A user with the password, if it has one."""

    user: User
    password: StoredPassword | None
