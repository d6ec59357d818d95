"""HTTP face of the machines' endpoints; both answer without FastAPI's machinery, being among the hottest."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response

from chassis.context import Access
from chassis.errors import InvalidRequest
from chassis.http import Caller, Router
from services.token.errors import UnauthorizedClient, UnsupportedGrantType
from services.token.oauth.authentication import ClientAuthentication
from services.token.oauth.endpoint import BODY_LIMIT, OAuthRequest, answering, body_schema, json_response
from services.token.oauth.models import AuthenticatedAccount
from services.token.oauth.service import OAuthService


def routes(oauth: OAuthService, authentication: ClientAuthentication) -> Router:
    """The slice's routes."""
    router = Router(tag="Machines")
    _declare_token(router, oauth, authentication)
    _declare_introspection(router, oauth, authentication)
    return router


def _declare_token(router: Router, oauth: OAuthService, authentication: ClientAuthentication) -> None:
    async def grant(request: OAuthRequest) -> Response:
        if request.parameters.get("grant_type") != "client_credentials":
            raise UnsupportedGrantType
        if not isinstance(request.client, AuthenticatedAccount):
            raise UnauthorizedClient
        token = await oauth.client_credentials(
            request.caller, request.client, request.parameters.get("scope")
        )
        return json_response(
            {
                "access_token": token.access_token,
                "token_type": "Bearer",
                "expires_in": token.expires_in,
                "scope": token.scope,
            }
        )

    at_hand = answering(authentication, grant)

    @router.post(
        "/oauth/token",
        access=Access.OAUTH,
        limit="oauth",
        body_limit=BODY_LIMIT,
        response_model=None,
        shortcut=at_hand,
        request_body=body_schema(
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


def _declare_introspection(router: Router, oauth: OAuthService, authentication: ClientAuthentication) -> None:
    async def introspect(request: OAuthRequest) -> Response:
        if "token" not in request.parameters:
            raise InvalidRequest("Send the `token`.")
        if not isinstance(request.client, AuthenticatedAccount):
            raise UnauthorizedClient
        return json_response(await oauth.introspect(request.client, request.parameters["token"]))

    at_hand = answering(authentication, introspect)

    @router.post(
        "/oauth/introspect",
        access=Access.OAUTH,
        limit="oauth",
        body_limit=BODY_LIMIT,
        response_model=None,
        shortcut=at_hand,
        request_body=body_schema(
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
