"""`/_authz`: the gateway's decision for other data planes, which forward by themselves.

For nginx, Traefik and Envoy. It judges the credentials of the request that is asked about as a route of class
`user` would (`?require=api_key`: as one of class `api_key`), and answers 200 with `X-Auth-…` headers, or the
refusal. The data plane must delete these headers from what its clients send, and set them from this answer.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Receive, Scope

from chassis.context import Access, CallerContext
from chassis.errors import InvalidRequest
from gateway.addresses import ClientAddresses
from gateway.answer import Answer, RawHeaders
from gateway.callers import Callers, Known
from gateway.inbound import Inbound
from gateway.limits import Limits
from gateway.tokens import Tokens

PATH: Final = b"/_authz"
PREFIX: Final = b"/_authz/"
"""Envoy asks under a prefix, with the request's own method and path."""

_REQUIRED: Final = {"user": Access.USER, "api_key": Access.API_KEY}
_METHOD = re.compile(r"[A-Z]{1,16}")
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")
_LOOPBACK: Final = ("127.0.0.1", "::1")


class Decisions:
    """Answers decision requests."""

    def __init__(self, callers: Callers, tokens: Tokens, limits: Limits, addresses: ClientAddresses) -> None:
        """Take what the gateway's own routes are decided by."""
        self._callers = callers
        self._tokens = tokens
        self._limits = limits
        self._addresses = addresses

    async def answer(
        self, request: Inbound, caller: CallerContext | None, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        """Decide, and answer 200 with who is calling.

        Raises:
            Unauthenticated: as the routes of that class do; so `Forbidden`, `RateLimited` and `Unavailable`.
        """
        access = _required(request)
        self._take_original(request)
        known = Known()
        decided = await self._callers.resolve(access, request, known)
        answer.headers += await self._limits.check("decision", decided)
        scope_claim = None
        if access is Access.USER and known.client is not None and request.bearer:
            scope_claim = (await self._tokens.verify(request.bearer, known.client)).scope
        told: RawHeaders = [
            (name, _plain(value))
            for name, value in (
                (b"x-auth-client-id", decided.client_id),
                (b"x-auth-user-id", decided.user_id),
                (b"x-auth-session-id", decided.session_id),
                (b"x-auth-role", decided.role),
                (b"x-auth-impersonator-id", decided.impersonator_id),
                (b"x-auth-scope", scope_claim),
            )
            if value is not None
        ]
        await answer.whole(200, [*told, (b"cache-control", b"no-store")], b"")

    def _take_original(self, request: Inbound) -> None:
        """Let the refusal name the request that is asked about, when a proxy of ours says which it is."""
        if request.peer not in _LOOPBACK and not self._addresses.is_trusted(request.peer):
            return
        method = request.text(b"x-original-method") or request.text(b"x-forwarded-method") or ""
        uri = request.text(b"x-original-uri") or request.text(b"x-forwarded-uri") or ""
        if _METHOD.fullmatch(method):
            request.method = method
        if uri.startswith("/"):
            request.path = uri.partition("?")[0].encode("latin-1")
        elif request.path.startswith(PREFIX):
            request.path = request.path[len(PATH) :]


def _required(request: Inbound) -> Access:
    asked = parse_qs(request.query.decode("ascii"), keep_blank_values=True).get("require", ["user"])
    if len(asked) != 1 or asked[0] not in _REQUIRED:
        raise InvalidRequest("`require` is user or api_key.")
    return _REQUIRED[asked[0]]


def _plain(value: object) -> bytes:
    """A header's value: nothing that could end it early."""
    return _NOT_PLAIN.sub("?", str(value)).encode()
