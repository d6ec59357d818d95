"""How a checkpoint is signed, and what a signed one must say to be believed.

The statement is a JWS (RFC 7515) with Ed25519 (RFC 8037), so that anyone can verify it with a JOSE library,
the public key, and nothing of ours. Each names the digest of its predecessor: one that is taken out leaves a
gap.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.clock import rfc3339
from services.audit.checkpoints.models import Checkpoint
from services.audit.ingest.models import Head

_ALGORITHM = "EdDSA"
_TYPE = "audit-checkpoint+jwt"


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """The signing key; `kid` is its thumbprint (RFC 7638)."""

    kid: str
    private: Ed25519PrivateKey

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> CheckpointKey:
        """Name a key."""
        members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(private.public_key().public_bytes_raw())}
        text = json.dumps(members, separators=(",", ":"), sort_keys=True)
        return cls(_base64url(hashlib.sha256(text.encode()).digest()), private)

    @property
    def jwk(self) -> dict[str, str]:
        """The public key (RFC 8037 §2)."""
        public = _base64url(self.private.public_key().public_bytes_raw())
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": public,
            "kid": self.kid,
            "alg": _ALGORITHM,
            "use": "sig",
        }

    def sign(self, head: Head, now: datetime, previous: str | None) -> Checkpoint:
        """State where the chain stands; `previous` is the signed text of its last checkpoint."""
        statement = {
            "chain": str(head.client_id),
            "position": head.position,
            "hash": head.hash.hex(),
            "created_at": rfc3339(now),
            "previous": digest_of(previous),
        }
        headers = {"kid": self.kid, "typ": _TYPE}
        signed = jwt.encode(statement, self.private, algorithm=_ALGORITHM, headers=headers)
        return Checkpoint(head.client_id, head.position, head.hash, now, self.kid, signed)

    def confirms(self, checkpoint: Checkpoint, previous: str | None) -> bool:
        """Tell whether the signed text is ours, says what its row says, and names `previous` before it."""
        try:
            claims = jwt.decode(
                checkpoint.signed, self.private.public_key(), algorithms=[_ALGORITHM], options=_AS_IT_IS
            )
        except jwt.InvalidTokenError:
            return False
        return {name: claims.get(name) for name in ("chain", "position", "hash", "previous")} == {
            "chain": str(checkpoint.client_id),
            "position": checkpoint.position,
            "hash": checkpoint.hash.hex(),
            "previous": digest_of(previous),
        }


_AS_IT_IS: jwt.types.Options = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
}


def digest_of(signed: str | None) -> str | None:
    """Return the SHA-256 of a signed text, by which its successor names it."""
    return None if signed is None else hashlib.sha256(signed.encode()).hexdigest()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
