"""How userinfo refuses: the challenges of RFC 6750 §3, RFC 9449 §7.1 and RFC 9728 §5.1."""

from __future__ import annotations

from typing import Final

from authservice_validator.dpop import ALGORITHMS

from chassis.errors import AppError
from contracts.dpop import NONCE_HEADER
from services.federation.errors import InsufficientScope, InvalidAccessToken

_NAME: Final = "WWW-Authenticate"
_ALGORITHMS: Final = f'algs="{" ".join(ALGORITHMS)}"'


class ProofRefused(InvalidAccessToken):
    """The token's proof of possession is not good; the code says how, as RFC 9449 words it."""

    def __init__(self, refused: AppError, headers: tuple[tuple[str, str], ...]) -> None:
        """Take the fault of the proof."""
        super().__init__(refused.detail, headers=headers)
        self.code = refused.code


class Challenges:
    """Makes refusals that say where the metadata is, in both schemes that tokens may come with."""

    def __init__(self, metadata_url: str) -> None:
        """Take the address of the protected-resource metadata."""
        self._metadata = f'resource_metadata="{metadata_url}"'

    def missing(self) -> InvalidAccessToken:
        """No token came: no error is named (RFC 6750 §3.1)."""
        return InvalidAccessToken(headers=self._both())

    def invalid(self) -> InvalidAccessToken:
        """The token is not good; why is not said."""
        return InvalidAccessToken(headers=self._both('error="invalid_token"'))

    def insufficient(self, scope: str) -> InsufficientScope:
        """The token is good, and for less."""
        return InsufficientScope(headers=self._both('error="insufficient_scope"', f'scope="{scope}"'))

    def unproven(self, refused: AppError, nonce: str) -> ProofRefused:
        """The token is good, and its proof is not."""
        challenge = f'DPoP {_ALGORITHMS}, error="{refused.code}", {self._metadata}'
        return ProofRefused(refused, ((_NAME, challenge), (NONCE_HEADER, nonce)))

    def _both(self, *parameters: str) -> tuple[tuple[str, str], ...]:
        said = ", ".join((*parameters, self._metadata))
        return ((_NAME, f"Bearer {said}"), (_NAME, f"DPoP {_ALGORITHMS}, {said}"))
