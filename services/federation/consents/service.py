"""The rules of consent: remembered by scope and resource, asked again for more, withdrawn at any time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.events import Actor, ActorType, Event
from chassis.ids import new_id
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import App
from services.federation.consents import store
from services.federation.consents.models import Asked, Consent
from services.federation.errors import ConsentNotFound
from services.federation.grants import Grants

_ROWS: Final = 500

CONSENTS = Counter("consents_total", "Users' answers to apps that ask, and withdrawals.", ["answer"])


class ConsentService:
    """Remembers what users have agreed to; whether one must be asked is said by `authorize`."""

    def __init__(self, db: Database, outbox: Outbox, clock: Clock, grants: Grants) -> None:
        """Take where consents are kept, and who ends what was granted on one."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._grants = grants

    async def is_covered(self, client_id: UUID, user_id: UUID, asked: Asked) -> bool:
        """Whether a user has agreed to all of this before."""
        async with self._db.tenant(client_id) as tx:
            return await store.covers(tx, user_id, asked)

    async def grant(self, caller: CallerContext, client_id: UUID, user_id: UUID, asked: Asked) -> None:
        """Remember that a user agreed."""
        async with self._db.tenant(client_id) as tx:
            consent_id = await store.grant(tx, new_id(), user_id, asked, self._clock.now())
            granted = events.ConsentGranted(
                target_id=consent_id, app_id=asked.app_id, scopes=asked.scopes, resources=asked.resources
            )
            actor = Actor(ActorType.USER, str(user_id))
            await self._outbox.emit(tx, granted, caller, actor=actor, client_id=client_id)
        CONSENTS.labels("granted").inc()

    async def refuse(self, caller: CallerContext, client_id: UUID, user_id: UUID, asked: Asked) -> None:
        """Put on record that a user did not agree; what it agreed to before stays."""
        refused = events.ConsentRefused(app_id=asked.app_id, scopes=asked.scopes, resources=asked.resources)
        actor = Actor(ActorType.USER, str(user_id))
        await self._outbox.append(refused, caller, actor=actor, client_id=client_id)
        CONSENTS.labels("refused").inc()

    async def list(self, client_id: UUID, user_id: UUID, *, before: UUID | None, limit: int) -> list[Consent]:
        """Return a user's consents, the newest first, older than `before`."""
        async with self._db.tenant(client_id) as tx:
            return await store.of_user(tx, user_id, before=before, limit=limit)

    async def withdraw(self, caller: CallerContext, consent_id: UUID) -> None:
        """Take a consent back, and end all that the app was granted on it.

        Raises:
            ConsentNotFound: the user has no such consent.
        """
        client_id, user_id = caller.require_client(), caller.require_user()
        async with self._db.tenant(client_id) as tx:
            consent = await store.withdraw(tx, user_id, consent_id)
            if consent is None:
                raise ConsentNotFound
            withdrawn = events.ConsentWithdrawn(
                target_id=consent_id, user_id=str(user_id), app_id=consent.app_id, scopes=consent.scopes
            )
            await self._outbox.emit(tx, withdrawn, caller)
        CONSENTS.labels("withdrawn").inc()
        # Should the token service be away, `on_withdrawn` ends the grants once it is back.
        await self._grants.end_grants(client_id, user_id, consent.app_id, caller)

    async def on_withdrawn(self, withdrawn: Sequence[Event]) -> None:
        """End the grants behind withdrawn consents; a durable consumer of our own events.

        So that no crash between the two leaves a grant alive, nor one that was made at that very moment. What
        the user granted on a new consent goes on, however late this comes.
        """
        for event in withdrawn:
            if event.client_id is not None:
                user_id, app_id = UUID(str(event.data["user_id"])), str(event.data["app_id"])
                async with self._db.tenant(event.client_id) as tx:
                    again = await store.granted_at(tx, user_id, app_id)
                await self._grants.end_grants(event.client_id, user_id, app_id, granted_until=again)

    async def on_users_deleted(self, deleted: Sequence[Event]) -> None:
        """Forget the consents of deleted users; a durable consumer."""
        user_ids = [UUID(event.target_id) for event in deleted if event.target_id]
        async with self._db.platform() as tx:
            await store.delete_of_users(tx, user_ids)

    async def on_apps_deleted(self, deleted: Sequence[Event]) -> None:
        """Forget the consents at deleted apps; a durable consumer. What they were granted ends at `token`."""
        for event in deleted:
            if event.client_id is None or event.target_id is None:
                continue
            removed = _ROWS
            while removed == _ROWS:
                async with self._db.tenant(event.client_id) as tx:
                    removed = await store.delete_of_app(tx, event.target_id, _ROWS)


def asked_by(app: App, scopes: Sequence[str], resources: Sequence[str]) -> Asked:
    """Return what an app asks for, as consent is kept for it."""
    return Asked(app.id, app.name, tuple(scopes), tuple(resources))
