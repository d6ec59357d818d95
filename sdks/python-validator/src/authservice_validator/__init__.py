"""Validates AuthService access tokens.

`TokenVerifier` turns a bearer token into `VerifiedClaims` or raises one of the errors in `errors`. It takes
its keys from `JwksKeys` (clients in a JWKS mode) or `HmacKey` (clients in `v1_hs256` mode). What was revoked
it learns from `RevocationStream` (`authservice_validator.stream`) or `StatusLists`. The FastAPI dependencies
are in `authservice_validator.fastapi`.
"""

from authservice_validator.claims import VerifiedClaims
from authservice_validator.errors import (
    KeysUnavailable,
    RevocationsUnavailable,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    ValidatorError,
)
from authservice_validator.fetch import FetchedJwks
from authservice_validator.jwks import JwksKeys
from authservice_validator.keys import HmacKey, KeyRefused, KeySource, VerificationKey
from authservice_validator.resource import Dpop, Needs, ProtectedResource, Refusal, RequestFacts
from authservice_validator.revocation import RevocationFeed, RevocationKind, RevocationSet
from authservice_validator.status_list import StatusLists
from authservice_validator.verifier import TokenVerifier

__all__ = [
    "Dpop",
    "FetchedJwks",
    "HmacKey",
    "JwksKeys",
    "KeyRefused",
    "KeySource",
    "KeysUnavailable",
    "Needs",
    "ProtectedResource",
    "Refusal",
    "RequestFacts",
    "RevocationFeed",
    "RevocationKind",
    "RevocationSet",
    "RevocationsUnavailable",
    "StatusLists",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenRevoked",
    "TokenVerifier",
    "ValidatorError",
    "VerificationKey",
    "VerifiedClaims",
]
