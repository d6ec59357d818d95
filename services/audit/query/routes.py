"""HTTP face of reading the log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from chassis.context import Access, CallerContext
from chassis.http import LISTED, Caller, Router
from services.audit.query.models import Filters
from services.audit.query.service import QueryService
from services.audit.query.views import AuditEventPage, render

MAX_LIMIT = 10_000
_MAX_TYPES = 50
_NAME = r"^[a-z][a-z0-9_.]{0,63}$"
_NAMES = r"^[a-z][a-z0-9_.]{0,63}(,[a-z][a-z0-9_.]{0,63})*$"
_ID = r"^[\x21-\x7e]{1,200}$"


def _bounded(types: str | None) -> str | None:
    if types is not None and types.count(",") >= _MAX_TYPES:
        raise ValueError(f"at most {_MAX_TYPES} types")
    return types


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is out of range") from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class AuditEventFilters(BaseModel):
    """The query of the route; an unknown filter is refused, since ignoring it would show too much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: UUID | None = None
    user_id: UUID | None = Field(
        None, description="The user, as the one who did it or as what it was done to."
    )
    event_type: Annotated[str | None, AfterValidator(_bounded)] = Field(
        None, pattern=_NAMES, description="One type, or several by comma."
    )
    actor_type: str | None = Field(None, pattern=_NAME)
    actor_id: str | None = Field(None, pattern=_ID)
    target_type: str | None = Field(None, pattern=_NAME)
    target_id: str | None = Field(None, pattern=_ID)
    request_id: str | None = Field(None, pattern=_ID)
    since: Moment | None = Field(None, alias="from", description="Happened at this time or later.")
    until: Moment | None = Field(None, alias="to", description="Happened before this time.")
    limit: int = Field(50, ge=1, description=f"Entries per page; over {MAX_LIMIT} means {MAX_LIMIT}.")
    cursor: str | None = Field(None, max_length=1024, description="`next_cursor` of a page.")

    def filters(self, caller: CallerContext) -> Filters:
        """The filters without the page, and which clients the caller may see.

        Raises:
            NotFound: the client that is asked for is not one of them.
        """
        allowed = caller.client_scope
        if self.client_id is not None:
            caller.check_client_scope(self.client_id)
        return Filters(
            within=None if allowed is None else tuple(sorted(allowed)),
            client_id=self.client_id,
            user_id=self.user_id,
            types=tuple(sorted(set(self.event_type.split(",")))) if self.event_type else (),
            actor_type=self.actor_type,
            actor_id=self.actor_id,
            target_type=self.target_type,
            target_id=self.target_id,
            request_id=self.request_id,
            since=self.since,
            until=self.until,
        )


def routes(query: QueryService) -> Router:
    """The slice's routes."""
    router = Router(tag="Audit")

    @router.get(
        "/api/admin/audit-events",
        access=Access.ADMIN,
        permission="audit:read",
        scope=LISTED,
        limit="admin",
        response_model=AuditEventPage,
        responses={400: {"description": "`invalid_cursor`: not a cursor of this list with these filters."}},
    )
    async def list_audit_events(asked: Annotated[AuditEventFilters, Query()], caller: Caller) -> Response:
        """List what happened, newest first, by any combination of filters.

        An admin of some clients sees what is of those.

        Errors: 400 `invalid_cursor`, 422 `validation_failed`, 422 `range_reversed`.
        """
        entries = await query.page(asked.filters(caller), min(asked.limit, MAX_LIMIT), asked.cursor)
        return Response(await render(entries), media_type="application/json")

    return router
