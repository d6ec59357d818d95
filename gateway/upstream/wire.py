"""Turns a request into the bytes of its head, refusing what could be read as two requests (RFC 9112 §11)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.upstream.errors import UpstreamRequestError

RawHeaders = Iterable[tuple[bytes, bytes]]

IDEMPOTENT_METHODS: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"})
_KNOWN_METHODS: Final = IDEMPOTENT_METHODS | {b"POST", b"PATCH"}
_METHODS_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(rb"/[!\"$-~]*")  # visible ASCII without '#': no space, control or 8-bit byte
_DIGITS: Final = re.compile(rb"[0-9]{1,15}")

# Belong to one connection (RFC 9110 §7.6.1), so they are made here; the forwarder strips those of its client.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Names known to be tokens without a special meaning here: spares the common header its check.
_PLAIN_NAMES: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"cache-control",
        b"content-type",
        b"cookie",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
        b"origin",
        b"referer",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-auth-context",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-request-id",
    }
)


class Head:
    """The serialised head of a request and the body length that it announces.

    ``length`` is the number of body bytes to follow, or None for a chunked body. The host is filled in late
    when the caller gave none, because the address is chosen late.
    """

    __slots__ = ("_fields", "_line", "has_host", "length")

    def __init__(self, line: bytes, fields: bytes, *, has_host: bool, length: int | None) -> None:
        self._line = line
        self._fields = fields
        self.has_host = has_host
        self.length = length

    def encode(self, authority: bytes) -> bytes:
        """The bytes to write, with ``authority`` as the host unless the caller named one."""
        if self.has_host:
            return b"%b%b\r\n" % (self._line, self._fields)
        return b"%bhost: %b\r\n%b\r\n" % (self._line, authority, self._fields)


def build_head(method: bytes, target: bytes, headers: RawHeaders, body_size: int | None) -> Head:
    """Check a request and serialise its head.

    Args:
        method: an upper-case method; CONNECT is refused, for its answer is not HTTP.
        target: raw path and query, starting with a slash.
        headers: raw pairs without hop-by-hop fields. A Content-Length is compared with the body's size.
        body_size: bytes of the body when known (0 for none), None for a stream.

    Raises:
        UpstreamRequestError: the method, target, a header or the announced length is not acceptable.
    """
    if method not in _KNOWN_METHODS and (method == b"CONNECT" or _TOKEN.fullmatch(method) is None):
        raise UpstreamRequestError("the request method is not acceptable")
    if _TARGET.fullmatch(target) is None and not (target == b"*" and method == b"OPTIONS"):
        raise UpstreamRequestError("the request target is not acceptable")
    parts: list[bytes] = []
    has_host = False
    announced: int | None = None
    for name, value in headers:
        if name not in _PLAIN_NAMES:
            lowered = name.lower()
            if lowered == b"host":
                if has_host:
                    raise UpstreamRequestError("the request has more than one host")
                has_host = True
            elif lowered == b"content-length":
                announced = _announced_length(value, announced)
            else:
                _check_name(name, lowered)
        parts += (name, b": ", value, b"\r\n")
    lines = len(parts) // 4
    framing = _framing(method, announced, body_size)
    if framing:
        parts.append(framing)
        lines += 1
    fields = b"".join(parts)
    # A line feed too many is a value that would start a header, or a request, of its own.
    if fields.count(b"\n") != lines or fields.count(b"\r") != lines or b"\0" in fields:
        raise UpstreamRequestError("a header value holds a control character")
    length = announced if body_size is None else body_size
    return Head(b"%b %b HTTP/1.1\r\n" % (method, target), fields, has_host=has_host, length=length)


def _framing(method: bytes, announced: int | None, body_size: int | None) -> bytes:
    """The field that says where the body ends, or nothing when the caller's says it or there is none."""
    if announced is not None:
        if body_size is not None and announced != body_size:
            raise UpstreamRequestError("the body does not have the announced length")
        return b""
    if body_size is None:
        return b"transfer-encoding: chunked\r\n"
    if body_size or method in _METHODS_WITH_BODY:
        return b"content-length: %d\r\n" % body_size
    return b""


def _announced_length(value: bytes, earlier: int | None) -> int:
    """The number in a Content-Length, which may be given once and in plain digits only."""
    if earlier is not None or _DIGITS.fullmatch(value) is None:
        raise UpstreamRequestError("the content length is not acceptable")
    return int(value)


def _check_name(name: bytes, lowered: bytes) -> None:
    """Refuse a name that is no token, or that speaks about the connection rather than the message."""
    if lowered in _HOP_BY_HOP:
        raise UpstreamRequestError("a hop-by-hop header cannot be forwarded")
    if _TOKEN.fullmatch(name) is None:
        raise UpstreamRequestError("a header name is not acceptable")
