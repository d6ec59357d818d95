"""A request as the gateway reads it: headers once, by name, with nothing that could be read in two ways."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import Scope

from chassis.errors import AppError, InvalidRequest, Kind
from chassis.ids import new_id
from gateway.addresses import ClientAddresses

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_DIGITS = re.compile(rb"[0-9]{1,15}")
MAX_USER_AGENT = 512
_MAX_LANGUAGES = 20

# A second copy of one of these is read differently by different programs; such a request has no single
# meaning.
_SINGLE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"dpop",
        b"host",
        b"idempotency-key",
        b"origin",
        b"transfer-encoding",
        b"x-admin-key",
        b"x-api-key",
        b"x-step-up-token",
    }
)

# End-to-end headers that services are given. Everything else ends here: copies of internal headers
# (`X-Auth-…`, `X-User-Id`), the proxies' own, `Host`, and credentials, which the signed context replaces.
FORWARDED: Final = (
    b"accept",
    b"accept-language",
    b"content-length",
    b"content-type",
    b"cookie",
    b"idempotency-key",
    b"if-match",
    b"if-none-match",
    b"purpose",
    b"sec-fetch-site",
    b"sec-purpose",
    b"traceparent",
    b"tracestate",
    b"x-moz",
    b"x-purpose",
    b"x-step-up-token",
)


def request_id(asked: str) -> str:
    """Return the id that a client gave its request, or a fresh one in place of none or an odd one."""
    return asked if _REQUEST_ID.fullmatch(asked) else str(new_id())


class UnsupportedEncoding(AppError):
    """The body is compressed; a bomb would unpack behind the limit that it passed."""

    kind = Kind.UNSUPPORTED
    code = "unsupported_content_encoding"
    detail = "Send the body without Content-Encoding."


class Inbound:
    """What the gateway knows of one request before it knows who sends it."""

    __slots__ = ("headers", "ip", "method", "path", "peer", "query", "request_id", "target", "user_agent")

    def __init__(self, scope: Scope, addresses: ClientAddresses) -> None:
        """Read the head; never fails, so that even a refusal has a request id. `check` judges it."""
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.target = self.path + b"?" + self.query if self.query else self.path
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            known = headers.get(name)
            if known is None:
                headers[name] = value
            elif name in _SINGLE:
                headers[b""] = name  # no header has an empty name
            else:
                headers[name] = known + (b"; " if name == b"cookie" else b", ") + value
        self.headers = headers
        self.request_id = request_id(self.text(b"x-request-id") or "")
        client = scope["client"]
        self.peer = str(client[0]) if client else ""
        self.ip = addresses.client(self.peer, self.text(addresses.header.encode()) or "")
        self.user_agent = (self.text(b"user-agent") or "")[:MAX_USER_AGENT]

    def text(self, name: bytes) -> str | None:
        """Return a header's value."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None

    @property
    def origin(self) -> str | None:
        """The page's origin, as the browser says."""
        return self.text(b"origin")

    @property
    def bearer(self) -> str | None:
        """The bearer token; None when there is none, "" when the header is of another form."""
        value = self.headers.get(b"authorization")
        if value is None:
            return None
        scheme, _, token = value.partition(b" ")
        return token.decode("latin-1") if scheme.lower() == b"bearer" else ""

    @property
    def wants_page(self) -> bool:
        """Whether a page is an answer that the client names, as browsers do when somebody goes somewhere."""
        return b"text/html" in self.headers.get(b"accept", b"").lower()

    def languages(self) -> tuple[str, ...]:
        """Return the languages (BCP 47) that a browser asks for, in its order: the best first."""
        asked = (self.text(b"accept-language") or "").split(",", _MAX_LANGUAGES)[:_MAX_LANGUAGES]
        return tuple(item.partition(";")[0].strip() for item in asked)

    @property
    def has_body(self) -> bool:
        """Whether a body follows, by the head alone."""
        length = self.headers.get(b"content-length")
        return b"transfer-encoding" in self.headers or (length is not None and length != b"0")

    def check(self) -> None:
        """Refuse what has no single meaning.

        Raises:
            InvalidRequest: a header that may come once came twice, or its framing is odd.
            UnsupportedEncoding: the body is compressed.
        """
        headers = self.headers
        if b"" in headers:
            raise InvalidRequest(f"The header {headers[b''].decode()} came more than once.")
        length = headers.get(b"content-length")
        if length is not None and (not _DIGITS.fullmatch(length) or b"transfer-encoding" in headers):
            raise InvalidRequest("The length of the body is not clear.")
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise InvalidRequest("The length of the body is not clear.")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedEncoding

    def declared_length(self) -> int:
        """Return the body's declared length; 0 when it is chunked or there is none."""
        return int(self.headers.get(b"content-length", b"0"))

    def forwarded_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers a service is given."""
        headers = self.headers
        return [(name, headers[name]) for name in FORWARDED if name in headers]
