"""Keys of apps, of each algorithm: for assertions (RFC 7523) and proofs of possession (RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.harness import BASE_URL

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(slots=True)
class AppKey:
    """A key of an app, and the nonce that the issuer told it last."""

    algorithm: str
    private: Any = field(init=False)
    nonce: str | None = None

    def __post_init__(self) -> None:
        """Make the key."""
        match self.algorithm:
            case "RS256":
                self.private = rsa.generate_private_key(65537, 2048)
            case "ES256":
                self.private = ec.generate_private_key(ec.SECP256R1())
            case _:
                self.private = ed25519.Ed25519PrivateKey.generate()

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key."""
        public = self.private.public_key()
        match self.algorithm:
            case "RS256":
                text = RSAAlgorithm.to_jwk(public)
            case "ES256":
                text = ECAlgorithm.to_jwk(public)
            case _:
                text = OKPAlgorithm.to_jwk(public)
        found: dict[str, Any] = json.loads(text)
        return {name: found[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in found}

    @property
    def jwks(self) -> dict[str, Any]:
        """A set of it alone, as apps register it."""
        return {"keys": [{**self.jwk, "kid": "k-1", "alg": self.algorithm, "use": "sig"}]}

    @property
    def jkt(self) -> str:
        """Its thumbprint (RFC 7638)."""
        needed = {
            name: value
            for name, value in sorted(self.jwk.items())
            if name in ("crv", "e", "kty", "n", "x", "y")
        }
        text = json.dumps(needed, separators=(",", ":"), sort_keys=True)
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()

    def assertion(self, app_id: str, **changes: Any) -> dict[str, str]:
        """The parameters by which an app proves itself."""
        now = int(time.time())
        claims = {"iss": app_id, "sub": app_id, "aud": BASE_URL, "exp": now + 60, "jti": secrets.token_hex(8)}
        signed = jwt.encode({**claims, **changes}, self.private, self.algorithm, headers={"kid": "k-1"})
        return {"client_id": app_id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}

    def proof(self, method: str, path: str, **changes: Any) -> str:
        """A proof of possession for a request."""
        claims = {
            "jti": secrets.token_hex(8),
            "htm": method,
            "htu": f"{BASE_URL}{path}",
            "iat": int(time.time()),
        }
        if self.nonce:
            claims["nonce"] = self.nonce
        headers = {"typ": "dpop+jwt", "jwk": self.jwk}
        return jwt.encode({**claims, **changes}, self.private, self.algorithm, headers=headers)
