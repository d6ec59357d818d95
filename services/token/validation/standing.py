"""Whether a session still lives and nothing of its token is revoked, as PostgreSQL has it at this moment.

The calls that wait share one query. While PostgreSQL is away, what this process knows of revocations decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

import structlog
from authservice_validator import RevocationKind, RevocationSet, VerifiedClaims
from prometheus_client import Counter

from chassis.batching import Batcher
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from contracts.token_use import OAUTH
from services.token.validation import store
from services.token.validation.models import LivingSession, is_of_app

log = structlog.get_logger()

_QUERY_SECONDS = 1.0
_REST_SECONDS = 1.0
_MAX_CALLS = 200
# While many ask: a query for two costs as much as one for twenty, and they wait longer than this anyway.
_PAUSE_SECONDS = 0.005

FALLBACKS = Counter("validation_from_memory_total", "Validations decided without PostgreSQL.")


class Standing:
    """Asks whether tokens that verified are still good."""

    def __init__(self, db: Database, clock: Clock, revoked: RevocationSet) -> None:
        """Take the database, and what is known of revocations without it."""
        self._db = db
        self._clock = clock
        self._revoked = revoked
        self._resting_until = 0.0
        self._alone: Batcher[Sequence[VerifiedClaims], Sequence[bool]] = Batcher(
            self._read, max_batch=_MAX_CALLS, pause=_PAUSE_SECONDS
        )
        # A call with many tokens is worth a query by itself.
        self._together: Batcher[Sequence[VerifiedClaims], Sequence[bool]] = Batcher(
            self._read, max_batch=_MAX_CALLS
        )

    async def are_good(self, tokens: Sequence[VerifiedClaims]) -> Sequence[bool]:
        """Return for each token whether its session lives and nothing revokes it."""
        if time.monotonic() >= self._resting_until:
            try:
                return await (self._alone if len(tokens) == 1 else self._together).submit(tokens)
            except Unavailable:
                log.warning("tokens are validated from memory, the database is away")
                self._resting_until = time.monotonic() + _REST_SECONDS
        FALLBACKS.inc(len(tokens))
        return [not self._revoked.is_revoked(claims) for claims in tokens]

    async def _read(self, calls: Sequence[Sequence[VerifiedClaims]]) -> Sequence[Sequence[bool]]:
        sessions: set[UUID] = set()
        refs: set[str] = set()
        for tokens in calls:
            for claims in tokens:
                refs.update((claims.sub, claims.client_id, claims.jti, claims.kid))
                if claims.sid is not None:
                    sessions.add(UUID(claims.sid))
        try:
            async with asyncio.timeout(_QUERY_SECONDS), self._db.platform() as tx:
                living, revoked = await store.standing(tx, sessions, refs, self._clock.now())
        except TimeoutError:
            raise Unavailable from None
        return [[_is_good(claims, living, revoked) for claims in tokens] for tokens in calls]


def _has_session(claims: VerifiedClaims, living: dict[UUID, LivingSession]) -> bool:
    session = living.get(UUID(claims.sid)) if claims.sid is not None else None
    # Nobody may speak in the session of another, whatever the tenant that can sign writes into a token.
    if session is None or session.owner != claims.sub:
        return False
    # What a user allowed an app is no login, and good at the resources that were asked for only.
    if session.is_grant and claims.token_use != OAUTH:
        return False
    return not session.audience or set(claims.aud) <= set(session.audience)


def _is_good(
    claims: VerifiedClaims, living: dict[UUID, LivingSession], revoked: dict[tuple[str, str, str], int]
) -> bool:
    # An app is no session, and its standing not in this database.
    if not is_of_app(claims) and not _has_session(claims, living):
        return False
    if not revoked:
        return True
    named = (
        (RevocationKind.USER, claims.sub),
        (RevocationKind.CLIENT, claims.client_id),
        (RevocationKind.TOKEN, claims.jti),
        (RevocationKind.KEY, claims.kid),
    )
    # Of its own client alone: a tenant that can sign may write another's `jti` into a token, and revoke that.
    return not any(claims.iat <= revoked.get((claims.client_id, str(kind), ref), -1) for kind, ref in named)
