"""The page of an error that no app can be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import Response

from chassis.errors import HTTP_STATUS, AppError, Kind
from contracts.clients import Client
from services.federation.errors import (
    AppUnknown,
    AuthorizationRequestGone,
    FormRefused,
    RedirectUriRefused,
)
from services.federation.pages.contents import ErrorPage, ErrorReason
from services.federation.pages.render import render

_BY_CODE: Final = {
    AuthorizationRequestGone.code: ErrorReason.EXPIRED,
    AppUnknown.code: ErrorReason.UNKNOWN_APP,
    RedirectUriRefused.code: ErrorReason.REDIRECT_URI,
    FormRefused.code: ErrorReason.FORBIDDEN,
}
_BY_KIND: Final = {
    Kind.FORBIDDEN: ErrorReason.FORBIDDEN,
    Kind.RATE_LIMITED: ErrorReason.LOCKED,
    Kind.UNAVAILABLE: ErrorReason.UNAVAILABLE,
    Kind.TIMEOUT: ErrorReason.UNAVAILABLE,
    Kind.INTERNAL: ErrorReason.UNAVAILABLE,
}
_FOR_MAKERS: Final = frozenset(
    {ErrorReason.INVALID_REQUEST, ErrorReason.UNKNOWN_APP, ErrorReason.REDIRECT_URI}
)


def error_page(error: AppError, client: Client | None, languages: Sequence[str], request_id: str) -> Response:
    """Render an error, with its own status; its detail where that helps the maker of an app."""
    reason = _BY_CODE.get(error.code) or _BY_KIND.get(error.kind, ErrorReason.INVALID_REQUEST)
    page = ErrorPage(
        reason,
        detail=error.detail if reason in _FOR_MAKERS else "",
        reference=request_id,
        retry_after=error.retry_after or 0,
    )
    response = render(page, client, languages, status=HTTP_STATUS[error.kind])
    if error.retry_after:
        response.headers["retry-after"] = str(error.retry_after)
    return response
