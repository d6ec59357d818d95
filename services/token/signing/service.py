"""Rotation of what signs a client's tokens. Knows no HTTP and no SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.clock import MAX_CLOCK_DIFFERENCE, Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.events import Event
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from contracts import events
from contracts.actions import Action
from contracts.clients import Client, ClientDirectory, ClientNotFound
from contracts.step_up import StepUpGuard
from services.token.errors import NoSigningKeys, RotationTooSoon
from services.token.revocations.service import Revocations
from services.token.signing import store
from services.token.signing.algorithms import Algorithm, KeyPair, algorithm_of, generate
from services.token.signing.jwks import MAX_AGE
from services.token.signing.keyring import FRESH_SECONDS, INVALIDATE, Keyring, row_of
from services.token.signing.models import KeyStatus, Rotation

log = structlog.get_logger()

# Beside a token's life: a process that heard of the rotation late and whose clock is early, and a validator
# whose clock is late.
_LATE = timedelta(seconds=FRESH_SECONDS + 60) + MAX_CLOCK_DIFFERENCE
_HOUSEKEEPING_SECONDS = 60.0
_REVOKED_SECRETS_KEPT = timedelta(days=1)


class SigningService:
    """Rotates secrets and signing keys, and makes the keys of new clients."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        clock: Clock,
        sealer: Sealer,
        clients: ClientDirectory,
        keyring: Keyring,
        revocations: Revocations,
        access_ttl: timedelta,
        guard: StepUpGuard,
    ) -> None:
        """Take where keys are stored, what seals them, and how long a token lives at most."""
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._sealer = sealer
        self._clients = clients
        self._keyring = keyring
        self._revocations = revocations
        self._access_ttl = access_ttl
        self._guard = guard

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
            RotationTooSoon: the next key has been published for less than the JWKS may be cached; `force`
            skips this. StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        client = await self._clients.get(client_id)
        algorithm = algorithm_of(client.token_mode)
        if algorithm is Algorithm.HS256:
            raise NoSigningKeys
        await self._check(caller, client_id, step_up_token)
        await self._keyring.ensure(client)
        pair = await asyncio.to_thread(generate, algorithm)
        rotation = await self._rotate(caller, client, algorithm, pair, force=force)
        await self._tell(client.id)
        return rotation

    async def _check(self, caller: CallerContext, client_id: UUID, step_up_token: str | None) -> None:
        await self._guard.check(
            caller, Action.CLIENT_KEY_ROTATE, token=step_up_token, resource=client_id, client_id=client_id
        )

    async def _rotate(
        self,
        caller: CallerContext | None,
        client: Client,
        algorithm: Algorithm,
        pair: KeyPair,
        *,
        force: bool,
    ) -> Rotation:
        now = self._clock.now()
        sealed = self._sealer.seal(pair.private, row_of(algorithm, pair.kid))
        async with self._db.tenant(client.id) as tx:
            await store.lock_client(tx)
            promoted = await store.next_key(tx, algorithm)
            if promoted is None:
                raise LookupError("a client with an active key has no next one")
            wait = promoted.created_at + MAX_AGE - now
            if wait > timedelta(0) and not force:
                raise RotationTooSoon(retry_after=int(wait.total_seconds()) + 1)
            retiring = await store.retire_active(tx, algorithm, now + self._access_ttl + _LATE)
            await store.activate(tx, promoted.kid, now)
            await store.insert_key(tx, algorithm, KeyStatus.NEXT, pair, sealed, now)
            rotation = Rotation(promoted.kid, pair.kid, retiring)
            event = events.SigningKeyRotated(
                target_id=client.id,
                active_kid=rotation.active_kid,
                next_kid=rotation.next_kid,
                retiring_kid=rotation.retiring_kid,
            )
            await self._outbox.emit(tx, event, caller, client_id=client.id)
        return rotation

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
