"""Rotation of refresh tokens, those that a client's users present at the same time in one transaction.

A commit costs more than all the rest of a rotation. One that comes alone is done at once; while it is under
way others gather.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from chassis.batching import Batcher
from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from services.token.sessions import store
from services.token.sessions.models import LiveSession, TokenUse

_MAX_BATCH = 100
_MAX_CLIENTS = 1000


@dataclass(frozen=True, slots=True)
class Rotation:
    """A token that is presented, and by whom."""

    use: TokenUse
    caller: CallerContext


class Rotations:
    """Uses tokens, each at most once however often and wherever it is presented."""

    def __init__(self, db: Database, outbox: Outbox, clock: Clock, refresh_ttl: timedelta) -> None:
        """Take where sessions are stored, and how long a rotation prolongs them."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._refresh_ttl = refresh_ttl
        self._batchers: OrderedDict[UUID, Batcher[Rotation, LiveSession | None]] = OrderedDict()

    async def rotate(self, client_id: UUID, rotation: Rotation) -> LiveSession | None:
        """Put the successor in the token's place and prolong its session; on record when this returns.

        None when the token was used before, or opens nothing.
        """
        batcher = self._batchers.get(client_id)
        if batcher is None:
            batcher = Batcher(partial(self._rotate_all, client_id), max_batch=_MAX_BATCH)
            self._batchers[client_id] = batcher
            if len(self._batchers) > _MAX_CLIENTS:
                self._batchers.popitem(last=False)
        self._batchers.move_to_end(client_id)
        return await batcher.submit(rotation)

    async def _rotate_all(
        self, client_id: UUID, rotations: Sequence[Rotation]
    ) -> Sequence[LiveSession | None]:
        # Of one token presented twice the first is it; the other finds it used.
        firsts = {rotation.use.token_hash: rotation for rotation in reversed(rotations)}
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            uses = [rotation.use for rotation in firsts.values()]
            found = await store.rotate(tx, uses, now, now + self._refresh_ttl)
            refreshed = [
                self._outbox.wrap(
                    events.SessionRefreshed(
                        target_id=session.id,
                        user_id=str(session.user_id),
                        app_id=session.grant.app_id if session.grant else None,
                    ),
                    firsts[token_hash].caller,
                    actor=Actor(ActorType.USER, str(session.user_id)),
                )
                for token_hash, session in found.items()
            ]
            await self._outbox.emit_all(tx, refreshed)
        return [
            found.get(rotation.use.token_hash) if firsts[rotation.use.token_hash] is rotation else None
            for rotation in rotations
        ]
