"""The values of validation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from authservice_validator import VerificationKey, VerifiedClaims


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
