"""Which key a request to the token endpoint proves to have (RFC 9449 §5)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from prometheus_client import Counter

from chassis.clock import MAX_CLOCK_DIFFERENCE
from chassis.database import Database
from contracts.dpop import HEADER, DpopProofs, InvalidDpopProof, UseDpopNonce, UseOnce
from services.token.oauth import store
from services.token.oauth.endpoint import OAuthRequest
from services.token.oauth.models import AuthenticatedApp
from services.token.signing.models import ISSUER_ID

PROOFS: Final = Counter("dpop_proofs_total", "Proofs of possession at the token endpoint.", ["outcome"])


def used_once(db: Database) -> UseOnce:
    """Let PostgreSQL remember proofs.

    Tokens must not depend on Redis, and two memories are none: a proof that Redis took too slowly to say so
    would be good once more in the other.
    """

    async def use_once(name: bytes, until: datetime) -> bool:
        async with db.tenant(ISSUER_ID) as tx:
            return await store.use_assertion(tx, name, until + MAX_CLOCK_DIFFERENCE)

    return use_once


class TokenProofs:
    """Checks the proofs of requests for tokens."""

    def __init__(self, proofs: DpopProofs) -> None:
        """Take who checks."""
        self._proofs = proofs

    def nonce(self) -> str:
        """Return a nonce for the next proof."""
        return self._proofs.nonces.current()

    async def key_of(self, request: OAuthRequest, path: str) -> str | None:
        """Return the thumbprint of the key that a POST to `path` proves to have; None without a proof.

        Raises:
            InvalidDpopProof: the proof is not good, was seen before, or is missing where the app needs one.
            UseDpopNonce: it has no nonce of ours; one is sent along.
            Unavailable: it cannot be told now whether it was seen before.
        """
        shown, client = request.headers.getlist(HEADER), request.client
        if not shown:
            if isinstance(client, AuthenticatedApp) and client.app.is_dpop_bound:
                PROOFS.labels("missing").inc()
                raise InvalidDpopProof("This client has to show a DPoP proof.")
            return None
        try:
            jkt = await self._proofs.check(shown, "POST", path)
        except (InvalidDpopProof, UseDpopNonce) as error:
            PROOFS.labels(error.code).inc()
            raise
        PROOFS.labels("good").inc()
        return jkt
