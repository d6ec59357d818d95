"""Whom an `id_token_hint` names (OpenID Connect Core §3.1.2.1)."""

from __future__ import annotations

from uuid import UUID

from services.federation.authorize.answers import AuthorizationRefused
from services.federation.grants import Grants


class IdTokenHints:
    """Reads hints: ID tokens that we issued, expired ones too."""

    def __init__(self, grants: Grants) -> None:
        """Take who verifies them."""
        self._grants = grants

    async def user_of(self, hint: str) -> UUID:
        """Return the user that a hint names; of whichever app, for what counts is who logs in.

        Raises:
            AuthorizationRefused: `invalid_request`: it is no ID token of ours.
            Unavailable: the token service is away.
        """
        claims = await self._grants.read_id_token(hint)
        try:
            return UUID(str(claims["sub"])) if claims else _malformed()
        except (KeyError, ValueError):
            return _malformed()


def _malformed() -> UUID:
    raise AuthorizationRefused("invalid_request", "The id_token_hint is no ID token of this issuer.")
