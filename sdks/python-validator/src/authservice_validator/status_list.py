"""Token status lists (draft-ietf-oauth-status-list-21): revocation for validators that follow no stream.

lists = StatusLists(keys, issuer="https://auth.example.com")
verifier = TokenVerifier(keys, issuer=..., status_lists=lists)
"""

import asyncio
import math
import ssl
import time
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from authservice_validator.claims import VerifiedClaims
from authservice_validator.errors import (
    RevocationsUnavailable,
    TokenInvalid,
    TokenRevoked,
)
from authservice_validator.fetch import HttpDocument
from authservice_validator.jose import decode_base64url, read_issuer_header, read_object, split
from authservice_validator.keys import KeySource

_PATH: Final = "/.well-known/status-lists/"
_MEDIA_TYPE: Final = "application/statuslist+jwt"
_TYPES: Final = frozenset({"statuslist+jwt", "application/statuslist+jwt"})
_MAX_JWT_LENGTH: Final = 512 * 1024
_MAX_OCTETS: Final = 1024 * 1024
_MAX_DIGITS: Final = 12
_MAX_INDEX: Final = 2**53 - 1
_BITS: Final = (1, 2, 4, 8)
_RENEW_AT: Final = 0.8
_RETRY_SECONDS: Final = 1.0
_MAX_ISSUED_AHEAD_SECONDS: Final = 120

StatusListFetcher = Callable[[str], Awaitable[str]]
"""Fetches the list at a URL, as compact JWT; may raise anything."""


@dataclass(frozen=True, slots=True)
class StatusList:
    """A verified list. `ttl` and `expires_at` say for how long it may be kept, and how long gone by."""

    octets: bytes
    bits: int
    ttl: float
    expires_at: float

    def status(self, index: int) -> int:
        """The status of a token: 0 is good.

        Raises:
            TokenInvalid: the list has no such place.
        """
        octet, place = divmod(index * self.bits, 8)
        if index < 0 or octet >= len(self.octets):
            raise TokenInvalid("the token names a place that its status list does not have")
        return self.octets[octet] >> place & (1 << self.bits) - 1


@dataclass(slots=True)
class _Held:
    """What is known of one list. Times are those of the checker's clock."""

    listed: StatusList | None = None
    renew_at: float = -math.inf
    fresh_until: float = -math.inf
    retry_at: float = -math.inf
    flight: asyncio.Task[None] | None = None


class StatusLists:
    """Says by the issuer's status lists whether tokens were revoked; give it to `TokenVerifier`.

    A list is fetched when a token first names it, however many do at once, and renewed in the background
    after four fifths of its `ttl`. While the issuer is away the last one is gone by until its `exp`; then,
    and where there never was one, checking raises `RevocationsUnavailable`. Only addresses of the issuer's
    own lists are asked. A token without a list (of a service account, or of an issuer that publishes none)
    passes: let the stream tell of those. For one event loop at a time.

    Args:
        keys: `JwksKeys`: lists are signed with the issuer's own keys, which are in every client's set and
            have names that begin with `issuer.`; what another key signs is no list.
        issuer: exact value of `iss`, and where the lists are.
        max_age: the longest that a list is kept, whatever its `ttl` says; None believes it.
        max_lists: how many are kept.
        timeout: for one fetch.
        tls: TLS context of the built-in fetcher, for a private certificate authority.
        fetch: your own fetcher in its place.
        clock: Unix seconds.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        max_age: timedelta | None = None,
        max_lists: int = 64,
        timeout: timedelta = timedelta(seconds=5),
        tls: ssl.SSLContext | None = None,
        fetch: StatusListFetcher | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if "HS256" in keys.algorithms:
            raise ValueError("status lists are signed with public keys: give the issuer's JwksKeys")
        self._keys = keys
        self._issuer = issuer
        self._prefix = issuer.rstrip("/") + _PATH
        self._max_age = math.inf if max_age is None else max_age.total_seconds()
        self._max_lists = max_lists
        self._timeout = timeout
        self._tls = tls
        self._fetch = fetch or self._fetch_by_http
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def peek(self, claims: VerifiedClaims) -> bool | None:
        """Whether the token is good, by a list that is at hand and fresh; None says only: ask `check`.

        Raises:
            TokenInvalid: the token names a list or a place that cannot be.
        """
        named = self._named(claims)
        if named is None:
            return True
        uri, index = named
        held, now = self._held.get(uri), self._clock()
        if held is None or held.listed is None or not self._serves(held, now):
            return None
        if now >= held.renew_at and now >= held.retry_at:
            self._start(uri, held)
        return held.listed.status(index) == 0

    async def check(self, claims: VerifiedClaims) -> None:
        """Check a token. Waits only for a list that has to be loaded.

        Raises:
            TokenRevoked: its list says so.
            TokenInvalid: it names a list or a place that cannot be.
            RevocationsUnavailable: nobody knows.
        """
        good = self.peek(claims)
        if good is None:
            uri, index = self._named(claims) or ("", 0)
            good = (await self._load(uri)).status(index) == 0
        if not good:
            raise TokenRevoked("the token was revoked, says its status list")

    async def aclose(self) -> None:
        """Stop what is being fetched."""
        flights = [held.flight for held in self._held.values() if held.flight and not held.flight.done()]
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)

    def _named(self, claims: VerifiedClaims) -> tuple[str, int] | None:
        """Return the list and the place that a token names (§6.2); None when it names none."""
        status = claims.claims.get("status")
        if status is None:
            return None
        if not isinstance(status, Mapping):
            raise TokenInvalid("status is not an object")
        if "status_list" not in status:
            return None
        place = status["status_list"]
        if not isinstance(place, Mapping):
            raise TokenInvalid("status_list is not an object")
        uri, index = place.get("uri"), _integer(place.get("idx"))
        if index is None or not 0 <= index <= _MAX_INDEX or not isinstance(uri, str):
            raise TokenInvalid("status_list lacks a place or an address")
        # Who signs tokens chooses what is written here; where we go for it, the configuration does.
        number = uri.removeprefix(self._prefix)
        if number == uri or not (number.isascii() and number.isdigit()) or len(number) > _MAX_DIGITS:
            raise TokenInvalid("the status list is not one of the issuer's")
        return uri, index

    @staticmethod
    def _serves(held: _Held, now: float) -> bool:
        if held.listed is None:
            return False
        # After a failure nobody waits for the next try, as long as the last list can be gone by.
        return now < held.fresh_until or (now < held.retry_at and now < held.listed.expires_at)

    async def _load(self, uri: str) -> StatusList:
        held = self._held.setdefault(uri, _Held())
        self._held.move_to_end(uri)
        while len(self._held) > self._max_lists:
            self._held.popitem(last=False)
        if self._clock() >= held.retry_at:
            # Shielded: a caller who gives up must not take the fetch away from the others.
            await asyncio.shield(self._start(uri, held))
        if held.listed is None or self._clock() >= held.listed.expires_at:
            raise RevocationsUnavailable("the status list of the token could not be loaded")
        return held.listed

    def _start(self, uri: str, held: _Held) -> asyncio.Task[None]:
        flight = held.flight
        if flight is None or flight.done() or flight.get_loop() is not asyncio.get_running_loop():
            flight = held.flight = asyncio.create_task(self._fly(uri, held), name="authservice-status-list")
        return flight

    async def _fly(self, uri: str, held: _Held) -> None:
        """Fetch once and take what came. Never raises: nobody may be awaiting it."""
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                listed = await self.read(await self._fetch(uri), uri)
        except Exception:  # a fetcher of the user's may raise anything; all of it means: no list now
            held.retry_at = self._clock() + _RETRY_SECONDS
            return
        now = self._clock()
        fresh = min(listed.ttl, self._max_age)
        held.listed, held.retry_at = listed, -math.inf
        held.fresh_until, held.renew_at = now + fresh, now + fresh * _RENEW_AT

    async def read(self, token: str, uri: str) -> StatusList:
        """Verify a list that was got from `uri` (§8.3).

        Raises:
            TokenInvalid: not a list of the issuer's, not of this address, or over.
            KeysUnavailable: the issuer's keys could not be loaded.
        """
        parts = split(token, _MAX_JWT_LENGTH)
        header = read_issuer_header(parts.header, _TYPES)
        if header.alg not in self._keys.algorithms:
            raise TokenInvalid("the algorithm is not one of this issuer's")
        key = self._keys.find(header.kid) or await self._keys.get(header.kid)
        if header.alg != key.alg or not key.verifies(parts.signing_input, parts.signature):
            raise TokenInvalid("the signature does not fit")
        payload = read_object(decode_base64url(parts.payload))
        if payload.get("iss") != self._issuer or payload.get("sub") != uri:
            raise TokenInvalid("the status list is another one")
        issued_at, expires_at, ttl = (_number(payload, name) for name in ("iat", "exp", "ttl"))
        now = self._clock()
        if issued_at > now + _MAX_ISSUED_AHEAD_SECONDS or expires_at <= now:
            raise TokenInvalid("the status list is not of this time")
        return StatusList(*_unpacked(payload.get("status_list")), ttl=ttl, expires_at=expires_at)

    async def _fetch_by_http(self, uri: str) -> str:
        document = HttpDocument(uri, timeout=self._timeout, tls=self._tls, accept=_MEDIA_TYPE)
        return (await document.get()).body.decode("ascii")


def _number(payload: dict[str, object], name: str) -> float:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise TokenInvalid(f"{name} of the status list is not a positive number")
    return float(value)


def _integer(value: object) -> int | None:
    """The number, where it is a whole one however it is written; else None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _unpacked(listed: object) -> tuple[bytes, int]:
    """Return the octets of a list and the bits of one status (§4.2)."""
    if not isinstance(listed, dict):
        raise TokenInvalid("the status list holds no list")
    bits, packed = _integer(listed.get("bits")), listed.get("lst")
    if bits is None or bits not in _BITS or not isinstance(packed, str):
        raise TokenInvalid("the status list cannot be read")
    inflater = zlib.decompressobj()
    try:
        octets = inflater.decompress(decode_base64url(packed), _MAX_OCTETS)
    except zlib.error as error:
        raise TokenInvalid("the status list is not compressed by ZLIB") from error
    if not inflater.eof or inflater.unused_data:
        raise TokenInvalid("the status list is too large, cut short, or followed by something")
    return octets, bits
