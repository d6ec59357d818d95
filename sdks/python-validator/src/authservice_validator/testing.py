"""For tests of services that accept our tokens: an issuer in memory, and a clock that is set by hand.

    issuer = LocalIssuer()
    verifier = TokenVerifier(JwksKeys(issuer.fetch), issuer=issuer.issuer)
    await verifier.verify(issuer.token(sub="u1", scope="orders:read"))

Signs with fresh keys that nobody else trusts. Not for production: it signs whatever it is asked to.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_urlsafe
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from authservice_validator.dpop import access_token_hash, thumbprint
from authservice_validator.fetch import FetchedJwks


@dataclass
class ManualClock:
    """A clock that stands still until told; serves as wall clock and as monotonic one."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class LocalIssuer:
    """An issuer with ES256 keys, which can be told to roll over, to hang and to fail.

    Attributes:
        issuer: the `iss` of its tokens.
        clock: Unix seconds, for `iat` and `exp`.
        keys: its signing keys by name; all are published, the first signs.
        fetches: how often its keys were fetched.
        max_age: what it states about the freshness of its keys.
        is_away: whether fetching fails.
        answer: what it publishes instead of its keys, when set.
        gate: what a fetch waits for after it has read the keys, when set.
    """

    issuer: str = "https://auth.test"
    clock: Callable[[], float] = time.time
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    fetches: int = 0
    max_age: timedelta | None = timedelta(minutes=5)
    is_away: bool = False
    answer: Any = None
    gate: asyncio.Event | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            self.add_key("k1")

    def add_key(self, kid: str) -> None:
        """Make and publish a key, replacing one of the same name."""
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def document(self) -> dict[str, list[dict[str, Any]]]:
        """The JWK set as published now."""
        listed = []
        for kid, key in self.keys.items():
            jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            listed.append({**jwk, "kid": kid, "alg": "ES256", "use": "sig"})
        return {"keys": listed}

    async def fetch(self) -> FetchedJwks:
        """Answer as the issuer's JWKS endpoint would; to be given to `JwksKeys`."""
        self.fetches += 1
        document = self.document() if self.answer is None else self.answer
        await (self.gate.wait() if self.gate is not None else asyncio.sleep(0))
        if self.is_away:
            raise ConnectionError("the issuer is away")
        return FetchedJwks(document, self.max_age)

    def token(self, kid: str | None = None, **claims: object) -> str:
        """A good access token of 15 minutes; `claims` are added or replaced, also by bad ones."""
        name = kid if kid is not None else next(iter(self.keys))
        now = int(self.clock())
        payload: dict[str, object] = {
            "iss": self.issuer,
            "sub": "u1",
            "aud": "api",
            "exp": now + 900,
            "iat": now,
            "jti": "t1",
            "sid": "s1",
            "client_id": "c1",
            "token_use": "access",
            **claims,
        }
        return jwt.encode(payload, self.keys[name], algorithm="ES256", headers={"kid": name, "typ": "at+jwt"})


@dataclass
class ProofKey:
    """A client's key, which makes proofs (RFC 9449).

    Attributes:
        clock: Unix seconds, for `iat`.
        key: its private key.
    """

    clock: Callable[[], float] = time.time
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def jkt(self) -> str:
        """What a token's `cnf.jkt` must be for this key."""
        return thumbprint(self._jwk())

    def proof(self, method: str, url: str, access_token: str | None = None, **claims: object) -> str:
        """A fresh proof for a request; `claims` are added or replaced."""
        payload: dict[str, object] = {
            "jti": token_urlsafe(16),
            "htm": method,
            "htu": url,
            "iat": int(self.clock()),
        }
        if access_token is not None:
            payload["ath"] = access_token_hash(access_token)
        headers = {"typ": "dpop+jwt", "jwk": self._jwk()}
        return jwt.encode({**payload, **claims}, self.key, algorithm="ES256", headers=headers)

    def _jwk(self) -> dict[str, Any]:
        jwk = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {name: jwk[name] for name in ("kty", "crv", "x", "y")}
