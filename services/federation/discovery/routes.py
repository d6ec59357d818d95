"""HTTP face of discovery: among the hottest, so answered without FastAPI's machinery."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any, Final

from fastapi import Request, Response

from chassis.context import Access
from chassis.http import Router
from services.federation.discovery.document import document

MAX_AGE: Final = timedelta(minutes=5)
_CACHE_CONTROL: Final = f"public, max-age={int(MAX_AGE.total_seconds())}"

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}}},
    304: {"description": "The document is still the one named in `If-None-Match`."},
}


def routes(issuer: str) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")
    body = json.dumps(document(issuer), separators=(",", ":")).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"cache-control": _CACHE_CONTROL, "etag": etag}

    async def at_hand(request: Request, _body: bytes) -> Response:
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    @router.get(
        "/.well-known/openid-configuration",
        access=Access.PUBLIC,
        limit="public",
        response_model=None,
        shortcut=at_hand,
        responses=_ANSWERS,
    )
    async def get_openid_configuration(request: Request) -> Response:
        """Answer the issuer's metadata (OpenID Connect Discovery 1.0 §4); it may be kept for five minutes."""
        return await at_hand(request, b"")

    @router.get(
        "/.well-known/oauth-authorization-server",
        access=Access.PUBLIC,
        limit="public",
        response_model=None,
        shortcut=at_hand,
        responses=_ANSWERS,
    )
    async def get_oauth_metadata(request: Request) -> Response:
        """Answer the same document where OAuth clients look for it (RFC 8414 §3)."""
        return await at_hand(request, b"")

    return router
