"""HTTP face of revocations: the stream for validators that have no gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from fastapi import Request, Response

from chassis.context import Access, KeyKind
from chassis.errors import Forbidden, Unauthenticated
from chassis.event_stream import PING, EventStream
from chassis.http import Caller, Router, StepUpToken
from chassis.models import AnswerModel
from contracts.session import Time
from contracts.step_up import REFUSALS
from services.token.revocations.feed import RevocationFeed
from services.token.revocations.models import Revocation
from services.token.revocations.tenants import TenantTokens

_EXAMPLE = (
    "event: revocation\n"
    'data: {"kind":"session","ref":"0197…","at":1790000990,"expires_at":1790000990}\n\n'
    "event: synced\ndata: {}\n\n"
    ": ping\n\n"
)


class TokensRevoked(AnswerModel):
    """What was revoked: all tokens issued until then."""

    revoked_up_to: Time


def routes(feed: RevocationFeed, tokens: TenantTokens) -> Router:
    """The slice's routes."""
    router = Router(tag="Revocations")
    _declare_stream(router, feed)
    _declare_administration(router, tokens)
    return router


def _declare_administration(router: Router, tokens: TenantTokens) -> None:
    @router.post(
        "/api/admin/clients/{client_id}/revoke-tokens",
        access=Access.ADMIN,
        permission="keys:write",
        limit="admin",
        responses={**REFUSALS, 404: {"description": "`client_not_found`"}},
    )
    async def revoke_client_tokens(
        client_id: UUID, caller: Caller, step_up_token: StepUpToken
    ) -> TokensRevoked:
        """Revoke every access token that the client's users and service accounts hold. Needs a step-up.

        For an incident in which tokens may have leaked. Sessions go on: who has a refresh token or a secret
        gets a new access token. Refused is what was issued in this second or before.
        """
        return TokensRevoked(
            revoked_up_to=await tokens.revoke(caller, client_id, step_up_token=step_up_token)
        )


def _declare_stream(router: Router, feed: RevocationFeed) -> None:
    @router.get(
        "/api/revocations/stream",
        access=Access.API_KEY,
        endless=True,
        response_class=EventStream,
        responses={
            200: {
                "description": "Server-sent events, without an end.",
                "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
            },
            403: {"description": "`forbidden`: this needs a secret API key."},
            429: {"description": "`rate_limited`: the client has as many streams as it may."},
            503: {
                "description": "`unavailable`: this process has as many streams as it may, or is stopping."
            },
        },
    )
    async def stream_revocations(request: Request, caller: Caller) -> Response:
        """Stream which of the client's access tokens have been revoked (`text/event-stream`).

        First an event `revocation` for each one in force, then `synced`, then news as they come; a comment
        at least every second, so that silence of a few seconds means a lost connection. Begin anew after any
        end: the whole set comes again, so nothing is missed. `data` of a revocation is `kind` (`session`,
        `user`, `client`, `token` or `key`), `ref` (the `sid`, `sub`, `client_id`, `jti` or key id of the
        tokens that are dead), `at` (tokens with an `iat` up to it are dead; Unix seconds) and `expires_at`
        (from then on, and a minute of leeway, it may be forgotten). A `kind` that is not known means that no
        token can be trusted.

        For servers: a publishable key is refused, and the stream ends when its key or client does.
        """
        if caller.key_kind is not KeyKind.SECRET:
            raise Forbidden("This needs a secret API key.")
        if caller.client_id is None:
            raise Unauthenticated
        return await EventStream.begun(request, _events(feed, caller.client_id))


async def _events(feed: RevocationFeed, client_id: UUID) -> AsyncGenerator[bytes, None]:
    async with aclosing(feed.watch(client_id)) as news:
        async for revocations, is_last in news:
            text = b"".join(map(_event, revocations))
            if is_last:
                text += b"event: synced\ndata: {}\n\n"
            yield text or PING


def _event(revocation: Revocation) -> bytes:
    data = {
        "kind": str(revocation.kind),
        "ref": revocation.ref,
        "at": int(revocation.not_after.timestamp()),
        "expires_at": int(revocation.expires_at.timestamp()),
    }
    return b"event: revocation\ndata: %b\n\n" % json.dumps(data, separators=(",", ":")).encode()
