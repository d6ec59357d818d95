"""Recovery codes: the table, and what is told of a user's codes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, ForeignKey, LargeBinary, Uuid
from sqlmodel import Field

from chassis.tables import Keyed, keyed_column
from services.identity.tables import Base


class RecoveryCodeRow(Base, table=True):
    """One code of a user, as a keyed hash; used codes stay until the next ten replace them."""

    __tablename__ = "recovery_codes"

    user_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    )
    code_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    client_id: UUID = Field()
    generated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    key_id: bytes | None = Field(
        sa_column=keyed_column(
            Keyed(
                "Unused recovery codes that open only under a former key: their users must make new ones.",
                where="used_at IS NULL",
            ),
            nullable=True,
        )
    )


@dataclass(frozen=True, slots=True)
class CodesLeft:
    """How many codes a user has left, and since when it has them; None when it never had any."""

    remaining: int
    generated_at: datetime | None
