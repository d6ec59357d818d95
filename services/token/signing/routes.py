"""HTTP face of signing: the published keys, and their rotation by an admin."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import Field

from chassis.context import Access, CallerContext
from chassis.http import Caller, Router, StepUpToken
from chassis.models import AnswerModel
from contracts.step_up import REFUSALS
from services.token.signing.algorithms import Algorithm
from services.token.signing.jwks import MAX_AGE, Jwks, KeySet
from services.token.signing.key_routes import declare_keys
from services.token.signing.models import Rotation
from services.token.signing.service import SigningService

_JWKS_EXAMPLE = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "c8fr…",
            "y": "ZRk4…",
            "kid": "o7qF…",
            "use": "sig",
            "alg": "ES256",
        }
    ]
}

_CACHE_CONTROL = f"public, max-age={int(MAX_AGE.total_seconds())}"
# Any other query is left to FastAPI, which says what is wrong with it.
_ONLY_CLIENT_ID = re.compile(rb"client_id=([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")

Force = Annotated[bool, Query(description="Also when validators may have to fetch the key set anew.")]
ClientParameter = Annotated[UUID | None, Query(description="Only this client's keys.")]


class SecretRotated(AnswerModel):
    """The new JWT secret."""

    jwt_secret: str = Field(description="Its UTF-8 bytes are the HMAC key. Shown once.")


class SigningKeyRotated(AnswerModel):
    """The keys after the rotation, by `kid`."""

    alg: str
    active_kid: str
    next_kid: str
    retiring_kid: str | None

    @classmethod
    def of(cls, rotation: Rotation) -> SigningKeyRotated:
        """Show a rotation."""
        return cls(
            alg=rotation.algorithm,
            active_kid=rotation.active_kid,
            next_kid=rotation.next_kid,
            retiring_kid=rotation.retiring_kid,
        )


class SigningKeysRotated(AnswerModel):
    """The issuer's keys after the rotation, by algorithm."""

    items: list[SigningKeyRotated]


def routes(signing: SigningService, jwks: Jwks) -> Router:
    """The slice's routes."""
    router = Router(tag="Keys")
    _declare_jwks(router, jwks)
    _declare_rotation(router, signing)
    declare_keys(router, signing)
    return router


def _declare_jwks(router: Router, jwks: Jwks) -> None:
    async def at_hand(request: Request, _body: bytes) -> Response | None:
        caller: CallerContext = request.scope["caller"]
        query = request.scope["query_string"]
        client_id = caller.client_id
        if query:
            match = _ONLY_CLIENT_ID.fullmatch(query)
            if match is None:
                return None
            client_id = UUID(match[1].decode())
        found = jwks.at_hand(client_id)
        return None if found is None else _answer(request, found)

    @router.get(
        "/.well-known/jwks.json",
        access=Access.PUBLIC,
        limit="public",
        response_model=None,
        shortcut=at_hand,
        responses={
            200: {"content": {"application/json": {"example": _JWKS_EXAMPLE}}},
            304: {"description": "The set is still the one named in `If-None-Match`."},
            404: {"description": "`client_not_found`"},
        },
    )
    async def get_jwks(request: Request, caller: Caller, client_id: ClientParameter = None) -> Response:
        """Answer the public keys that tokens are signed with, as a JWK set (RFC 7517).

        With `client_id`, or an API key, those that sign this client's access tokens; without, those of all
        clients while there are no more than JWKS_MAX_CLIENTS, and of none beyond: validators of access tokens
        should always say whose they check. In each set are also the issuer's own keys, which sign ID tokens
        and logout tokens and never an access token: their `kid` begins with `issuer.` and no other does.
        `client_id=00000000-0000-0000-0000-000000000000` has them alone. A set holds the keys that sign now,
        those that will sign next, and those that have signed tokens which still live. May be kept for five
        minutes.
        """
        return _answer(request, await jwks.of(client_id or caller.client_id))


def _declare_rotation(router: Router, signing: SigningService) -> None:
    async def rotate_secret(client_id: UUID, caller: Caller, step_up_token: StepUpToken) -> SecretRotated:
        """Replace the client's JWT secret, shown only here. Tokens signed with the old one are dead."""
        secret = await signing.rotate_secret(caller, client_id, step_up_token=step_up_token)
        return SecretRotated(jwt_secret=secret)

    for name in ("rotate-secret", "rotate-jwt"):
        router.post(
            f"/api/admin/clients/{{client_id}}/{name}",
            access=Access.ADMIN,
            permission="keys:write",
            limit="admin",
            idempotent=True,
            responses={**REFUSALS, 404: {"description": "`client_not_found`"}},
        )(rotate_secret)

    @router.post(
        "/api/admin/clients/{client_id}/rotate-signing-key",
        access=Access.ADMIN,
        permission="keys:write",
        limit="admin",
        idempotent=True,
        responses={
            **REFUSALS,
            404: {"description": "`client_not_found`"},
            409: {
                "description": "`rotation_too_soon`: validators may not know the next key yet; or "
                "`no_signing_keys`: the client's tokens are signed with its JWT secret."
            },
        },
    )
    async def rotate_signing_key(
        client_id: UUID,
        caller: Caller,
        step_up_token: StepUpToken,
        force: Force = False,
    ) -> SigningKeyRotated:
        """Let the client's next key sign, and publish a new next one.

        The old key stays published until its last token is over, so no validation fails. While the next key
        has been published for less than seven minutes this is refused unless forced: it would sign before
        every validator has seen it.
        """
        rotation = await signing.rotate_signing_key(
            caller, client_id, force=force, step_up_token=step_up_token
        )
        return SigningKeyRotated.of(rotation)

    @router.post(
        "/api/admin/signing-keys/rotate",
        access=Access.ADMIN,
        permission="keys:write",
        limit="admin",
        idempotent=True,
        responses={
            **REFUSALS,
            409: {"description": "`rotation_too_soon`: validators may not know a next key yet"},
        },
    )
    async def rotate_issuer_keys(
        caller: Caller,
        step_up_token: StepUpToken,
        alg: Annotated[
            Literal["RS256", "ES256", "EdDSA"] | None, Query(description="Only the key of this algorithm.")
        ] = None,
        force: Force = False,
    ) -> SigningKeysRotated:
        """Rotate the keys that sign ID tokens and logout tokens: of one algorithm, or of each.

        See `rotate-signing-key` of a client: when one is too young, none is rotated.
        """
        algorithm = Algorithm(alg) if alg is not None else None
        done = await signing.rotate_issuer_keys(caller, algorithm, force=force, step_up_token=step_up_token)
        return SigningKeysRotated(items=[SigningKeyRotated.of(rotation) for rotation in done])


def _answer(request: Request, found: KeySet) -> Response:
    headers = {"cache-control": _CACHE_CONTROL, "etag": found.etag, "vary": "x-api-key"}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type="application/json", headers=headers)
