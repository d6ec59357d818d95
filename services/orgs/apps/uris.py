"""URIs of apps: where authorization answers go, and what is shown to users or called by us.

They are judged by their text alone, and kept letter for letter: what is not written the one way browsers
write it is refused, as no comparison with it would be exact (RFC 9700 §4.1.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from pydantic_core import PydanticCustomError

from chassis.errors import FieldError, UnprocessableRequest
from services.orgs.clients.urls import canonical_host, parse_public_url

MAX_LENGTH = 2048
# RFC 3986 without what browsers rewrite, and without `*`, which some servers take for a wildcard.
_PLAIN = re.compile(r"[!$-)+-;=?-\[\]_a-z~]+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "localhost"})
_MAX_PORT = 65535


def parse_redirect_uri(value: str) -> str:
    """Return a redirect URI, unchanged: https, http to this machine, or a scheme of an app's own.

    A scheme of its own must be a reversed domain name (RFC 8252 §7.1), which `javascript:` and its like are
    not. That only native public apps may have one is checked with the app.

    Raises:
        PydanticCustomError: it is anything else, or holds a user, a fragment, a wildcard or a dot segment.
    """
    parts = _split(value)
    if parts.scheme == "https":
        _check_host(parts)
    elif parts.scheme == "http":
        if _check_host(parts) not in _LOOPBACK_HOSTS:
            raise PydanticCustomError(
                "redirect_uri_not_secure", "must use https, except for http://127.0.0.1 and http://[::1]"
            )
    elif "." not in parts.scheme or parts.netloc.find("@") >= 0:
        raise PydanticCustomError(
            "redirect_uri_scheme", "must be https, or a private scheme that is a reversed domain name"
        )
    return value


def has_private_scheme(uri: str) -> bool:
    """Whether a checked redirect URI has a scheme of an app's own."""
    return not uri.startswith(("https:", "http:"))


def parse_web_url(value: str) -> str:
    """Return an absolute https or http URL, unchanged; `PublicUrls` says whether it may be used.

    Raises:
        PydanticCustomError: it is none, or holds a user or a fragment.
    """
    parts = _split(value)
    if parts.scheme not in ("https", "http"):
        raise PydanticCustomError("url_not_secure", "must be an absolute https URL")
    _check_host(parts)
    return value


def parse_document_url(value: str) -> str:
    """Return the URL of a client id metadata document, unchanged: https, with a path (its draft, §3).

    Raises:
        PydanticCustomError: it is none.
    """
    parts = _split(value)
    if parts.scheme != "https" or not parts.path:
        raise PydanticCustomError("url_not_secure", "must be an absolute https URL with a path")
    _check_host(parts)
    return value


def parse_resource(value: str) -> str:
    """Return a resource indicator (RFC 8707 §2), unchanged: an absolute URI without a fragment.

    Raises:
        PydanticCustomError: it is none.
    """
    if len(value) > MAX_LENGTH or not _PLAIN.fullmatch(value):
        raise PydanticCustomError("resource_invalid", "must be an absolute URI without a fragment")
    scheme, colon, rest = value.partition(":")
    if not (colon and rest and _SCHEME.fullmatch(scheme)):
        raise PydanticCustomError("resource_invalid", "must be an absolute URI without a fragment")
    return value


class PublicUrls:
    """Which URLs the server calls or shows to users: public https ones, unless development allows others."""

    def __init__(self, *, allow_private: bool) -> None:
        """Take whether any host and plain http are allowed."""
        self.allow_private = allow_private

    def check(self, urls: Iterable[tuple[str, str]]) -> None:
        """Check URLs, each with the name of its field; empty ones are none.

        Raises:
            UnprocessableRequest: one is not public https.
        """
        faults = []
        for field, url in urls:
            try:
                if url and not self.allow_private:
                    parse_public_url(url)
            except PydanticCustomError as error:
                faults.append(FieldError(field=field, code=error.type, detail=error.message()))
        if faults:
            raise UnprocessableRequest(errors=tuple(faults))


def _split(value: str) -> SplitResult:
    if len(value) > MAX_LENGTH or not _PLAIN.fullmatch(value):
        raise PydanticCustomError(
            "uri_invalid", "must be an absolute URI in plain ASCII, without a fragment or a wildcard"
        )
    scheme = value.partition(":")[0]
    if ":" not in value or not _SCHEME.fullmatch(scheme):
        raise PydanticCustomError("uri_invalid", "must begin with a scheme in lower case")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise PydanticCustomError("uri_invalid", "is not a URI") from None
    if _DOT_SEGMENT.search(parts.path):
        raise PydanticCustomError("uri_invalid", "must not hold `.` or `..` as a segment of its path")
    return parts


def _check_host(parts: SplitResult) -> str:
    host = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc
    if "@" in host or canonical_host(host) != host or parts.netloc.endswith(":"):
        raise PydanticCustomError("uri_invalid", "must name a host in lower case, without a user")
    if parts.port is not None and (not 0 < parts.port <= _MAX_PORT or f"{host}:{parts.port}" != parts.netloc):
        raise PydanticCustomError("uri_invalid", "has a port that does not exist")
    return host
