"""Whether a text is a client's JWT secret, by which its server may prove itself at the token endpoint."""

from __future__ import annotations

import hmac
from uuid import UUID

from chassis.database import Database
from chassis.sealing import Sealer
from services.token.signing import store
from services.token.signing.algorithms import Algorithm
from services.token.signing.keyring import row_of

_PREFIX = "jwt_"
_MAX_LENGTH = 128


class ClientSecrets:
    """Compares with the secret that signs a client's tokens at this moment."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        """Take where secrets are, and what opens them."""
        self._db = db
        self._sealer = sealer

    async def matches(self, client_id: UUID, presented: str) -> bool:
        """Whether this is the client's JWT secret; how much of a guess is right changes no time.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        if not presented.startswith(_PREFIX) or len(presented) > _MAX_LENGTH:
            return False
        async with self._db.tenant(client_id) as tx:
            stored = await store.active_secret(tx)
        if stored is None:
            return False
        secret = self._sealer.open(stored.sealed, row_of(Algorithm.HS256, stored.kid))
        return hmac.compare_digest(secret, presented.encode("utf-8", "surrogatepass"))
