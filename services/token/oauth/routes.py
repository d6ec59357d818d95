"""HTTP face of machines' tokens, introspection and revocation; all answer without FastAPI's machinery."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from chassis.clock import Clock
from chassis.context import Access
from chassis.errors import InvalidRequest
from chassis.http import Caller, Operation, Router
from contracts.apps import CLIENT_CREDENTIALS
from contracts.dpop import NONCE_HEADER
from services.token.errors import UnsupportedGrantType
from services.token.oauth.authentication import ClientAuthentication
from services.token.oauth.endpoint import (
    BODY_LIMIT,
    NO_STORE,
    OAuthRequest,
    answering,
    body_schema,
    json_response,
)
from services.token.oauth.introspection import Introspection, id_of
from services.token.oauth.issuer_tokens import IssuerTokens
from services.token.oauth.machine_tokens import MachineTokens
from services.token.oauth.models import AuthenticatedApp
from services.token.oauth.proofs import TokenProofs
from services.token.oauth.revocation import TokenRevocation
from services.token.signing.algorithms import Algorithm

INTROSPECTION_JWT: Final = "token-introspection+jwt"
_JWT_MEDIA_TYPE: Final = f"application/{INTROSPECTION_JWT}"
_MACHINE_PATH: Final = "/oauth/token"
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "`invalid_request`"},
    401: {"description": "`invalid_client`"},
}
_TOKEN_PARAMETERS: Final[dict[str, Any]] = {
    "token": {"type": "string"},
    "token_type_hint": {"type": "string", "description": "Accepted and not needed."},
}


def routes(
    authentication: ClientAuthentication,
    proofs: TokenProofs,
    machines: MachineTokens,
    introspection: Introspection,
    revocation: TokenRevocation,
    issuer_tokens: IssuerTokens,
    clock: Clock,
) -> Router:
    """The slice's routes."""
    router = Router(tag="OAuth")
    _declare_machine_token(router, authentication, proofs, machines)
    _declare_introspection(router, authentication, introspection, issuer_tokens, clock)
    _declare_revocation(router, authentication, revocation)
    return router


def _declare_machine_token(
    router: Router, authentication: ClientAuthentication, proofs: TokenProofs, machines: MachineTokens
) -> None:
    async def grant(request: OAuthRequest) -> Response:
        if request.parameters.get("grant_type") != CLIENT_CREDENTIALS:
            raise UnsupportedGrantType
        jkt = await proofs.key_of(request, _MACHINE_PATH)
        token = await machines.give(request.caller, request.client, request.parameters, jkt)
        return json_response(token.document(), {NONCE_HEADER: proofs.nonce()} if jkt else None)

    at_hand = answering(authentication, grant)

    @router.post(
        _MACHINE_PATH,
        access=Access.OAUTH,
        limit="oauth",
        body_limit=BODY_LIMIT,
        response_model=None,
        shortcut=at_hand,
        request_body=body_schema(
            {
                "grant_type": {"type": "string", "enum": [CLIENT_CREDENTIALS]},
                "scope": {"type": "string", "description": "Some of the client's scopes; all by default."},
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
        """Give a service account, or a confidential app, an access token of its own (RFC 6749 §4.4).

        The client proves itself by HTTP Basic, by `client_id` and `client_secret` in a form or JSON body, or
        by `private_key_jwt` (RFC 7523); by one of them only. `POST /token` does the same.
        """
        return await at_hand(request, await request.body())


def _declare_introspection(
    router: Router,
    authentication: ClientAuthentication,
    introspection: Introspection,
    issuer_tokens: IssuerTokens,
    clock: Clock,
) -> None:
    async def introspect(request: OAuthRequest) -> Response:
        if "token" not in request.parameters:
            raise InvalidRequest("Send the `token`.")
        client = request.client
        document = await introspection.of(client, request.parameters["token"])
        if not _wants_jwt(request.headers.get("accept", "")):
            return json_response(document)
        algorithm = Algorithm(client.app.id_token_alg if isinstance(client, AuthenticatedApp) else "RS256")
        claims = {"aud": id_of(client), "token_introspection": _thawed(document)}
        signed = await issuer_tokens.sign(INTROSPECTION_JWT, algorithm, claims, clock.now())
        return Response(signed, media_type=_JWT_MEDIA_TYPE, headers=NO_STORE)

    at_hand = answering(authentication, introspect)

    options: Operation = {
        "limit": "oauth",
        "body_limit": BODY_LIMIT,
        "response_model": None,
        "shortcut": at_hand,
        "request_body": body_schema(_TOKEN_PARAMETERS, required=["token"]),
        "responses": {200: {"content": _INTROSPECTION_CONTENT}, **_REFUSED},
    }

    @router.post("/introspect", access=Access.OAUTH, **options)
    async def introspect_oauth_token(request: Request, caller: Caller) -> Response:
        """Say whether a token of the client's tenant is good now, and what it says (RFC 7662).

        The tenant and its service accounts are told of all its access tokens, another app of its own tokens.
        A revoked one is inactive at once. Another tenant's, and whatever is no token, is `{"active": false}`.
        With `Accept: application/token-introspection+jwt` the answer is signed (RFC 9701).
        """
        return await at_hand(request, await request.body())

    @router.post("/oauth/introspect", access=Access.OAUTH, **options)
    async def introspect_token(request: Request, caller: Caller) -> Response:
        """Say what a token is worth; the older name of `POST /introspect`."""
        return await at_hand(request, await request.body())


def _declare_revocation(
    router: Router, authentication: ClientAuthentication, revocation: TokenRevocation
) -> None:
    async def revoke(request: OAuthRequest) -> Response:
        if "token" not in request.parameters:
            raise InvalidRequest("Send the `token`.")
        await revocation.revoke(request.caller, request.client, request.parameters["token"])
        return Response(status_code=200, headers=NO_STORE)

    at_hand = answering(authentication, revoke)

    @router.post(
        "/revoke",
        access=Access.OAUTH,
        limit="oauth",
        body_limit=BODY_LIMIT,
        response_model=None,
        response_class=Response,
        shortcut=at_hand,
        request_body=body_schema(_TOKEN_PARAMETERS, required=["token"]),
        responses={200: {"description": "It is good no more, or never was."}, **_REFUSED},
    )
    async def revoke_token(request: Request, caller: Caller) -> Response:
        """Revoke a token that the client got itself (RFC 7009).

        A refresh token ends its whole grant, access tokens included; an access token ends alone. Of a token
        that is another's nothing happens, and the answer is the same.
        """
        return await at_hand(request, await request.body())


def _wants_jwt(accept: str) -> bool:
    """Whether the signed form is asked for by name (RFC 9701 §4)."""
    kinds = [kind.strip().lower() for kind in accept.split(",")]
    return any(kind.partition(";")[0].strip() == _JWT_MEDIA_TYPE and kind[-3:] != "q=0" for kind in kinds)


def _thawed(value: object) -> object:
    """Return what the validator made immutable as JSON's own kinds."""
    if hasattr(value, "items"):
        return {name: _thawed(inner) for name, inner in value.items()}
    return [_thawed(inner) for inner in value] if isinstance(value, tuple) else value


_TOKEN_ANSWER: Final = {
    "type": "object",
    "required": ["access_token", "token_type", "expires_in", "scope"],
    "properties": {
        "access_token": {"type": "string"},
        "token_type": {"type": "string", "enum": ["Bearer", "DPoP"]},
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
_INTROSPECTION_CONTENT: Final = {
    "application/json": {"schema": _INTROSPECTION_ANSWER},
    _JWT_MEDIA_TYPE: {"schema": {"type": "string"}},
}
