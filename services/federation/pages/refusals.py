"""Refusals that a user sees: routes of pages answer with an error page, never with a problem document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fastapi import Request, Response

from chassis.context import CallerContext
from chassis.errors import HTTP_STATUS, AppError, Kind
from contracts.clients import Client
from services.federation.errors import (
    AppUnknown,
    AuthorizationRequestGone,
    LogoutRequestGone,
    RedirectUriRefused,
)
from services.federation.pages.contents import ErrorPage, ErrorReason
from services.federation.pages.render import languages_of, render

_REASONS: Final[dict[type[AppError], ErrorReason]] = {
    AppUnknown: ErrorReason.UNKNOWN_APP,
    RedirectUriRefused: ErrorReason.REDIRECT_URI,
    AuthorizationRequestGone: ErrorReason.EXPIRED,
    LogoutRequestGone: ErrorReason.EXPIRED,
}
_REASONS_OF_KINDS: Final = {
    Kind.FORBIDDEN: ErrorReason.FORBIDDEN,
    Kind.RATE_LIMITED: ErrorReason.LOCKED,
    Kind.UNAVAILABLE: ErrorReason.UNAVAILABLE,
    Kind.TIMEOUT: ErrorReason.UNAVAILABLE,
}


async def with_error_pages(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    """Return an answer, or the page that says why there is none. What is our own fault is raised."""
    try:
        return await answer()
    except AppError as error:
        if error.kind is Kind.INTERNAL:
            raise
        return error_page(request, error)


def error_page(
    request: Request, error: AppError, client: Client | None = None, ui_locales: Sequence[str] = ()
) -> Response:
    """Return the page of a refusal, in a client's name or in nobody's, with its own status."""
    caller: CallerContext = request.scope["caller"]
    reason = _REASONS.get(type(error)) or _REASONS_OF_KINDS.get(error.kind, ErrorReason.INVALID_REQUEST)
    page = ErrorPage(reason, error.detail, caller.request_id, error.retry_after or 0)
    answer = render(page, client, languages_of(request, ui_locales), status=HTTP_STATUS[error.kind])
    if error.retry_after is not None:
        answer.headers["retry-after"] = str(max(1, error.retry_after))
    return answer
