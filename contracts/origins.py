"""The caller behind a call between services: said by the calling service, believed for the record."""

from __future__ import annotations

from uuid import UUID

from chassis.context import Access, CallerContext
from chassis.errors import InvalidRequest
from contracts.gen.internal.origin.v1 import origin_pb2


def origin_of(caller: CallerContext) -> origin_pb2.Origin:
    """Say who is behind a call."""
    return origin_pb2.Origin(
        ip=caller.ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
        access=caller.access,
        user_id=_text(caller.user_id),
        session_id=_text(caller.session_id),
        admin_id=_text(caller.admin_id),
        impersonator_id=caller.impersonator_id or "",
    )


def caller_behind(origin: origin_pb2.Origin, client_id: UUID | None) -> CallerContext:
    """Return the caller that an origin names, acting in a client, if in one.

    Raises:
        InvalidRequest: the origin is malformed.
    """
    try:
        return CallerContext(
            access=Access(origin.access or Access.API_KEY),
            request_id=origin.request_id,
            ip=origin.ip,
            user_agent=origin.user_agent,
            client_id=client_id,
            user_id=_id(origin.user_id),
            session_id=_id(origin.session_id),
            admin_id=_id(origin.admin_id),
            impersonator_id=origin.impersonator_id or None,
        )
    except ValueError:
        raise InvalidRequest("origin is malformed") from None


def _text(value: UUID | None) -> str:
    return str(value) if value else ""


def _id(text: str) -> UUID | None:
    return UUID(text) if text else None
