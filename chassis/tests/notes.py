"""A tiny service for the chassis's own tests: notes of tenants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from sqlmodel import Field, SQLModel

from chassis.context import Access
from chassis.errors import Conflict
from chassis.events import DomainEvent
from chassis.http import Caller, Router
from chassis.ids import new_id
from chassis.models import AnswerModel, RequestModel
from chassis.service import Service
from chassis.tables import table_registry


class Base(SQLModel, registry=table_registry()):
    """The tables of notes."""


class NoteRow(Base, table=True):
    """A note of a tenant."""

    __tablename__ = "notes"
    id: UUID = Field(primary_key=True)
    client_id: UUID = Field(index=True)
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteWritten(DomainEvent):
    """A note was written."""

    type: ClassVar[str] = "note_written"
    target_type: ClassVar[str | None] = "note"
    number: int


class NoteRequest(RequestModel):
    """A note to write."""

    text: str = Field(max_length=100)


class NoteAnswer(AnswerModel):
    """A note."""

    id: UUID
    text: str


class NoteTaken(Conflict):
    """For a test of errors."""

    code = "note_taken"


def note_routes(service: Service) -> Router:
    """Write and list notes."""
    router = Router(tag="Notes")

    @router.post("/api/notes", access=Access.API_KEY, status_code=201, idempotent=True, body_limit=1024)
    async def write(caller: Caller, request: NoteRequest) -> NoteAnswer:
        """Write a note."""
        if request.text == "taken":
            raise NoteTaken
        if request.text == "crash":
            raise RuntimeError("a secret detail")
        note_id = new_id()
        async with service.db.tenant(caller.require_client()) as tx:
            await tx.execute("INSERT INTO notes VALUES ($1, current_client(), $2)", note_id, request.text)
            await service.outbox.emit(tx, NoteWritten(target_id=note_id, number=1), caller)
        return NoteAnswer(id=note_id, text=request.text)

    @router.get("/api/notes", access=Access.API_KEY)
    async def read(caller: Caller) -> list[NoteAnswer]:
        """List the tenant's notes."""
        async with service.db.tenant(caller.require_client()) as tx:
            rows = await tx.fetch("SELECT id, text FROM notes ORDER BY id")
        return [NoteAnswer(**row) for row in rows]

    return router
