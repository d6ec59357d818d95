"""What a verification costs: the raw signature, PyJWT, this package, and a token seen before.

    python -m benchmarks.validator

All variants of an algorithm run in turns, and the best of many rounds is printed: on a shared machine the
mean measures the neighbours. One core, no network.
"""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

import jwt
from authservice_validator import HmacKey, JwksKeys, TokenVerifier
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

_ROUNDS: Final = 25
_CALLS: Final = 200
_SECRET: Final = bytes(range(64))


class Mode(NamedTuple):
    """A token mode: its signing key, what verifies, its public JWK, and the bare signature check."""

    alg: str
    signing: Any
    public: Any
    jwk: dict[str, Any] | None
    check: Callable[[bytes, bytes], object]


def modes() -> list[Mode]:
    """One fresh key for each algorithm, with its bare check."""
    rsa_key = rsa.generate_private_key(65537, 2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    ed_key = ed25519.Ed25519PrivateKey.generate()
    rsa_public, ec_public, ed_public = rsa_key.public_key(), ec_key.public_key(), ed_key.public_key()

    def check_es256(data: bytes, signature: bytes) -> None:
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        ec_public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))

    return [
        Mode(
            "RS256",
            rsa_key,
            rsa_public,
            RSAAlgorithm.to_jwk(rsa_public, as_dict=True),
            lambda data, signature: rsa_public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256()),
        ),
        Mode("ES256", ec_key, ec_public, ECAlgorithm.to_jwk(ec_public, as_dict=True), check_es256),
        Mode(
            "EdDSA",
            ed_key,
            ed_public,
            OKPAlgorithm.to_jwk(ed_public, as_dict=True),
            lambda data, signature: ed_public.verify(signature, data),
        ),
        Mode(
            "HS256",
            _SECRET,
            _SECRET,
            None,
            lambda data, sig: hmac.compare_digest(sig, hmac.digest(_SECRET, data, "sha256")),
        ),
    ]


def make_token(mode: Mode) -> str:
    """A token with the claims of a usual user session."""
    now = int(time.time())
    claims = {
        "iss": "https://auth.example.com",
        "sub": "0190f5c0-0000-7000-8000-000000000001",
        "aud": "https://api.example.com",
        "exp": now + 3600,
        "iat": now,
        "nbf": now,
        "jti": "0190f5c0-0000-7000-8000-000000000002",
        "sid": "0190f5c0-0000-7000-8000-000000000003",
        "client_id": "0190f5c0-0000-7000-8000-00000000000a",
        "token_use": "access",
        "email": "user@example.com",
        "role": "user",
        "email_verified": True,
        "auth_time": now,
        "amr": ["pwd"],
    }
    return jwt.encode(claims, mode.signing, algorithm=mode.alg, headers={"kid": "k1", "typ": "at+jwt"})


def make_verifier(mode: Mode, cache_size: int) -> TokenVerifier:
    """The package's verifier for a mode."""

    async def fetch() -> dict[str, Any]:
        return {
            "keys": [{**(mode.jwk or {}), "kid": "k1", "alg": mode.alg, "use": "sig", "key_ops": ["verify"]}]
        }

    return TokenVerifier(
        HmacKey(_SECRET) if mode.jwk is None else JwksKeys(fetch),
        issuer="https://auth.example.com",
        audience="https://api.example.com",
        client_id="0190f5c0-0000-7000-8000-00000000000a",
        cache_size=cache_size,
    )


def time_calls(call: Callable[[], object]) -> float:
    """Microseconds of one call, over one round."""
    start = time.perf_counter()
    for _ in range(_CALLS):
        call()
    return (time.perf_counter() - start) / _CALLS * 1e6


async def time_awaits(call: Callable[[], Coroutine[Any, Any, object]]) -> float:
    """Microseconds of one awaited call, over one round."""
    start = time.perf_counter()
    for _ in range(_CALLS):
        await call()
    return (time.perf_counter() - start) / _CALLS * 1e6


async def measure(mode: Mode) -> dict[str, float]:
    """The best microseconds of each variant."""
    token = make_token(mode)
    signing_input, _, part = token.rpartition(".")
    data, signature = signing_input.encode(), base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    cold, warm = make_verifier(mode, 0), make_verifier(mode, 100)
    claims = await cold.verify(token)
    await warm.verify(token)
    revoking = make_verifier(mode, 100)
    await revoking.verify(token)
    for number in range(10_000):
        for kind in ("session", "user", "token", "client", "key"):
            revoking.revocations.add(kind, f"x{number}", claims.iat, claims.exp)
    best: dict[str, float] = {}

    def note(name: str, cost: float) -> None:
        best[name] = min(cost, best.get(name, cost))

    for _ in range(_ROUNDS):
        note("raw", time_calls(lambda: mode.check(data, signature)))
        note(
            "pyjwt",
            time_calls(
                lambda: jwt.decode(
                    token, mode.public, algorithms=[mode.alg], audience="https://api.example.com"
                )
            ),
        )
        note("verify", await time_awaits(lambda: cold.verify(token)))
        note("cached", time_calls(lambda: warm.cached(token)))
        note("cached, 50k revoked", time_calls(lambda: revoking.cached(token)))
        note("verify, cached", await time_awaits(lambda: warm.verify(token)))
    return best


async def main() -> None:
    """Print the table, and the same as one line of JSON."""
    results = {mode.alg: await measure(mode) for mode in modes()}
    columns = list(next(iter(results.values())))
    print("µs per call" + "".join(f"{name:>22}" for name in columns))
    for alg, costs in results.items():
        print(f"{alg:<11}" + "".join(f"{costs[name]:22.2f}" for name in columns))
    print(
        json.dumps(
            {alg: {name: round(cost, 2) for name, cost in costs.items()} for alg, costs in results.items()}
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
