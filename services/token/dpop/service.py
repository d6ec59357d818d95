"""Which key a request to the token endpoint proves to have, if it shows a proof."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from authservice_validator.dpop import DpopInvalid, DpopProof, read_proof
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis.clock import MAX_CLOCK_DIFFERENCE, Clock
from chassis.database import Database
from services.token.dpop.nonces import Nonces
from services.token.errors import InvalidDpopProof, UseDpopNonce
from services.token.oauth import store
from services.token.oauth.endpoint import OAuthRequest
from services.token.oauth.models import AuthenticatedApp

log = structlog.get_logger()

HEADER: Final = "dpop"
NONCE_HEADER: Final = "DPoP-Nonce"

PROOFS = Counter("dpop_proofs_total", "Proofs of possession, by what became of them.", ["outcome"])


class ProofChecker:
    """Checks proofs; each is good once, at whichever process."""

    def __init__(
        self, db: Database, redis: Redis | None, prefix: str, clock: Clock, nonces: Nonces, issuer: str
    ) -> None:
        """Take where used proofs are remembered: Redis, or without it PostgreSQL."""
        self._db = db
        self._redis = redis
        self._prefix = f"{prefix}dpop:"
        self._clock = clock
        self._nonces = nonces
        self._issuer = issuer

    def nonce(self) -> str:
        """Return a nonce for the next proof."""
        return self._nonces.current()

    async def key_of(self, request: OAuthRequest, path: str) -> str | None:
        """Return the thumbprint of the key that a POST to `path` proves to have; None without a proof.

        Raises:
            InvalidDpopProof: the proof is not good, was seen before, or is missing where the app needs one.
            UseDpopNonce: the proof is good and has none of our nonces; one is sent along.
            Unavailable: it cannot be told now whether it was seen before.
        """
        shown = request.headers.getlist(HEADER)
        client = request.client
        if not shown:
            if isinstance(client, AuthenticatedApp) and client.app.is_dpop_bound:
                PROOFS.labels("missing").inc()
                raise InvalidDpopProof("This client has to show a DPoP proof.")
            return None
        proof = self._read(shown, path)
        if proof.nonce is None or not self._nonces.is_ours(proof.nonce):
            PROOFS.labels("nonce").inc()
            raise UseDpopNonce(headers=((NONCE_HEADER, self._nonces.current()),))
        tenant = client.app.client.id if isinstance(client, AuthenticatedApp) else client.account.client_id
        if not await self._use(tenant, proof):
            PROOFS.labels("replayed").inc()
            raise InvalidDpopProof
        PROOFS.labels("good").inc()
        return proof.jkt

    def _read(self, shown: list[str], path: str) -> DpopProof:
        try:
            now = self._clock.now().timestamp()
            # Several are sent as one line, which is no proof (RFC 9110 §5.3).
            return read_proof(", ".join(shown), method="POST", url=self._issuer + path, now=now)
        except DpopInvalid as error:
            PROOFS.labels("invalid").inc()
            log.warning("dpop proof refused", reason=str(error))
            raise InvalidDpopProof from None

    async def _use(self, client_id: UUID, proof: DpopProof) -> bool:
        """Use a proof up; false when it was used before, by whichever process."""
        name = hashlib.sha256(f"dpop|{proof.jkt}|{proof.jti}".encode("utf-8", "surrogatepass")).digest()
        expires_at = datetime.fromtimestamp(proof.expires_at, UTC) + MAX_CLOCK_DIFFERENCE
        if self._redis is not None:
            left = max(1, int((expires_at - self._clock.now()).total_seconds()) + 1)
            try:
                return bool(await self._redis.set(self._prefix + name.hex(), 1, nx=True, ex=left))
            except (RedisError, TimeoutError, OSError) as error:
                log.warning("redis is away", error=type(error).__name__)
        async with self._db.tenant(client_id) as tx:
            return await store.use_assertion(tx, name, expires_at)
