"""Fetching documents over HTTP with the standard library, so that no HTTP client has to be installed."""

import asyncio
import http.client
import ipaddress
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from typing import IO, Final
from urllib.parse import urlsplit

from authservice_validator.errors import TokenInvalid, ValidatorError
from authservice_validator.jose import read_object

_MAX_DOCUMENT_BYTES: Final = 256 * 1024
_CHUNK_BYTES: Final = 16 * 1024


class FetchFailed(ValidatorError):
    """A document could not be fetched; the message says what went wrong."""

    code = "fetch_failed"


@dataclass(frozen=True, slots=True)
class FetchedJwks:
    """A JWK set as fetched; a fetcher of your own may return this instead of the bare document.

    Attributes:
        document: the parsed JSON, `{"keys": [...]}`.
        max_age: for how long it is fresh, where the answer says so.
    """

    document: Mapping[str, object]
    max_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """What an address answered; `max_age` says for how long it is fresh, where the answer does."""

    body: bytes
    max_age: timedelta | None


class HttpDocument:
    """Fetches one URL in a thread: no redirects, a bounded body, bounded waits.

    Args:
        url: https, or http on this machine's loopback; a key fetched in the clear is a key chosen by the
            network.
        timeout: for each wait on the network, and for reading the whole body.
        accept: the media types that are wanted.
        tls: the TLS context, for a private certificate authority.
    """

    def __init__(
        self, url: str, *, timeout: timedelta, accept: str, tls: ssl.SSLContext | None = None
    ) -> None:
        is_outside = check_url(url)
        self._url = url
        self._accept = accept
        self._seconds = timeout.total_seconds()
        # A proxy from the environment is for the world outside, never for this machine.
        proxies = [] if is_outside else [urllib.request.ProxyHandler({})]
        self._opener = urllib.request.build_opener(
            _NoRedirect(), urllib.request.HTTPSHandler(context=tls or ssl.create_default_context()), *proxies
        )

    async def get(self) -> FetchedDocument:
        """Fetch the document.

        Raises:
            FetchFailed: not reachable in time, another status than 200, or too large.
        """
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> FetchedDocument:
        deadline = time.monotonic() + self._seconds
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked when the fetcher was made
            self._url, headers={"Accept": self._accept}
        )
        try:
            with self._opener.open(request, timeout=self._seconds) as response:
                if response.status != http.HTTPStatus.OK:
                    raise FetchFailed(f"the issuer answered {response.status}")
                return FetchedDocument(_read_bounded(response, deadline), _max_age(response.headers))
        except urllib.error.HTTPError as error:
            error.close()
            raise FetchFailed(f"the issuer answered {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise FetchFailed("the issuer could not be reached") from error


class HttpJwksFetcher(HttpDocument):
    """Fetches a JWK set from one URL."""

    def __init__(self, url: str, *, timeout: timedelta, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(url, timeout=timeout, accept="application/jwk-set+json, application/json", tls=tls)

    async def __call__(self) -> FetchedJwks:
        """Fetch the set.

        Raises:
            FetchFailed: as `get`, or not strict JSON.
        """
        fetched = await self.get()
        try:
            return FetchedJwks(read_object(fetched.body), fetched.max_age)
        except TokenInvalid as error:
            raise FetchFailed("the issuer's answer is not a JSON object") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Turns every redirect into an error: the configured URL is the trust, not what it points to."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def check_url(url: str) -> bool:
    """Whether an address lies outside of this machine.

    Raises:
        ValueError: it is neither https nor http on loopback, or holds a password.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_loopback = _is_loopback(host)
    if (
        not host
        or parts.username is not None
        or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback))
    ):
        raise ValueError("the issuer's URL is https, or http on loopback, and holds no password")
    return not is_loopback


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_bounded(response: http.client.HTTPResponse, deadline: float) -> bytes:
    # `read1`, and the length counted here: the socket's own timeout starts anew with every byte, so a slow
    # sender needs a deadline besides, and `read1` takes an early end for a good one.
    declared = response.headers.get("Content-Length", "")
    length = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 10 else None
    body = bytearray()
    while len(body) != length and (chunk := response.read1(_CHUNK_BYTES)):
        body += chunk
        if len(body) > _MAX_DOCUMENT_BYTES:
            raise FetchFailed("the issuer's answer is too large")
        if time.monotonic() > deadline:
            raise FetchFailed("the issuer's answer took too long")
    if length is not None and len(body) != length:
        raise FetchFailed("the issuer's answer was cut short")
    return bytes(body)


def _max_age(headers: Message) -> timedelta | None:
    """The freshness an answer gives itself (RFC 9111 §5.2.2); `no-store` and `no-cache` are none at all."""
    directives = [word.strip().lower() for word in ",".join(headers.get_all("Cache-Control", [])).split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return timedelta(0)
    for directive in directives:
        name, _, value = directive.partition("=")
        if name == "max-age" and value.isascii() and value.isdigit() and len(value) < 10:
            return timedelta(seconds=int(value))
    return None
