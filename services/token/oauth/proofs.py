"""Which key a request to the token endpoint proves to have (RFC 9449 §5)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from prometheus_client import Counter

from chassis.clock import MAX_CLOCK_DIFFERENCE, Clock
from chassis.database import Database
from chassis.one_time import FeatureUnavailable, OneTimeState
from contracts.dpop import HEADER, DpopProofs, InvalidDpopProof, UseDpopNonce, UseOnce, in_redis
from services.token.oauth import store
from services.token.oauth.endpoint import OAuthRequest
from services.token.oauth.models import AuthenticatedApp
from services.token.signing.models import ISSUER_ID

PROOFS: Final = Counter("dpop_proofs_total", "Proofs of possession at the token endpoint.", ["outcome"])


def used_once(one_time: OneTimeState, db: Database, clock: Clock) -> UseOnce:
    """Let Redis remember proofs, and PostgreSQL while there is none: tokens must not depend on Redis."""
    in_memory = in_redis(one_time, clock)

    async def use_once(name: bytes, until: datetime) -> bool:
        until += MAX_CLOCK_DIFFERENCE
        try:
            return await in_memory(name, until)
        except FeatureUnavailable:
            async with db.platform() as tx:
                return await store.use_proof(tx, name, ISSUER_ID, until)

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
