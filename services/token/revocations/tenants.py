"""The end of all of a client's access tokens, by an admin in an emergency."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from contracts.clients import ClientDirectory
from contracts.step_up import StepUpGuard
from services.token.revocations.service import Revocations


class TenantTokens:
    """Revokes what a client's users and service accounts hold now; sessions go on, and get new tokens."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        clients: ClientDirectory,
        revocations: Revocations,
        guard: StepUpGuard,
    ) -> None:
        """Take where revocations are stored, and what stands before them."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._revocations = revocations
        self._guard = guard

    async def revoke(
        self, caller: CallerContext, client_id: UUID, *, step_up_token: str | None = None
    ) -> datetime:
        """Kill the client's access tokens up to now, and return that time.

        Raises:
            ClientNotFound: there is no such client.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        await self._clients.get(client_id)
        await self._guard.check(
            caller,
            Action.CLIENT_KEY_ROTATE,
            token=step_up_token,
            resource=client_id,
            client_id=client_id,
        )
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            await self._revocations.client(tx, client_id, now)
            await self._outbox.emit(
                tx, events.ClientTokensRevoked(target_id=client_id), caller, client_id=client_id
            )
        await self._revocations.announce()
        return now
