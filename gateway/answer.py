"""An answer on its way out: what every answer carries, and whether it has begun."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from starlette.types import Message, Send

from chassis.errors import AppError
from chassis.problems import problem
from chassis.whole_answers import write_answer
from gateway.error_pages import error_page

RawHeaders = list[tuple[bytes, bytes]]

# Hop-by-hop (RFC 9110 §7.6.1), the gateway's own to say, or nobody's business outside.
_DROPPED = frozenset(
    {
        b"connection",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"referrer-policy",
        b"server",
        b"strict-transport-security",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"x-content-type-options",
        b"x-frame-options",
        b"x-powered-by",
        b"x-request-id",
    }
)
_DROPPED_PREFIXES = (b"access-control-", b"ratelimit-", b"x-auth-", b"x-caller", b"x-internal-")


def security_headers(base_url: str) -> RawHeaders:
    """Return the headers that every answer has; a browser is bound to HTTPS only where it is used."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
    ]
    if base_url.startswith("https://"):
        headers.append((b"strict-transport-security", b"max-age=31536000; includeSubDomains"))
    return headers


class Answer:
    """Wraps `send`. `headers` are added to the answer, whoever makes it.

    `closes_on_refusal` is for a client that waits to be asked for its body (`Expect: 100-continue`): refused
    before that, it may send the body or not, so nothing may follow on that connection. `oauth_errors` is for
    the routes that refuse as OAuth does (RFC 6749 §5.2).
    """

    __slots__ = ("_send", "closes_on_refusal", "has_begun", "headers", "oauth_errors", "request_id", "status")

    def __init__(self, send: Send, request_id: str, security: RawHeaders) -> None:
        """Take the headers that every answer has."""
        self._send = send
        self.request_id = request_id
        self.headers: RawHeaders = [(b"x-request-id", request_id.encode()), *security]
        self.closes_on_refusal = False
        self.oauth_errors = False
        self.has_begun = False
        self.status = 0

    async def begin(self, status: int, headers: RawHeaders) -> None:
        """Send the head."""
        self.status = status
        self.has_begun = True
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *self.headers]}
        )

    async def body(self, part: bytes, *, more: bool = False) -> None:
        """Send a part of the body, or the last one."""
        await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def whole(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send a complete answer."""
        await self.complete(status, [*headers, (b"content-length", str(len(body)).encode())], body)

    async def complete(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send a complete answer whose headers say the body's length, where the status has one."""
        if write_answer(self._send, status, [*headers, *self.headers], body):
            self.status = status
            self.has_begun = True
            return
        await self.begin(status, headers)
        await self.body(body)

    async def send(self, message: Message) -> None:
        """Be the `send` of an ASGI application."""
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if is_forwarded(pair[0])]
            await self.begin(message["status"], kept)
        else:
            await self._send(message)

    async def refuse(self, error: AppError, *, reader: Sequence[str] | None = None) -> None:
        """Answer with a problem document, or an OAuth error; to a `reader` of such languages with a page.

        Raises:
            AppError: the answer has begun; cutting it short is all that can be done.
        """
        if self.has_begun:
            raise error
        status, headers, body = (
            problem(error, self.request_id, oauth=self.oauth_errors)
            if reader is None
            else error_page(error, self.request_id, reader)
        )
        if self.closes_on_refusal:
            headers.append((b"connection", b"close"))
        await self.begin(status, headers)
        await self.body(body)


@lru_cache(maxsize=512)
def is_forwarded(name: bytes) -> bool:
    """Whether a header of a service's answer goes on to the client."""
    return name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES)
