"""Shared by the package's tests: the conformance vectors, a clock that is set by hand, and an issuer."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from authservice_validator import FetchedJwks, HmacKey, JwksKeys, TokenVerifier
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

CONFORMANCE = Path(__file__).resolve().parents[2] / "conformance"


@dataclass
class Clock:
    """A clock that moves when told."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Issuer:
    """An issuer outside of the package: signs tokens, publishes keys, counts and fails fetches as told."""

    clock: Clock
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    fetches: int = 0
    is_away: bool = False
    answer: Any = None
    max_age: timedelta | None = timedelta(minutes=5)
    gate: asyncio.Event | None = None

    def add_key(self, kid: str) -> None:
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def document(self) -> dict[str, Any]:
        listed = []
        for kid, key in self.keys.items():
            jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            listed.append({**jwk, "kid": kid, "alg": "ES256", "use": "sig"})
        return {"keys": listed}

    async def fetch(self) -> FetchedJwks:
        self.fetches += 1
        document = self.document()
        await (self.gate.wait() if self.gate is not None else asyncio.sleep(0))
        if self.is_away:
            raise ConnectionError("the issuer is away")
        return FetchedJwks(self.answer if self.answer is not None else document, self.max_age)

    def token(self, kid: str, *, sign_with: str | None = None, **claims: Any) -> str:
        now = int(self.clock())
        payload = {
            "iss": "https://auth.test",
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
        headers = {"kid": kid, "typ": "at+jwt"}
        return jwt.encode(payload, self.keys[sign_with or kid], algorithm="ES256", headers=headers)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> Issuer:
    made = Issuer(clock)
    made.add_key("k1")
    return made


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> JwksKeys:
    return JwksKeys(issuer.fetch, clock=clock)


@pytest.fixture
def verifier(keys: JwksKeys, clock: Clock) -> TokenVerifier:
    return TokenVerifier(keys, issuer="https://auth.test", audience="api", client_id="c1", clock=clock)


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CONFORMANCE / "vectors.json").read_text())
    return loaded


@pytest.fixture
def conforming(vectors: dict[str, Any]) -> Callable[[str], TokenVerifier]:
    """Makes the verifier that the vectors of a key source are judged by."""

    def make(source: str) -> TokenVerifier:
        setting = vectors["verifier"]

        async def fetch() -> dict[str, Any]:
            document: dict[str, Any] = vectors["sources"]["jwks"]
            return document

        hs256 = vectors["sources"]["hs256"]
        secret = base64.urlsafe_b64decode(hs256["secret"] + "=")
        return TokenVerifier(
            JwksKeys(fetch) if source == "jwks" else HmacKey(secret, kid=hs256["kid"]),
            issuer=setting["issuer"],
            audience=setting["audience"],
            client_id=setting["client_id"],
            token_uses=setting["token_uses"],
            leeway=timedelta(seconds=setting["leeway"]),
            clock=lambda: float(setting["now"]),
        )

    return make
