"""`POST /register`, and what an app that registered may do about itself at `/register/{app_id}`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import Request, Response

from chassis.context import Access
from chassis.errors import AppError, Kind, Unauthenticated
from chassis.http import KIB, Caller, Router
from chassis.rpc import Channel
from contracts.gen.internal.orgs.v1 import registrations_pb2 as messages
from contracts.gen.internal.orgs.v1.registrations_pb2_grpc import RegistrationServiceStub
from contracts.origins import origin_of
from services.federation.errors import RegistrationBodyRefused

PATH: Final = "/register"
_OWN: Final = PATH + "/{app_id}"
_BODY_LIMIT: Final = 64 * KIB
_MAX_TOKEN_LENGTH: Final = 128
_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
_METADATA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Client metadata (RFC 7591 §2, OpenID Connect Registration §2).",
    "properties": {
        "redirect_uris": {"type": "array", "items": {"type": "string"}},
        "client_name": {"type": "string"},
        "token_endpoint_auth_method": {"type": "string"},
        "grant_types": {"type": "array", "items": {"type": "string"}},
        "response_types": {"type": "array", "items": {"type": "string"}},
        "scope": {"type": "string"},
        "application_type": {"type": "string", "enum": ["web", "native"]},
        "jwks": {"type": "object"},
    },
}
_BODY: Final = {"required": True, "content": {"application/json": {"schema": _METADATA}}}
_ANSWER: Final = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["client_id", "registration_client_uri"],
                "properties": {
                    "client_id": {"type": "string"},
                    "client_secret": {"type": "string"},
                    "registration_access_token": {"type": "string"},
                    "registration_client_uri": {"type": "string"},
                },
            }
        }
    }
}
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    400: {
        "description": "`invalid_redirect_uri`, `invalid_client_metadata`, `unapproved_software_statement`"
    },
    401: {"description": "`invalid_token`"},
}


class RegistrationTokenMissing(Unauthenticated):
    """The request for a registration has no good bearer token (RFC 6750 §3.1)."""

    code = "invalid_token"
    detail = "The access token is missing or not valid here."

    def __init__(self) -> None:
        """Name the scheme, as every 401 does."""
        super().__init__(headers=(("WWW-Authenticate", 'Bearer realm="register", error="invalid_token"'),))


def routes(orgs: Channel, base_url: str) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")
    apps = _Registrations(orgs, base_url)
    _declare_registration(router, apps)
    _declare_management(router, apps)
    return router


class _Registrations:
    """Asks `orgs`, and answers as RFC 7591 §3.2 has it. Tokens go on as hashes, bodies as they came."""

    def __init__(self, orgs: Channel, base_url: str) -> None:
        self.stub = RegistrationServiceStub(orgs.for_stubs)
        self._base_url = base_url

    def answer(self, registration: messages.Registration, status: int) -> Response:
        shown = json.loads(registration.metadata_json)
        if registration.registration_access_token:
            shown["registration_access_token"] = registration.registration_access_token
        shown["registration_client_uri"] = f"{self._base_url}{PATH}/{registration.app_id}"
        text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
        return Response(text, status_code=status, media_type="application/json", headers=_NO_STORE)


def _declare_registration(router: Router, apps: _Registrations) -> None:
    @router.post(
        PATH,
        access=Access.OAUTH,
        limit="oauth",
        body_limit=_BODY_LIMIT,
        status_code=201,
        response_model=None,
        request_body=_BODY,
        responses={**_REFUSED, 201: _ANSWER},
    )
    async def register_app(request: Request, caller: Caller) -> Response:
        """Register an app (RFC 7591), with an initial access token that an admin gave out, as a bearer.

        The token decides the client (tenant). The app gets no more than the client's settings allow, must use
        PKCE, and its users are asked for consent. The answer has its `client_id`, its secret where it proves
        itself by one, and the token by which it changes itself; neither is shown again.
        """
        wanted = messages.RegisterRequest(
            token_sha256=_bearer(request), metadata_json=await _document(request), origin=origin_of(caller)
        )
        async with _naming_the_scheme():
            return apps.answer(await apps.stub.Register(wanted), 201)


def _declare_management(router: Router, apps: _Registrations) -> None:
    @router.get(
        _OWN,
        access=Access.OAUTH,
        limit="oauth",
        response_model=None,
        responses={200: _ANSWER, 401: _REFUSED[401]},
    )
    async def get_registration(app_id: str, request: Request, caller: Caller) -> Response:
        """Show an app to itself (RFC 7592 §2.1), with its registration access token as a bearer."""
        wanted = messages.GetRegistrationRequest(app_id=app_id, token_sha256=_bearer(request))
        async with _naming_the_scheme():
            return apps.answer(await apps.stub.GetRegistration(wanted), 200)

    @router.put(
        _OWN,
        access=Access.OAUTH,
        limit="oauth",
        body_limit=_BODY_LIMIT,
        response_model=None,
        request_body=_BODY,
        responses={**_REFUSED, 200: _ANSWER},
    )
    async def replace_registration(app_id: str, request: Request, caller: Caller) -> Response:
        """Replace what an app said of itself (RFC 7592 §2.2): what is not sent is back at its default.

        The answer has a new registration access token; the old one is dead.
        """
        wanted = messages.ReplaceRegistrationRequest(
            app_id=app_id,
            token_sha256=_bearer(request),
            metadata_json=await _document(request),
            origin=origin_of(caller),
        )
        async with _naming_the_scheme():
            return apps.answer(await apps.stub.ReplaceRegistration(wanted), 200)

    @router.delete(_OWN, access=Access.OAUTH, limit="oauth", status_code=204, responses={401: _REFUSED[401]})
    async def delete_registration(app_id: str, request: Request, caller: Caller) -> None:
        """Delete an app on its own wish (RFC 7592 §2.3); its secrets and tokens are dead with it."""
        wanted = messages.DeleteRegistrationRequest(
            app_id=app_id, token_sha256=_bearer(request), origin=origin_of(caller)
        )
        async with _naming_the_scheme():
            await apps.stub.DeleteRegistration(wanted)


@asynccontextmanager
async def _naming_the_scheme() -> AsyncIterator[None]:
    """Pass what `orgs` refuses on; a token that is not good with the scheme that it is of."""
    try:
        yield
    except AppError as error:
        if error.kind is Kind.UNAUTHENTICATED:
            raise RegistrationTokenMissing from None
        raise


def _bearer(request: Request) -> bytes:
    """Return the hash of the bearer token.

    Raises:
        RegistrationTokenMissing: there is none, or none that could be one.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.isascii() or not 0 < len(token) <= _MAX_TOKEN_LENGTH:
        raise RegistrationTokenMissing
    return hashlib.sha256(token.encode()).digest()


async def _document(request: Request) -> str:
    """Return the body, which `orgs` parses.

    Raises:
        RegistrationBodyRefused: it is no JSON by its type, or no text.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RegistrationBodyRefused("Send the metadata as application/json.")
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError:
        raise RegistrationBodyRefused("The body is not UTF-8.") from None
