"""Key pairs and raw signatures of the four token modes; the only place that calls the crypto library.

Signatures are made over the JWS signing input (RFC 7515 §5.1) without a JWT library in between: it would
cost as much again as an ES256 signature.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, assert_never

from authservice_validator.jose import ISSUER_KID_PREFIX
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from contracts.clients import TokenMode

_RSA_BITS = 2048
_RSA_EXPONENT = 65537
_P256_BYTES = 32

Sign = Callable[[bytes], bytes]

ACCESS_TOKEN: Final = "at+jwt"  # noqa: S105 - a name
"""The `typ` of an access token (RFC 9068 §2.1)."""


class Algorithm(StrEnum):
    """A JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1)."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


_OF_MODE = {
    TokenMode.HS256: Algorithm.HS256,
    TokenMode.RS256: Algorithm.RS256,
    TokenMode.ES256: Algorithm.ES256,
    TokenMode.EDDSA: Algorithm.EDDSA,
}


def algorithm_of(mode: TokenMode) -> Algorithm:
    """Return the algorithm of a client's token mode."""
    return _OF_MODE[mode]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A fresh key pair: its name, the public half as JWK (RFC 7517), the private half as PKCS #8 in DER."""

    kid: str
    public_jwk: dict[str, str]
    private: bytes


def new_kid() -> str:
    """Return a key id that nobody can guess and no two keys share."""
    return secrets.token_urlsafe(16)


def generate(algorithm: Algorithm, *, of_issuer: bool) -> KeyPair:
    """Make a key pair. RSA takes a tenth of a second or more: call it in a thread, outside a transaction.

    The name tells validators a key of the issuer's own from a client's, whose has no dot.
    """
    kid = ISSUER_KID_PREFIX + new_kid() if of_issuer else new_kid()
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    match algorithm:
        case Algorithm.RS256:
            key = rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
            numbers = key.public_key().public_numbers()
            members = {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
        case Algorithm.ES256:
            key = ec.generate_private_key(ec.SECP256R1())
            point = key.public_key().public_numbers()
            x, y = _integer(point.x, _P256_BYTES), _integer(point.y, _P256_BYTES)
            members = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        case Algorithm.EDDSA:
            key = ed25519.Ed25519PrivateKey.generate()
            raw = key.public_key().public_bytes_raw()
            members = {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw).decode()}
        case Algorithm.HS256:
            raise ValueError("HS256 signs with a secret, not with a key pair")
        case _:
            assert_never(algorithm)
    jwk = {**members, "kid": kid, "use": "sig", "alg": str(algorithm)}
    return KeyPair(kid, jwk, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


@dataclass(frozen=True, slots=True)
class Signer:
    """A loaded key that signs tokens.

    A client's key signs access tokens and the issuer's everything else, so that no validator that knows both
    can take the one for the other. A signature that takes long is made in a thread of `threads`, where the
    crypto library lets others run: an RSA signature takes ten times as long as all else about a token, and
    the event loop would stand still for it. `headers` are base64url JOSE headers by `typ`, each made once.
    """

    kid: str
    algorithm: Algorithm
    sign: Sign
    is_issuer: bool = False
    threads: Executor | None = None
    headers: dict[str, bytes] = field(default_factory=dict)

    async def token(self, claims: dict[str, object], typ: str = ACCESS_TOKEN) -> str:
        """Return the claims as a compact JWS.

        Raises:
            ValueError: an access token by the issuer's key, or another token by a client's.
        """
        header = self.headers.get(typ) or self._header(typ)
        payload = base64url(json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode())
        signing_input = header + b"." + payload
        if self.threads is None:
            signature = self.sign(signing_input)
        else:
            loop = asyncio.get_running_loop()
            signature = await loop.run_in_executor(self.threads, self.sign, signing_input)
        return (signing_input + b"." + base64url(signature)).decode()

    def _header(self, typ: str) -> bytes:
        if (typ == ACCESS_TOKEN) is self.is_issuer:
            raise ValueError(
                f"{typ} is not signed with {'the issuer' if self.is_issuer else 'a client'}'s key"
            )
        header = {"alg": str(self.algorithm), "typ": typ, "kid": self.kid}
        encoded = self.headers[typ] = base64url(json.dumps(header, separators=(",", ":")).encode())
        return encoded


def load_signer(
    algorithm: Algorithm,
    kid: str,
    private: bytes,
    *,
    is_issuer: bool = False,
    threads: Executor | None = None,
) -> Signer:
    """Load a private key (PKCS #8 in DER), or a secret for HS256; costs more than a signature, so keep it.

    `threads` are used by RS256 alone: the hop to a thread takes as long as any other signature.
    """
    slow = threads if algorithm is Algorithm.RS256 else None
    return Signer(kid, algorithm, _sign_with(algorithm, private), is_issuer, slow)


def base64url(raw: bytes) -> bytes:
    """Encode without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _sign_with(algorithm: Algorithm, private: bytes) -> Sign:
    if algorithm is Algorithm.HS256:
        return lambda data: hmac.digest(private, data, hashlib.sha256)
    # What was sealed is what we made: checking the primes again would take longer than making a token.
    key = load_der_private_key(private, None, unsafe_skip_rsa_key_validation=True)
    if algorithm is Algorithm.RS256 and isinstance(key, rsa.RSAPrivateKey):
        scheme, digest = padding.PKCS1v15(), SHA256()
        return lambda data: key.sign(data, scheme, digest)
    if algorithm is Algorithm.ES256 and isinstance(key, ec.EllipticCurvePrivateKey):
        return _es256(key)
    if algorithm is Algorithm.EDDSA and isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    raise ValueError(f"the stored key is not one for {algorithm}")


def _es256(key: ec.EllipticCurvePrivateKey) -> Sign:
    scheme = ec.ECDSA(SHA256())

    def sign(data: bytes) -> bytes:
        # JWS wants r and s at their full length, one after the other (RFC 7518 §3.4), not DER.
        r, s = decode_dss_signature(key.sign(data, scheme))
        return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")

    return sign


def _integer(value: int, length: int | None = None) -> str:
    size = length or (value.bit_length() + 7) // 8
    return base64url(value.to_bytes(size, "big")).decode()
