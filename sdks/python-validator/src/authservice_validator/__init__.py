"""Validates AuthService access tokens.

`TokenVerifier` turns a bearer token into `VerifiedClaims` or raises one of the errors in `errors`. It takes
its keys from `JwksKeys` (clients in a JWKS mode) or `HmacKey` (clients in `v1_hs256` mode); the FastAPI
dependencies are in `authservice_validator.fastapi`.
"""

from authservice_validator.claims import VerifiedClaims
from authservice_validator.errors import (
    KeysUnavailable,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    ValidatorError,
)
from authservice_validator.fetch import FetchedJwks
from authservice_validator.jwks import JwksKeys
from authservice_validator.keys import HmacKey, KeyRefused, KeySource, VerificationKey
from authservice_validator.revocation import RevocationKind, RevocationSet
from authservice_validator.verifier import TokenVerifier

__all__ = [
    "FetchedJwks",
    "HmacKey",
    "JwksKeys",
    "KeyRefused",
    "KeySource",
    "KeysUnavailable",
    "RevocationKind",
    "RevocationSet",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenRevoked",
    "TokenVerifier",
    "ValidatorError",
    "VerificationKey",
    "VerifiedClaims",
]
