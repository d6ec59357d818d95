"""HTTP face of the token endpoint; it answers without FastAPI's machinery, being among the hottest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import Request, Response
from prometheus_client import Counter

from chassis.context import Access
from chassis.errors import AppError, InvalidRequest
from chassis.http import Caller, Router
from contracts.dpop import NONCE_HEADER
from services.token.errors import UnsupportedGrantType
from services.token.oauth.authentication import ClientAuthentication
from services.token.oauth.endpoint import BODY_LIMIT, OAuthRequest, answering, body_schema, json_response
from services.token.oauth.models import TokenAnswer
from services.token.oauth.proofs import TokenProofs

ANSWERS = Counter(
    "token_endpoint_answers_total",
    "Answers of the token endpoint, by grant and outcome.",
    ["grant", "outcome"],
)

GrantHandler = Callable[[OAuthRequest, str | None], Awaitable[TokenAnswer]]
"""Answers a grant type: the request, and the thumbprint of the key that it proves to have."""

PATH: Final = "/token"


def routes(
    authentication: ClientAuthentication, proofs: TokenProofs, handlers: Mapping[str, GrantHandler]
) -> Router:
    """The slice's route; `handlers` are by grant type."""
    router = Router(tag="OAuth")

    async def grant(request: OAuthRequest) -> Response:
        grant_type = request.parameters.get("grant_type")
        if grant_type is None:
            raise InvalidRequest("Send a `grant_type`.")
        handler = handlers.get(grant_type)
        if handler is None:
            raise UnsupportedGrantType
        try:
            jkt = await proofs.key_of(request, PATH)
            answer = await handler(request, jkt)
        except AppError as error:
            ANSWERS.labels(grant_type, error.code).inc()
            raise
        ANSWERS.labels(grant_type, "issued").inc()
        return json_response(answer.document(), {NONCE_HEADER: proofs.nonce()} if jkt else None)

    at_hand = answering(authentication, grant)

    @router.post(
        PATH,
        access=Access.OAUTH,
        limit="oauth",
        body_limit=BODY_LIMIT,
        response_model=None,
        shortcut=at_hand,
        request_body=body_schema(
            {"grant_type": {"type": "string", "enum": sorted(handlers)}, **_PARAMETERS},
            required=["grant_type"],
        ),
        responses={
            200: {"content": {"application/json": {"schema": _ANSWER}}},
            400: {"description": _REFUSALS},
            401: {"description": "`invalid_client`"},
        },
    )
    async def token(request: Request, caller: Caller) -> Response:
        """Give a client tokens for a grant (RFC 6749 §3.2).

        The client proves itself by HTTP Basic, by `client_id` and `client_secret` in a form or JSON body, or
        by `private_key_jwt` (RFC 7523); by one of them only. A public app sends its `client_id` alone.
        With a proof in the header `DPoP` (RFC 9449) the tokens are bound to its key; it needs the nonce that
        `DPoP-Nonce` of an answer gives.
        """
        return await at_hand(request, await request.body())

    return router


_REFUSALS: Final = (
    "`invalid_request`, `invalid_grant`, `invalid_scope`, `invalid_target`, `unauthorized_client`, "
    "`unsupported_grant_type`, `invalid_dpop_proof`, `use_dpop_nonce`; of devices `authorization_pending`, "
    "`slow_down`, `expired_token`, `access_denied`"
)
_PARAMETERS: Final[dict[str, Any]] = {
    "code": {"type": "string", "description": "Of `authorization_code`, from the redirect."},
    "redirect_uri": {"type": "string", "description": "As it was sent to `/authorize`."},
    "code_verifier": {"type": "string", "description": "RFC 7636 §4.5."},
    "refresh_token": {"type": "string", "description": "Of `refresh_token`."},
    "scope": {"type": "string", "description": "Some of what was granted, or of what a machine has."},
    "resource": {"type": "string", "description": "Some of what was granted; RFC 8707, may be repeated."},
    "device_code": {"type": "string", "description": "Of a device (RFC 8628 §3.4)."},
}
_ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["access_token", "token_type", "expires_in", "scope"],
    "properties": {
        "access_token": {"type": "string"},
        "token_type": {"type": "string", "enum": ["Bearer", "DPoP"]},
        "expires_in": {"type": "integer"},
        "scope": {"type": "string"},
        "refresh_token": {"type": "string", "description": "Only with the scope `offline_access`."},
        "id_token": {"type": "string", "description": "Only with the scope `openid`."},
        "issued_token_type": {"type": "string", "description": "Of token exchange (RFC 8693 §2.2.1)."},
    },
}
