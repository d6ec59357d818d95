"""Rotation by schedule: each key that has signed for long enough hands over to the next.

Any number of processes may run it. A due key is claimed by one statement, and rotated only while it is still
the active one. When a key is due is its age less a share of up to a tenth that its name decides, so that keys
made together are not rotated together; and a process rotates few at a time, so that many that are overdue
do not cost the machine.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import AppError, Unavailable
from chassis.events import Event
from contracts.clients import ClientDirectory, ClientNotFound
from contracts.key_rotation import rotation_seconds_of
from services.token.errors import RotationTooSoon
from services.token.signing import store
from services.token.signing.algorithms import algorithm_of
from services.token.signing.models import ISSUER_ID, DueKey
from services.token.signing.stages import KeyStages

log = structlog.get_logger()

MOST_AT_ONCE: Final = 10
"""Keys that one process rotates in one pass."""

_PASS_SECONDS: Final = 30.0
_CLAIM: Final = timedelta(minutes=10)

OLDEST = Gauge(
    "signing_key_oldest_age_seconds",
    "Age of the oldest key that signs, since it began to.",
    ["owner"],
    multiprocess_mode="max",
)
FAILED = Counter("signing_key_rotations_failed_total", "Rotations by schedule that failed; tried again.")


class RotationSchedule:
    """Rotates what is due: by the client's own period, else by the installation's."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        clients: ClientDirectory,
        stages: KeyStages,
        period: timedelta | None,
    ) -> None:
        """Take what rotates, and the period of the issuer and of clients that say none; None for never."""
        self._db = db
        self._clock = clock
        self._clients = clients
        self._stages = stages
        self._seconds = int(period.total_seconds()) if period is not None else 0

    async def run(self) -> None:
        """Rotate for ever; a job of the service."""
        while True:
            try:
                await self._rotate_due()
                await self._measure()
            except Unavailable:
                log.warning("rotation of signing keys waits for the database")
            await asyncio.sleep(_PASS_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spreads processes only

    async def on_clients_changed(self, changed: Sequence[Event]) -> None:
        """Take note of the periods of clients that were made or changed."""
        for client_id in {event.client_id for event in changed if event.client_id is not None}:
            self._clients.drop(client_id)  # the event may be faster than the word that drops it
            try:
                seconds = rotation_seconds_of((await self._clients.get(client_id)).settings)
            except ClientNotFound:
                continue
            async with self._db.tenant(client_id) as tx:
                await store.put_rotation_period(tx, seconds)

    async def _rotate_due(self) -> None:
        async with self._db.platform() as tx:
            due = await store.claim_due(tx, self._clock.now(), _CLAIM, self._seconds, MOST_AT_ONCE)
        for key in due:
            try:
                await self._advance(key)
            except RotationTooSoon:
                log.info("rotation waits until the next key is known", kid=key.kid)
            except AppError as error:
                FAILED.inc()
                log.warning("signing key not rotated", kid=key.kid, error=type(error).__name__)

    async def _advance(self, key: DueKey) -> None:
        if await self._is_in_use(key):
            rotation = await self._stages.rotate(None, key.owner, key.algorithm, instead_of=key.kid)
            if rotation is not None:
                log.info("signing key rotated", owner=str(key.owner), active_kid=rotation.active_kid)
        elif await self._stages.retire(key.owner, key.algorithm, key.kid):
            log.info("signing key retired, nothing signs with it", owner=str(key.owner), kid=key.kid)

    async def _is_in_use(self, key: DueKey) -> bool:
        """Whether the owner still signs with this kind of key."""
        if key.owner == ISSUER_ID:
            return True
        try:
            client = await self._clients.get(key.owner)
        except ClientNotFound:
            return False
        return algorithm_of(client.token_mode) is key.algorithm

    async def _measure(self) -> None:
        now = self._clock.now()
        async with self._db.platform() as tx:
            oldest = await store.oldest_active(tx)
        for owner, since in oldest.items():
            OLDEST.labels(owner).set((now - since).total_seconds() if since is not None else 0)
