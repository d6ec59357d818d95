"""What every OAuth endpoint does first, without FastAPI's machinery: parameters, client, answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from starlette.datastructures import Headers

from chassis.context import CallerContext
from chassis.http import KIB
from services.token.oauth.authentication import ClientAuthentication
from services.token.oauth.models import Authenticated
from services.token.oauth.parameters import Parameters, read_client, read_parameters

BODY_LIMIT: Final = 64 * KIB
NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}  # RFC 6749 §5.1
_CLIENT: Final[dict[str, Any]] = {
    "client_id": {"type": "string", "description": "The client's id, unless in the header."},
    "client_secret": {"type": "string", "description": "Its secret, unless in the header."},
    "client_assertion_type": {"type": "string", "description": "With `client_assertion`: RFC 7523 §2.2."},
    "client_assertion": {"type": "string", "description": "A JWT signed with one of the client's keys."},
}


@dataclass(frozen=True, slots=True)
class OAuthRequest:
    """A request whose client is known."""

    caller: CallerContext
    client: Authenticated
    parameters: Parameters
    headers: Headers


Answer = Callable[[OAuthRequest], Awaitable[Response]]


def answering(
    authentication: ClientAuthentication, answer: Answer
) -> Callable[[Request, bytes], Awaitable[Response]]:
    """Wrap an endpoint, so that it is asked for authenticated clients only."""

    async def at_hand(request: Request, body: bytes) -> Response:
        caller: CallerContext = request.scope["caller"]
        headers = request.headers
        parameters = read_parameters(headers.get("content-type", ""), body, request.scope["query_string"])
        presented = read_client(headers.get("authorization"), parameters)
        client = await authentication.authenticate(caller, presented)
        return await answer(OAuthRequest(caller, client, parameters, headers))

    return at_hand


def json_response(document: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer that no cache keeps."""
    text = json.dumps(document, separators=(",", ":"), default=_plain)
    return Response(text, media_type="application/json", headers={**NO_STORE, **(headers or {})})


def body_schema(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    """Return the contract's word on a body: a form or a JSON object, with the client's own members."""
    schema = {"type": "object", "required": required, "properties": {**properties, **_CLIENT}}
    kinds = ("application/x-www-form-urlencoded", "application/json")
    return {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}


def _plain(value: object) -> object:
    """Give JSON what the validator made immutable."""
    return dict(value) if isinstance(value, Mapping) else list(value)  # type: ignore[call-overload]  # the two frozen kinds
