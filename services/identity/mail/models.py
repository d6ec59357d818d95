"""Mail: the tables of the queue and of the development inbox, and the slice's values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Integer, Text, text
from sqlmodel import Field

from chassis.tables import sealed_column
from services.identity.tables import Base


class MailKind(StrEnum):
    """What a mail is about; each kind has words in every language of the catalogue."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a kind's name
    MAGIC_LINK = "magic_link"
    EMAIL_CHANGE_CONFIRM = "email_change_confirm"
    EMAIL_CHANGE_NOTICE = "email_change_notice"
    EMAIL_IN_USE = "email_in_use"
    NEW_SIGN_IN = "new_sign_in"
    RECOVERY_CODE_USED = "recovery_code_used"
    PASSKEY_ADDED = "passkey_added"
    ACCOUNT_DELETED = "account_deleted"
    INVITATION = "invitation"
    SSO_HINT = "sso_hint"


class MailStatus(StrEnum):
    """Where a mail is; `sent` and `failed` are final."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class MailRow(Base, table=True):
    """A mail on its way. `sealed` has recipient and links, and goes when the mail is sent or given up.

    `due_at` is when it is to be tried (again): who claims a mail moves it past its lease, so that the mail of
    a process that died becomes due by itself.
    """

    __tablename__ = "mails"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'sending', 'sent', 'failed')", name="status"),
        Index("ix_mails_due_at", "due_at", postgresql_where=text("status IN ('queued', 'sending')")),
        Index("ix_mails_created_at", "created_at", postgresql_using="brin"),
    )

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    kind: str = Field(sa_column=Column(Text, nullable=False))
    sealed: bytes | None = Field(sa_column=sealed_column("mail:{id}", nullable=True))
    email_hash: str = Field(sa_column=Column(Text, nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False, server_default=text("'queued'")))
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    sent_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class InboxRow(Base, table=True):
    """A mail in the inbox of development, where mail goes when there is no way to send it."""

    __tablename__ = "local_inbox"
    __table_args__ = (Index("ix_local_inbox_recipient", "recipient"),)

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    kind: str = Field(sa_column=Column(Text, nullable=False))
    recipient: str = Field(sa_column=Column(Text, nullable=False))
    sender: str = Field(sa_column=Column(Text, nullable=False))
    subject: str = Field(sa_column=Column(Text, nullable=False))
    text: str = Field(sa_column=Column(Text, nullable=False))
    html: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says, before it is put into words: to whom, in which language, with which values."""

    recipient: str
    locale: str | None
    variables: Mapping[str, str]
    useful_until: datetime | None = None

    def encode(self) -> bytes:
        """Return the bytes that are sealed."""
        until = self.useful_until.isoformat() if self.useful_until else None
        members = [self.recipient, self.locale, dict(self.variables), until]
        return json.dumps(members, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Read what `encode` made."""
        recipient, locale, variables, until = json.loads(content)
        return cls(recipient, locale, variables, datetime.fromisoformat(until) if until else None)


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """A mail that this process has claimed; `attempts` counts this one."""

    id: UUID
    client_id: UUID
    kind: MailKind
    sealed: bytes
    email_hash: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Message:
    """A mail in words, ready to be sent; `sender` is a display name and an address."""

    id: UUID
    client_id: UUID
    kind: MailKind
    recipient: str
    sender_name: str
    sender_address: str
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class InboxMail:
    """A mail in the inbox of development."""

    id: UUID
    client_id: UUID
    kind: str
    recipient: str
    sender: str
    subject: str
    text: str
    html: str
    created_at: datetime
