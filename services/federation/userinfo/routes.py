"""HTTP face of userinfo, and of what tells apps about it (RFC 9728)."""

from __future__ import annotations

import json
from typing import Any, Final

from authservice_validator.dpop import ALGORITHMS
from fastapi import Request, Response

from chassis.context import Access
from chassis.errors import InvalidRequest
from chassis.http import KIB, Router
from contracts.apps import DEFAULT_SCOPES
from contracts.dpop import HEADER, NONCE_HEADER
from services.federation.authorize.parameters import FORM, read_form
from services.federation.userinfo.service import BEARER, DPOP, METADATA, PATH, Presented, UserinfoService

_MAX_AGE: Final = "public, max-age=300"
_CLAIMS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["sub"],
    "properties": {
        "sub": {"type": "string", "description": "The user's id, as in the ID token."},
        "name": {"type": "string"},
        "locale": {"type": "string"},
        "updated_at": {"type": "integer", "description": "Unix seconds."},
        "email": {"type": "string"},
        "email_verified": {"type": "boolean"},
        "phone_number": {"type": "string"},
    },
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": _CLAIMS}}},
    400: {"description": "`invalid_request`: a token in the URL, or in two places."},
    401: {"description": "`invalid_token`, `invalid_dpop_proof`, `use_dpop_nonce`: see `WWW-Authenticate`."},
    403: {"description": "`insufficient_scope`: the token is not for `openid`."},
}
_DOCUMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}}},
}


def routes(userinfo: UserinfoService, base_url: str) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")
    _declare_userinfo(router, userinfo)
    _declare_metadata(router, base_url)
    return router


def _declare_userinfo(router: Router, userinfo: UserinfoService) -> None:
    async def tell(request: Request, presented: Presented | None) -> Response:
        claims = await userinfo.tell(presented, request.headers.getlist(HEADER), request.method)
        answer = Response(json.dumps(claims, ensure_ascii=False), media_type="application/json")
        if presented is not None and presented.scheme == DPOP:
            answer.headers[NONCE_HEADER] = userinfo.nonce()
        return answer

    @router.get(PATH, access=Access.OAUTH, limit="oauth", response_model=None, responses=_ANSWERS)
    async def get_userinfo(request: Request) -> Response:
        """Tell an app of its user (OpenID Connect Core §5.3), by `Authorization: Bearer` or `DPoP`.

        What is told goes by the token's scopes: `profile` for name, locale and the time of the last change,
        `email` for the address and whether it is verified; and by the `claims` parameter of the request.
        """
        return await tell(request, _of_header(request))

    @router.post(
        PATH,
        access=Access.OAUTH,
        limit="oauth",
        body_limit=32 * KIB,
        response_model=None,
        responses=_ANSWERS,
        request_body={
            "required": False,
            "content": {
                FORM: {"schema": {"type": "object", "properties": {"access_token": {"type": "string"}}}}
            },
        },
    )
    async def post_userinfo(request: Request) -> Response:
        """Do as `GET /userinfo`; the token may instead be the form's `access_token` (RFC 6750 §2.2)."""
        presented = _of_header(request)
        body = await request.body()
        if body:
            form = read_form(request.headers.get("content-type", ""), body)
            if form.twice or ("access_token" in form.values and presented is not None):
                raise InvalidRequest("Send the token once.")
            if "access_token" in form.values:
                presented = Presented(BEARER, form.get("access_token"))
        return await tell(request, presented)


def _of_header(request: Request) -> Presented | None:
    """Return the token of the header.

    Raises:
        InvalidRequest: there is one in the URL, where logs and histories keep it (RFC 6750 §2.3).
    """
    if "access_token" in request.query_params:
        raise InvalidRequest("Send the token in a header, never in the URL.")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return Presented(scheme.lower(), token.strip()) if scheme.lower() in (BEARER, DPOP) and token else None


def _declare_metadata(router: Router, base_url: str) -> None:
    def document(path: str) -> Response:
        body = {
            "resource": f"{base_url}{path}",
            "authorization_servers": [base_url],
            "scopes_supported": DEFAULT_SCOPES,
            "bearer_methods_supported": ["header", "body"],
            "dpop_signing_alg_values_supported": ALGORITHMS,
            "dpop_bound_access_tokens_required": False,
            "resource_documentation": f"{base_url}/docs",
        }
        return Response(json.dumps(body), media_type="application/json", headers={"cache-control": _MAX_AGE})

    @router.get(METADATA, access=Access.PUBLIC, limit="public", response_model=None, responses=_DOCUMENT)
    async def get_protected_resource_metadata() -> Response:
        """Answer by whose tokens this API is opened (RFC 9728 §3); it may be kept for five minutes."""
        return document("")

    @router.get(
        f"{METADATA}{PATH}", access=Access.PUBLIC, limit="public", response_model=None, responses=_DOCUMENT
    )
    async def get_userinfo_metadata() -> Response:
        """Answer the same of `/userinfo`, whose refusals name this address."""
        return document(PATH)
