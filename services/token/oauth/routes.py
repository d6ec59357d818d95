"""HTTP face of the machines' endpoints; both answer without FastAPI's machinery, being among the hottest."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import Request, Response

from chassis.context import Access, CallerContext
from chassis.errors import InvalidRequest
from chassis.http import KIB, Caller, Router
from services.token.errors import UnsupportedGrantType
from services.token.oauth.models import AuthenticatedAccount
from services.token.oauth.parameters import Parameters, read_client, read_parameters
from services.token.oauth.service import OAuthService

_BODY_LIMIT: Final = 64 * KIB
_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}  # RFC 6749 §5.1
_CLIENT: Final[dict[str, Any]] = {
    "client_id": {"type": "string", "description": "The service account's id, unless in the header."},
    "client_secret": {"type": "string", "description": "Its secret, unless in the header."},
    "client_assertion_type": {"type": "string", "description": "With `client_assertion`: RFC 7523 §2.2."},
    "client_assertion": {"type": "string", "description": "A JWT signed with one of the account's keys."},
}

Answer = Callable[[CallerContext, AuthenticatedAccount, Parameters], Awaitable[Mapping[str, object]]]


def routes(oauth: OAuthService) -> Router:
    """The slice's routes."""
    router = Router(tag="Machines")
    _declare_token(router, oauth)
    _declare_introspection(router, oauth)
    return router


def _declare_token(router: Router, oauth: OAuthService) -> None:
    async def grant(
        caller: CallerContext, client: AuthenticatedAccount, parameters: Parameters
    ) -> Mapping[str, object]:
        if parameters.get("grant_type") != "client_credentials":
            raise UnsupportedGrantType
        token = await oauth.client_credentials(caller, client, parameters.get("scope"))
        return {
            "access_token": token.access_token,
            "token_type": "Bearer",
            "expires_in": token.expires_in,
            "scope": token.scope,
        }

    at_hand = _answering(oauth, grant)

    @router.post(
        "/oauth/token",
        access=Access.OAUTH,
        limit="oauth",
        body_limit=_BODY_LIMIT,
        response_model=None,
        shortcut=at_hand,
        request_body=_body(
            {
                "grant_type": {"type": "string", "enum": ["client_credentials"]},
                "scope": {"type": "string", "description": "Some of the account's scopes; all by default."},
            },
            required=["grant_type"],
        ),
        responses={
            200: {"content": {"application/json": {"schema": _TOKEN_ANSWER}}},
            400: {"description": "`invalid_request`, `invalid_scope`, `unsupported_grant_type`"},
            401: {"description": "`invalid_client`"},
        },
    )
    async def machine_token(request: Request, caller: Caller) -> Response:
        """Give a service account an access token (RFC 6749 §4.4).

        The account proves itself by HTTP Basic, by `client_id` and `client_secret` in a form or JSON body, or
        by `private_key_jwt` (RFC 7523); by one of them only.
        """
        return await at_hand(request, await request.body())


def _declare_introspection(router: Router, oauth: OAuthService) -> None:
    async def introspect(
        _caller: CallerContext, client: AuthenticatedAccount, parameters: Parameters
    ) -> Mapping[str, object]:
        if "token" not in parameters:
            raise InvalidRequest("Send the `token`.")
        return await oauth.introspect(client, parameters["token"])

    at_hand = _answering(oauth, introspect)

    @router.post(
        "/oauth/introspect",
        access=Access.OAUTH,
        limit="oauth",
        body_limit=_BODY_LIMIT,
        response_model=None,
        shortcut=at_hand,
        request_body=_body(
            {
                "token": {"type": "string"},
                "token_type_hint": {"type": "string", "description": "Accepted and not needed."},
            },
            required=["token"],
        ),
        responses={
            200: {"content": {"application/json": {"schema": _INTROSPECTION_ANSWER}}},
            400: {"description": "`invalid_request`"},
            401: {"description": "`invalid_client`"},
        },
    )
    async def introspect_token(request: Request, caller: Caller) -> Response:
        """Say whether an access token of the account's tenant is good now, and what it says (RFC 7662).

        A revoked one is inactive at once. Another tenant's, and whatever is no token, is `{"active": false}`.
        """
        return await at_hand(request, await request.body())


def _answering(oauth: OAuthService, answer: Answer) -> Callable[[Request, bytes], Awaitable[Response]]:
    """Wrap an endpoint: parameters, client, answer."""

    async def at_hand(request: Request, body: bytes) -> Response:
        caller: CallerContext = request.scope["caller"]
        content_type = request.headers.get("content-type", "")
        parameters = read_parameters(content_type, body, request.scope["query_string"])
        presented = read_client(request.headers.get("authorization"), parameters)
        client = await oauth.authenticate(caller, presented)
        document = await answer(caller, client, parameters)
        text = json.dumps(document, separators=(",", ":"), default=_plain)
        return Response(text, media_type="application/json", headers=_NO_STORE)

    return at_hand


def _body(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": {**properties, **_CLIENT}}
    kinds = ("application/x-www-form-urlencoded", "application/json")
    return {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}


def _plain(value: object) -> object:
    """Give JSON what the validator made immutable."""
    return dict(value) if isinstance(value, Mapping) else list(value)  # type: ignore[call-overload]  # the two frozen kinds


_TOKEN_ANSWER: Final = {
    "type": "object",
    "required": ["access_token", "token_type", "expires_in", "scope"],
    "properties": {
        "access_token": {"type": "string"},
        "token_type": {"type": "string", "enum": ["Bearer"]},
        "expires_in": {"type": "integer"},
        "scope": {"type": "string"},
    },
}
_INTROSPECTION_ANSWER: Final = {
    "type": "object",
    "required": ["active"],
    "properties": {"active": {"type": "boolean"}, "scope": {"type": "string"}, "sub": {"type": "string"}},
    "additionalProperties": True,
}
