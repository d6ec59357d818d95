"""Cross-origin rules (CORS), per client.

An origin is allowed exactly when it is the gateway's own, or one of the client's `allowed_origins`; a client
that lists none takes `ALLOW_ORIGIN`. Credentials go with exact origins only. `*` allows reading without
credentials, and never counts as the allowed origin that a cookie needs. `null` is never allowed: any
sandboxed frame has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from urllib.parse import urlsplit

from contracts.clients import Client

_EXPOSED = (
    b"X-Request-Id, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, ETag, Location, "
    b"DPoP-Nonce, WWW-Authenticate"
)
_ACCEPTED = (
    b"Authorization, Content-Type, DPoP, Idempotency-Key, If-Match, If-None-Match, X-API-Key, X-Request-Id, "
    b"X-Step-Up-Token"
)
_VARY = (b"vary", b"Origin")
_PREFLIGHT_SECONDS = b"600"
_MAX_ORIGIN = 256


class Verdict(Enum):
    """What an origin may do."""

    NOT_SENT = "not_sent"
    EXACT = "exact"
    ANY = "any"
    REFUSED = "refused"


class Origins:
    """Judges origins and writes the headers that tell browsers."""

    def __init__(self, allowed: Sequence[str], base_url: str) -> None:
        """Take `ALLOW_ORIGIN` and the gateway's own address."""
        parts = urlsplit(base_url)
        self._own = f"{parts.scheme}://{parts.netloc}".lower()
        self._exact = frozenset(allowed) - {"*"}
        self._any = "*" in allowed

    def judge(self, origin: str | None, client: Client | None) -> Verdict:
        """Judge the origin of a request of `client`, or of nobody yet."""
        if origin is None:
            return Verdict.NOT_SENT
        if origin == "null" or len(origin) > _MAX_ORIGIN:
            return Verdict.REFUSED
        if origin == self._own:
            return Verdict.EXACT
        if client is not None and client.allowed_origins:
            return Verdict.EXACT if origin in client.allowed_origins else Verdict.REFUSED
        if origin in self._exact:
            return Verdict.EXACT
        return Verdict.ANY if self._any else Verdict.REFUSED

    @staticmethod
    def opened(verdict: Verdict, origin: str | None) -> Verdict:
        """Return the verdict where pages of every origin may read, without credentials."""
        return Verdict.ANY if verdict is Verdict.REFUSED and origin != "null" else verdict

    def answer_headers(self, verdict: Verdict, origin: str | None) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer to a request with that origin."""
        match verdict:
            case Verdict.EXACT:
                return [
                    (b"access-control-allow-origin", (origin or "").encode("latin-1")),
                    (b"access-control-allow-credentials", b"true"),
                    (b"access-control-expose-headers", _EXPOSED),
                    _VARY,
                ]
            case Verdict.ANY:
                return [
                    (b"access-control-allow-origin", b"*"),
                    (b"access-control-expose-headers", _EXPOSED),
                    _VARY,
                ]
            case Verdict.NOT_SENT | Verdict.REFUSED:
                return [_VARY]

    def preflight_headers(self, verdict: Verdict, origin: str, methods: str) -> list[tuple[bytes, bytes]]:
        """Return the headers of the answer to a preflight of a path with these methods."""
        headers = [
            (b"access-control-allow-methods", methods.encode()),
            (
                b"access-control-allow-headers",
                _ACCEPTED,
            ),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]
        match verdict:
            case Verdict.EXACT:
                headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
                headers.append((b"access-control-allow-credentials", b"true"))
            case Verdict.ANY:
                headers.append((b"access-control-allow-origin", b"*"))
            case Verdict.NOT_SENT | Verdict.REFUSED:
                return [_VARY]
        return [*headers, _VARY]
