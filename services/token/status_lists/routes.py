"""HTTP face of the status lists."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request, Response

from chassis.context import Access
from chassis.http import Caller, Router
from services.token.status_lists.service import StatusList, StatusLists

_MEDIA_TYPE = "application/statuslist+jwt"
_MAX_NUMBER = 2**40


def routes(lists: StatusLists) -> Router:
    """The slice's routes."""
    router = Router(tag="Revocations")

    @router.get(
        "/.well-known/status-lists/{number}",
        access=Access.PUBLIC,
        limit="public",
        response_class=_Jwt,
        responses={
            200: {
                "content": {_MEDIA_TYPE: {"schema": {"type": "string"}, "example": "eyJhbGciOiJFUzI1NiIs…"}}
            },
            304: {"description": "The list still says what the one named in `If-None-Match` said."},
            404: {"description": "`status_list_not_found`"},
        },
    )
    async def get_status_list(
        request: Request, _caller: Caller, number: Annotated[int, Path(ge=0, le=_MAX_NUMBER)]
    ) -> Response:
        """Answer a status list as a signed JWT (draft-ietf-oauth-status-list-21).

        An access token says in `status.status_list` which list (`uri`) and which bit (`idx`) is its own; a
        bit that is 1 says that the token was revoked. The list is signed with the issuer's key (`ES256`, in
        the key set); `sub` is its address. It may be kept for `ttl` seconds, and gone by until `exp` where no
        newer one can be had. Tokens of service accounts have no bit.
        """
        return _answer(request, await lists.of(number), lists.ttl)

    return router


class _Jwt(Response):
    media_type = _MEDIA_TYPE


def _answer(request: Request, found: StatusList, ttl: int) -> Response:
    headers = {"cache-control": f"public, max-age={ttl}", "etag": found.etag}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return _Jwt(found.body, headers=headers)
