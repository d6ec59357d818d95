"""The verifier: one strict path from a string to `VerifiedClaims`, and a cache in front of it."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

from authservice_validator.claims import VerifiedClaims, read_claims
from authservice_validator.errors import TokenExpired, TokenInvalid, TokenRevoked
from authservice_validator.jose import (
    MAX_TOKEN_LENGTH,
    Header,
    decode_base64url,
    read_header,
    read_object,
    split,
)
from authservice_validator.keys import KeySource
from authservice_validator.revocation import MAX_LEEWAY_SECONDS, RevocationFeed, RevocationSet
from authservice_validator.status_list import StatusLists

# `iat` says when a token was issued, not from when on it holds (RFC 7519 §4.1.6): that is `nbf`, which the
# issuer sets for clocks that differ. It is refused only when further ahead than clocks of one system can be.
_MAX_ISSUED_AHEAD_SECONDS: Final = 120

# Headers that signed something; an issuer has one per key in use.
_MAX_KNOWN_HEADERS: Final = 64


class _Verified:
    """A cached success: the claims, and until when and with which keys it holds."""

    __slots__ = ("claims", "generation", "until")

    def __init__(self, claims: VerifiedClaims, until: float, generation: int) -> None:
        self.claims = claims
        self.until = until
        self.generation = generation


class TokenVerifier:
    """Verifies access tokens of one issuer: signature, type, times, audience, tenant, use, revocation.

    It does not check scopes, roles or organization rights (ask the claims), nor the proof that a `cnf` claim
    demands. A verified token is remembered by its SHA-256, never by its text, for at most `cache_ttl` and
    never past its own end; revocations are asked on every call, and a key that its source drops takes its
    tokens along. For one event loop at a time.

    Args:
        key_source: `JwksKeys` or `HmacKey`; decides which algorithms exist.
        issuer: exact value of `iss`.
        audience: the only `aud` accepted, as a string or as a list of it alone; None accepts any audience.
        client_id: the tenant whose tokens are accepted; None accepts every tenant of the issuer.
        token_uses: accepted values of `token_use`; by default the tokens of users only. Add
            `client_credentials` to let service accounts in.
        leeway: tolerance for clocks that differ, up to 60 s, at `exp` and `nbf`. `iat` may be up to 120 s
            ahead in a token that has `nbf`, and takes its place in one without.
        cache_size: how many verified tokens are remembered; 0 turns the cache off.
        cache_ttl: after this time a remembered token is verified anew.
        revocations: consulted on every call, a `RevocationSet` or a `RevocationStream`; None is a set of its
            own that nothing fills.
        status_lists: consulted on every call besides, for validators without a stream.
        clock: Unix seconds.
    """

    def __init__(
        self,
        key_source: KeySource,
        *,
        issuer: str,
        audience: str | None = None,
        client_id: str | None = None,
        token_uses: Collection[str] = frozenset({"access"}),
        leeway: timedelta = timedelta(seconds=30),
        cache_size: int = 10_000,
        cache_ttl: timedelta = timedelta(minutes=1),
        revocations: RevocationSet | RevocationFeed | None = None,
        status_lists: StatusLists | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not issuer or audience == "" or client_id == "":
            raise ValueError("issuer, audience and client_id must not be empty strings")
        if isinstance(token_uses, str) or not token_uses:
            raise ValueError("token_uses is a non-empty set of words")
        if not 0 <= leeway.total_seconds() <= MAX_LEEWAY_SECONDS:
            raise ValueError("leeway is between 0 and 60 s")
        asked = revocations if revocations is not None else RevocationSet()
        self.revocations = asked if isinstance(asked, RevocationSet) else asked.revocations
        self._is_revoked = asked.is_revoked
        self._status_lists = status_lists
        self._keys = key_source
        self._issuer = issuer
        self._audience = None if audience is None else (audience,)
        self._client_id = client_id
        self._token_uses = frozenset(token_uses)
        self._leeway = leeway.total_seconds()
        self._cache_size = cache_size
        self._cache_ttl = cache_ttl.total_seconds()
        self.clock = clock
        self._cache: OrderedDict[bytes, _Verified] = OrderedDict()
        self._headers: dict[str, Header] = {}

    def cached(self, token: str) -> VerifiedClaims | None:
        """The claims of a token verified before and good still; None says only: ask `verify`.

        Raises:
            RevocationsUnavailable: nobody knows whether it still holds.
        """
        digest = _digest(token)
        return None if digest is None else self._remembered(digest)

    async def verify(self, token: str) -> VerifiedClaims:
        """Verify a token. Waits only for keys that have to be loaded.

        Raises:
            TokenInvalid: malformed, forged, not yet valid, or not for this issuer, audience, tenant or use.
            TokenExpired: good, and over.
            TokenRevoked: good, and revoked.
            KeysUnavailable: the keys could not be loaded; nothing is known about the token.
            RevocationsUnavailable: nobody knows whether it still holds.
        """
        digest = _digest(token)
        if digest is not None and (known := self._remembered(digest)) is not None:
            return known
        parts = split(token)
        header = self._headers.get(parts.header) or read_header(parts.header)
        if header.alg not in self._keys.algorithms:
            raise TokenInvalid("the algorithm is not one of this issuer's")
        key = self._keys.find(header.kid) or await self._keys.get(header.kid)
        if header.alg != key.alg:
            raise TokenInvalid("the algorithm is not the key's")
        generation = self._keys.generation
        if not key.verifies(parts.signing_input, parts.signature):
            raise TokenInvalid("the signature does not fit")
        if len(self._headers) < _MAX_KNOWN_HEADERS:
            self._headers[parts.header] = header
        # Only now is the payload read: what nobody signed never reaches the parser.
        claims = read_claims(read_object(decode_base64url(parts.payload)), kid=header.kid)
        self._check(claims)
        if self._status_lists is not None:
            await self._status_lists.check(claims)
        if digest is not None:
            self._remember(digest, claims, generation)
        return claims

    def forget(self) -> None:
        """Drop every remembered token, so that each is verified anew."""
        self._cache.clear()

    def _check(self, claims: VerifiedClaims) -> None:
        if claims.iss != self._issuer:
            raise TokenInvalid("the token is of another issuer")
        if self._audience is not None and claims.aud != self._audience:
            raise TokenInvalid("the token is for another audience")
        if self._client_id is not None and claims.client_id != self._client_id:
            raise TokenInvalid("the token is of another client")
        if claims.token_use not in self._token_uses:
            raise TokenInvalid("the token is for another use")
        now = self.clock()
        not_before = claims.iat if claims.nbf is None else claims.nbf
        if not_before > now + self._leeway or claims.iat > now + _MAX_ISSUED_AHEAD_SECONDS:
            raise TokenInvalid("the token is not valid yet")
        if now >= claims.exp + self._leeway:
            raise TokenExpired("the token has expired")
        if self._is_revoked(claims):
            raise TokenRevoked("the token was revoked")

    def _remembered(self, digest: bytes) -> VerifiedClaims | None:
        entry = self._cache.get(digest)
        if entry is None:
            return None
        holds = self.clock() < entry.until and entry.generation == self._keys.generation
        if holds and not self._is_revoked(entry.claims) and self._is_listed_good(entry.claims):
            return entry.claims
        del self._cache[digest]
        return None

    def _is_listed_good(self, claims: VerifiedClaims) -> bool:
        return self._status_lists is None or self._status_lists.peek(claims) is True

    def _remember(self, digest: bytes, claims: VerifiedClaims, generation: int) -> None:
        if self._cache_size <= 0:
            return
        until = min(claims.exp + self._leeway, self.clock() + self._cache_ttl)
        self._cache[digest] = _Verified(claims, until, generation)
        # The oldest goes first. Entries live a minute, so a busy token is soon young again.
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def _digest(token: str) -> bytes | None:
    """The cache key, or None for what cannot be a token; `split` says why."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        return None
    return hashlib.sha256(token.encode("ascii")).digest()
