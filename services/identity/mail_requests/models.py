"""Requests for mail: the table, and one request as a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Text
from sqlmodel import Field

from chassis.context import Access, CallerContext
from chassis.tables import sealed_column
from services.identity.tables import Base
from services.identity.users.email import Email


class RequestKind(StrEnum):
    """What is asked for."""

    RESET_PASSWORD = "reset_password"  # noqa: S105 - a kind's name
    MAGIC_LINK = "magic_link"


class MailRequestRow(Base, table=True):
    """A request that nobody has looked at yet; `sealed` has the address, which need not be a user's."""

    __tablename__ = "mail_requests"

    id: UUID = Field(primary_key=True)
    client_id: UUID = Field()
    kind: str = Field(sa_column=Column(Text, nullable=False))
    sealed: bytes = Field(sa_column=sealed_column("mail_request:{id}"))
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class MailRequest:
    """A request: the address as it was asked for, what else was said, and who asked."""

    id: UUID
    client_id: UUID
    kind: RequestKind
    email: Email
    wishes: Mapping[str, Any]
    caller: CallerContext


def encode(email: Email, wishes: Mapping[str, Any], caller: CallerContext) -> bytes:
    """Return what of a request is sealed."""
    who = [caller.request_id, caller.ip, caller.user_agent[:512]]
    return json.dumps([email.address, dict(wishes), who], ensure_ascii=False).encode()


def decode(request_id: UUID, client_id: UUID, kind: str, content: bytes) -> MailRequest:
    """Read what `encode` made."""
    address, wishes, (request, ip, user_agent) = json.loads(content)
    caller = CallerContext(
        access=Access.API_KEY, request_id=request, ip=ip, user_agent=user_agent, client_id=client_id
    )
    return MailRequest(request_id, client_id, RequestKind(kind), Email.parse(address), wishes, caller)
