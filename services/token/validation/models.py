"""The values of validation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from authservice_validator import VerificationKey, VerifiedClaims

from contracts.token_use import CLIENT_CREDENTIALS


class Refusal(StrEnum):
    """Why a token is not good, as the public proto names it."""

    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a code, not a secret
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    INVALID_API_KEY = "invalid_api_key"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as stored: for JWKS modes the public JWK as text, for HS256 the sealed secret."""

    kid: str
    client_id: UUID
    material: str | bytes


@dataclass(frozen=True, slots=True)
class OwnedKey:
    """A key that verifies, and the client whose tokens it signs."""

    client_id: UUID
    key: VerificationKey


@dataclass(frozen=True, slots=True)
class LivingSession:
    """A session that has neither ended nor expired: whose it is, and of a grant, for which resources."""

    owner: str
    is_grant: bool
    audience: tuple[str, ...]


Verdict = VerifiedClaims | Refusal
"""The claims of a token that is good at this moment, or why it is not."""


def is_of_app(claims: VerifiedClaims) -> bool:
    """Whether a token is an app's own, for no user: a machine's that names no service account."""
    return claims.token_use == CLIENT_CREDENTIALS and claims.service_account_id is None
