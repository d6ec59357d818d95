"""What admins do with the secrets and keys that sign tokens. Knows no HTTP and no SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.events import Event
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from contracts.clients import ClientDirectory, ClientNotFound
from contracts.step_up import StepUpGuard
from services.token.errors import NoSigningKeys
from services.token.revocations.service import Revocations
from services.token.signing import store
from services.token.signing.algorithms import Algorithm, algorithm_of
from services.token.signing.keyring import INVALIDATE, ISSUER_ALGORITHMS, Keyring
from services.token.signing.models import ISSUER_ID, RevokedKey, Rotation, SigningKey
from services.token.signing.stages import KeyStages

log = structlog.get_logger()

ISSUER_RESOURCE: Final = "signing-keys"
"""What a proof for a change of the issuer's keys is bound to."""

_HOUSEKEEPING_SECONDS = 60.0
_REVOKED_SECRETS_KEPT = timedelta(days=1)


class SigningService:
    """Rotates and revokes secrets and signing keys, and makes the keys of new clients."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        clock: Clock,
        *,
        clients: ClientDirectory,
        keyring: Keyring,
        stages: KeyStages,
        revocations: Revocations,
        guard: StepUpGuard,
        period: timedelta | None,
    ) -> None:
        """Take where keys are stored and what moves them; `period` is that of the schedule."""
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._clients = clients
        self._keyring = keyring
        self._stages = stages
        self._revocations = revocations
        self._guard = guard
        self._period = period

    async def rotate_secret(
        self, caller: CallerContext, client_id: UUID, *, step_up_token: str | None = None
    ) -> str:
        """Replace the client's JWT secret and return the new one, which is shown only here.

        All tokens signed with the old one are dead when this returns.

        Raises:
            ClientNotFound: there is no such client.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        client = await self._clients.get(client_id)
        await self._check(caller, client_id, step_up_token)
        secret, text = await self._keyring.draw_secret()
        now = self._clock.now()
        async with self._db.tenant(client.id) as tx:
            await store.lock_client(tx)
            old = await store.revoke_secret(tx, now)
            await store.insert_secret(tx, secret, now)
            if old is not None:
                await self._revocations.key(tx, client.id, old, now)
            event = events.JwtSecretRotated(target_id=client.id)
            await self._outbox.emit(tx, event, caller, client_id=client.id)
        await self._tell(client.id)
        await self._revocations.announce()
        return text

    async def rotate_signing_key(
        self,
        caller: CallerContext,
        client_id: UUID,
        *,
        force: bool = False,
        step_up_token: str | None = None,
    ) -> Rotation:
        """Let the next key sign, publish a new next one, and keep the old one published while tokens live.

        Raises:
            ClientNotFound: there is no such client. NoSigningKeys: its tokens are signed with a secret.
            RotationTooSoon: the next key has been published for less than `LEAD_TIME`; `force` skips this.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        client = await self._clients.get(client_id)
        algorithm = algorithm_of(client.token_mode)
        if algorithm is Algorithm.HS256:
            raise NoSigningKeys
        await self._check(caller, client_id, step_up_token)
        return await self._rotate(caller, client.id, algorithm, force=force)

    async def rotate_issuer_keys(
        self,
        caller: CallerContext,
        algorithm: Algorithm | None = None,
        *,
        force: bool = False,
        step_up_token: str | None = None,
    ) -> list[Rotation]:
        """Rotate the issuer's key of an algorithm, or of each: all of them or, when it is too soon, none.

        Raises:
            RotationTooSoon, StepUpRequired, ActionBlocked: as above.
        """
        wanted = [algorithm] if algorithm is not None else list(ISSUER_ALGORITHMS)
        await self._check(caller, None, step_up_token)
        if not force:
            await self._stages.check_lead(ISSUER_ID, wanted)
        return [await self._rotate(caller, ISSUER_ID, algorithm, force=force) for algorithm in wanted]

    async def revoke_signing_key(
        self, caller: CallerContext, client_id: UUID | None, kid: str, *, step_up_token: str | None = None
    ) -> RevokedKey:
        """Destroy a key of a client, or of the issuer for None: see `KeyStages.revoke`.

        Raises:
            ClientNotFound: there is no such client.
            SigningKeyNotFound: it has no such key, or not any more.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        if client_id is not None:
            await self._clients.get(client_id)
        await self._check(caller, client_id, step_up_token)
        return await self._stages.revoke(caller, client_id or ISSUER_ID, kid)

    async def signing_keys(self, client_id: UUID | None) -> list[SigningKey]:
        """Return the keys of a client, or of the issuer for None; none of a client that signs with a secret.

        Raises:
            ClientNotFound: there is no such client.
        """
        if client_id is not None:
            await self._clients.get(client_id)
        async with self._db.tenant(client_id or ISSUER_ID) as tx:
            seconds = int(self._period.total_seconds()) if self._period is not None else 0
            return await store.all_keys(tx, seconds, self._clock.now())

    async def _rotate(
        self, caller: CallerContext, owner: UUID, algorithm: Algorithm, *, force: bool
    ) -> Rotation:
        rotation = await self._stages.rotate(caller, owner, algorithm, force=force)
        if rotation is None:
            raise LookupError("nobody said which key must be the active one")
        return rotation

    async def _check(self, caller: CallerContext, client_id: UUID | None, step_up_token: str | None) -> None:
        await self._guard.check(
            caller,
            Action.CLIENT_KEY_ROTATE,
            token=step_up_token,
            resource=client_id or ISSUER_RESOURCE,
            client_id=client_id,
        )

    async def on_clients_created(self, created: Sequence[Event]) -> None:
        """Make the keys of new clients before their first login needs them."""
        for event in created:
            if event.client_id is None:
                continue
            try:
                await self._keyring.ensure(await self._clients.get(event.client_id))
            except ClientNotFound:
                log.warning("created client is not known", client_id=str(event.client_id))

    async def housekeeping(self) -> None:
        """Forget keys and secrets that no living token was signed with, for ever; a job of the service."""
        while True:
            try:
                await self.forget_retired(self._clock.now())
            except Unavailable:
                log.warning("retired keys wait for the database")
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    async def forget_retired(self, now: datetime) -> None:
        """Forget what has retired by `now`."""
        async with self._db.platform() as tx:
            await store.delete_retired(tx, now)
            await store.delete_revoked_secrets(tx, now - _REVOKED_SECRETS_KEPT)

    async def _tell(self, client_id: UUID) -> None:
        self._keyring.drop(client_id)
        await self._bus.tell(INVALIDATE, str(client_id))
