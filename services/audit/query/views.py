"""Entries of the log as they are shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

from pydantic import Field, TypeAdapter

from chassis.models import AnswerModel
from contracts.session import Time
from services.audit.ingest.models import PLATFORM, Link
from services.audit.query.models import Entries

_CHUNK = 250


class PartyView(AnswerModel):
    """Who did it, or what it was done to."""

    type: str | None
    id: str | None


class ChainView(AnswerModel):
    """The entry's place in its client's chain."""

    position: int
    hash: str


class AuditEventView(AnswerModel):
    """One entry of the log; `event_type` is `type` again, `client_id` is null for the platform's own."""

    id: UUID
    type: str
    event_type: str
    service: str
    occurred_at: Time
    recorded_at: Time
    client_id: UUID | None
    actor: PartyView
    target: PartyView
    ip: str
    user_agent: str
    request_id: str
    session_id: UUID | None
    data: dict[str, Any]
    chain: ChainView


class AuditEventPage(AnswerModel):
    """One page of the log, newest first."""

    items: list[AuditEventView]
    events: list[AuditEventView] = Field(description="The same as `items`.")
    next_cursor: str | None = None


_VIEWS = TypeAdapter(list[AuditEventView])


async def render(entries: Entries) -> bytes:
    """Write an `AuditEventPage`; ten thousand entries in pieces, so that other requests are not held up."""
    pieces = []
    for start in range(0, len(entries.links), _CHUNK):
        views = [_view(link) for link in entries.links[start : start + _CHUNK]]
        pieces.append(_VIEWS.dump_json(views)[1:-1])
        await asyncio.sleep(0)
    items = b"[" + b",".join(pieces) + b"]"
    cursor = json.dumps(entries.next_cursor).encode()
    return b'{"items":' + items + b',"events":' + items + b',"next_cursor":' + cursor + b"}"


def _view(link: Link) -> AuditEventView:
    record = link.record
    return AuditEventView(
        id=record.event_id,
        type=record.type,
        event_type=record.type,
        service=record.service,
        occurred_at=record.occurred_at,
        recorded_at=record.recorded_at,
        client_id=None if record.client_id == PLATFORM else record.client_id,
        actor=PartyView(type=record.actor_type, id=record.actor_id),
        target=PartyView(type=record.target_type, id=record.target_id),
        ip=record.ip,
        user_agent=record.user_agent,
        request_id=record.request_id,
        session_id=record.session_id,
        data=json.loads(record.data),
        chain=ChainView(position=link.position, hash=link.hash.hex()),
    )
