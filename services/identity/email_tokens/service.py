"""Issues and redeems tokens that travel by mail.

They have 256 bits, are kept as SHA-256, and are used up by one UPDATE in PostgreSQL: Redis may lose what it
likes. A token is bound to the address it was made for and to the user's `auth_epoch`, so that a change of
address, password or status voids it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.ids import new_secret
from services.identity.email_tokens import store
from services.identity.email_tokens.models import LiveToken, TokenKind
from services.identity.errors import InvalidLink
from services.identity.users import store as users
from services.identity.users.models import User

TTL: Final[Mapping[TokenKind, timedelta]] = {
    TokenKind.VERIFY_EMAIL: timedelta(hours=24),
    TokenKind.EMAIL_CHANGE: timedelta(hours=24),
    TokenKind.RESET_PASSWORD: timedelta(minutes=15),
    TokenKind.MAGIC_LINK: timedelta(minutes=15),
}
"""What logs in or replaces a password is short-lived (OWASP ASVS 6.6)."""

_MAX_TOKEN_LENGTH = 128
_THROTTLE = 3
_THROTTLE_WINDOW = timedelta(minutes=15)
_KEPT = timedelta(days=1)
_PURGE_SECONDS = 600.0

TOKENS = Counter(
    "email_tokens_total", "Tokens that travel by mail, by what became of them.", ["kind", "outcome"]
)


class EmailTokens:
    """Issues, finds and redeems."""

    def __init__(self, db: Database, clock: Clock) -> None:
        """Take where tokens are kept."""
        self._db = db
        self._clock = clock

    async def issue(
        self, tx: Tx, user: User, kind: TokenKind, payload: Mapping[str, Any] | None = None
    ) -> str:
        """Make a token for a user, whose older tokens of the kind are void by it."""
        await users.lock(tx, user.id)
        token, now = new_secret("ml_"), self._clock.now()
        await store.insert(
            tx, token_hash(token), kind, user, payload or {}, now=now, expires_at=now + TTL[kind]
        )
        tx.after_commit(TOKENS.labels(kind, "issued").inc)
        return token

    async def is_throttled(self, tx: Tx, user: User, kind: TokenKind) -> bool:
        """Whether the user was sent as many tokens of a kind lately as one mailbox should get.

        Holds the user until the transaction ends, so that requests at once are counted one by one.
        """
        await users.lock(tx, user.id)
        since = self._clock.now() - _THROTTLE_WINDOW
        return await store.count_since(tx, user.id, kind, since) >= _THROTTLE

    async def find(self, caller: CallerContext, raw: str, kind: TokenKind) -> LiveToken:
        """Look a token up without using it; where the caller names a client, only among that one's.

        Raises:
            InvalidLink: there is none, or it is used, too old, or made for what the user was before.
        """
        found = None
        if 0 < len(raw) <= _MAX_TOKEN_LENGTH:
            async with self._db.platform() as tx:
                found = await store.find(tx, raw, token_hash(raw), kind, self._clock.now())
        if found is None or caller.client_id not in (None, found.client_id):
            TOKENS.labels(kind, "refused").inc()
            raise InvalidLink
        return found

    async def redeem(self, tx: Tx, token: LiveToken) -> User:
        """Use a token up in a transaction of its client, and return the user as it is now.

        Raises:
            InvalidLink: another request was first, or the user changed since `find`.
        """
        # In the order in which `issue` takes them, so that the two never wait for each other.
        await users.lock(tx, token.user.id)
        user = await store.redeem(tx, token_hash(token.raw), token.kind, self._clock.now())
        if user is None:
            TOKENS.labels(token.kind, "refused").inc()
            raise InvalidLink
        tx.after_commit(TOKENS.labels(token.kind, "redeemed").inc)
        return user

    async def purge(self) -> None:
        """Forget tokens of yesterday, for ever; a job of the service."""
        while True:
            async with self._db.platform() as tx:
                await store.purge(tx, self._clock.now() - _KEPT)
            await asyncio.sleep(_PURGE_SECONDS)


def token_hash(raw: str) -> bytes:
    """Return what a token is kept under."""
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).digest()
