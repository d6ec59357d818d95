"""Access tokens at the edge: verified as customers do it, remembered by hash, revocable at once.

A client in a JWKS mode is verified here with its public keys; one in HS256 mode by the token service, which
alone knows the secret. Whichever mode a client is in, the other's tokens are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from authservice_validator import (
    JwksKeys,
    KeysUnavailable,
    RevocationSet,
    TokenError,
    TokenVerifier,
    VerifiedClaims,
)
from authservice_validator.claims import read_claims
from authservice_validator.jose import read_header, split
from prometheus_client import Counter, Gauge

from chassis.clock import Clock
from chassis.errors import Unauthenticated, Unavailable
from chassis.rpc import Channel
from contracts.clients import Client, TokenMode
from contracts.gen.internal.token.v1 import verification_pb2
from contracts.gen.internal.token.v1.verification_pb2_grpc import VerificationServiceStub
from contracts.token_use import USER_TOKENS

_MAX_TOKENS: Final = 20_000
_MAX_REFUSED: Final = 5_000
_MAX_CLIENTS: Final = 5_000
_KEEP_SECONDS: Final = 60.0
_REFUSED_SECONDS: Final = 10.0

LOOKUPS = Counter("gateway_token_lookups_total", "Access tokens presented.", ["result"])
_HITS = LOOKUPS.labels("hit")
REMEMBERED = Gauge("gateway_tokens_remembered", "Verified tokens in the cache.", multiprocess_mode="livesum")


class InvalidToken(Unauthenticated):
    """The access token is missing, forged, or another client's (RFC 6750 §3.1)."""

    code = "invalid_token"
    detail = "The access token is missing or not valid."

    def __init__(self, *, missing: bool = False) -> None:
        """Add the challenge; that of a missing token has no `error`."""
        challenge = "Bearer" if missing else 'Bearer error="invalid_token"'
        super().__init__(headers=(("WWW-Authenticate", challenge),))


class ExpiredToken(InvalidToken):
    """The access token is past its end: renew it."""

    code = "token_expired"


class RevokedToken(InvalidToken):
    """The access token was good, and its session, user, key or secret has been revoked."""

    code = "token_revoked"


_REFUSALS: Final = {refusal.code: refusal for refusal in (InvalidToken, ExpiredToken, RevokedToken)}


@dataclass(slots=True)
class _Entry:
    claims: VerifiedClaims
    until: float
    keys: JwksKeys | None
    generation: int


class Tokens:
    """Verifies the access tokens of all clients; every bound is per process."""

    def __init__(self, channel: Channel, revocations: RevocationSet, *, issuer: str, clock: Clock) -> None:
        """Take the way to the token service, and the set that it keeps up to date."""
        self._stub = VerificationServiceStub(channel.for_stubs)
        self._revocations = revocations
        self._issuer = issuer
        self._now: Callable[[], float] = lambda: clock.now().timestamp()
        self._verified: OrderedDict[bytes, _Entry] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._verifiers: OrderedDict[str, tuple[JwksKeys, TokenVerifier]] = OrderedDict()

    async def verify(self, token: str, client: Client) -> VerifiedClaims:
        """Return the claims of a good token of this client.

        Raises:
            InvalidToken: it is not good, or not this client's.
            Unavailable: the token service is needed for it and is away.
        """
        digest = _digest(token, client)
        entry = self._verified.get(digest)
        if entry is not None and (claims := self._still_good(digest, entry)) is not None:
            _HITS.inc()
            return claims
        self._raise_if_refused(digest)
        LOOKUPS.labels("miss").inc()
        by_secret = client.token_mode is TokenMode.HS256
        try:
            entry = await (self._ask(token, client) if by_secret else self._check(token, client))
        except InvalidToken as error:
            self._remember_refusal(digest, error.code)
            raise
        except TokenError as error:
            raise _refusal(error.code) from None
        except KeysUnavailable:
            raise Unavailable from None
        self._verified[digest] = entry
        if len(self._verified) > _MAX_TOKENS:
            self._verified.popitem(last=False)
        REMEMBERED.set(len(self._verified))
        return entry.claims

    def knows(self, token: str, client: Client) -> bool:
        """Whether a token was good when it was last verified; verifies nothing."""
        return _digest(token, client) in self._verified

    def _still_good(self, digest: bytes, entry: _Entry) -> VerifiedClaims | None:
        keys_hold = entry.keys is None or entry.keys.generation == entry.generation
        if entry.until > self._now() and keys_hold and not self._revocations.is_revoked(entry.claims):
            return entry.claims
        del self._verified[digest]
        return None

    async def _check(self, token: str, client: Client) -> _Entry:
        keys, verifier = self._verifier(str(client.id))
        generation = keys.generation
        claims = await verifier.verify(token)
        return _Entry(claims, min(claims.exp, self._now() + _KEEP_SECONDS), keys, generation)

    async def _ask(self, token: str, client: Client) -> _Entry:
        """Have the token service verify an HS256 token; what cannot be one is not worth a call."""
        header = read_header(split(token).header)
        if header.alg != "HS256":
            raise TokenError
        request = verification_pb2.VerifyRequest(client_id=str(client.id), access_token=token)
        answer = await self._stub.Verify(request)
        if not answer.valid:
            raise _refusal(answer.error)
        claims = read_claims(json.loads(answer.claims_json), kid=header.kid)
        if claims.client_id != str(client.id) or claims.token_use not in USER_TOKENS:
            raise TokenError
        if self._revocations.is_revoked(claims):
            raise RevokedToken
        return _Entry(claims, min(claims.exp, self._now() + _KEEP_SECONDS), None, 0)

    def _verifier(self, client_id: str) -> tuple[JwksKeys, TokenVerifier]:
        known = self._verifiers.get(client_id)
        if known is None:
            stub = self._stub

            async def fetch() -> dict[str, object]:
                answer = await stub.GetKeys(verification_pb2.GetKeysRequest(client_id=client_id))
                document: dict[str, object] = json.loads(answer.jwks_json)
                return document

            # A short life: a revoked key also comes by the revocation stream, a new one by its unknown name.
            keys = JwksKeys(fetch, max_age=timedelta(minutes=1), cooldown=timedelta(seconds=1))
            verifier = TokenVerifier(
                keys,
                issuer=self._issuer,
                audience=client_id,
                client_id=client_id,
                token_uses=USER_TOKENS,
                cache_size=0,
                revocations=self._revocations,
                clock=self._now,
            )
            known = self._verifiers[client_id] = (keys, verifier)
            if len(self._verifiers) > _MAX_CLIENTS:
                self._verifiers.popitem(last=False)
        self._verifiers.move_to_end(client_id)
        return known

    def _raise_if_refused(self, digest: bytes) -> None:
        refused = self._refused.get(digest)
        if refused is None:
            return
        if refused[1] > self._now():
            LOOKUPS.labels("refused").inc()
            raise _refusal(refused[0])
        del self._refused[digest]

    def _remember_refusal(self, digest: bytes, code: str) -> None:
        """Remember what the token service refused, so that repeating it costs that service nothing."""
        self._refused[digest] = (code, self._now() + _REFUSED_SECONDS)
        if len(self._refused) > _MAX_REFUSED:
            self._refused.popitem(last=False)


def _digest(token: str, client: Client) -> bytes:
    # The client is part of it: a verdict under one client says nothing under another.
    mode = b"s" if client.token_mode is TokenMode.HS256 else b"k"
    return hashlib.sha256(client.id.bytes + mode + token.encode("utf-8", "surrogateescape")).digest()


def _refusal(code: str) -> InvalidToken:
    """Return the refusal that a validator's code stands for; an unknown code says no more than the first."""
    return _REFUSALS.get(code, InvalidToken)()
