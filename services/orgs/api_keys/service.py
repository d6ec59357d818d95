"""The rules of API keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.context import CallerContext, KeyKind
from chassis.database import Database
from chassis.errors import FieldError, UnprocessableRequest
from chassis.last_used import LastUsed
from chassis.outbox import Outbox
from chassis.paging import Cursors
from contracts import events
from contracts.actions import Action
from contracts.clients import INVALIDATE, ClientNotFound
from contracts.step_up import StepUpGuard
from services.orgs.api_keys import store
from services.orgs.api_keys.models import ApiKey, NewApiKey, ResolvedKey, draw_key
from services.orgs.clients import store as client_store
from services.orgs.errors import ApiKeyNotFound, TooManyApiKeys

MAX_LIVE_KEYS = 50
_ROTATED_KEY_NAME = "rotated"


class ApiKeyService:
    """Adds, lists, rotates, revokes and resolves keys. Whether the caller may is checked by the faces.

    Every change locks the client's row first, so changes of one client's keys happen one after the other.
    """

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        cursors: Cursors,
        usage: LastUsed,
        clock: Clock,
        guard: StepUpGuard,
    ) -> None:
        """Take the parts; `guard` asks admins for a fresh proof before keys change."""
        self._guard = guard
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._cursors = cursors
        self._usage = usage
        self._clock = clock

    def now(self) -> datetime:
        """The time by which keys are judged live or expired."""
        return self._clock.now()

    async def resolve(self, key_sha256: bytes) -> ResolvedKey:
        """Return what a live key stands for, by its SHA-256; its client may be suspended.

        The use is remembered and written later, see `LastUsed`.

        Raises:
            ApiKeyNotFound: no key has this hash, or it is revoked or expired.
        """
        async with self._db.platform() as tx:
            found = await store.resolve(tx, key_sha256, self._clock.now())
        if found is None:
            raise ApiKeyNotFound
        self._usage.note(found.id)
        return found

    async def page(
        self, client_id: UUID, *, limit: int, cursor: str | None
    ) -> tuple[list[ApiKey], str | None]:
        """Return one page of a client's keys, dead ones too, the newest first, and the cursor of the next.

        Raises:
            ClientNotFound: there is no such client.
            InvalidCursor: the cursor is not one of this client's list.
        """
        scope = f"api-keys|{client_id}"
        before = UUID(str(self._cursors.read(cursor, scope)[0])) if cursor else None
        async with self._db.platform() as tx:
            if await client_store.find(tx, client_id) is None:
                raise ClientNotFound
            found = await store.page(tx, client_id, before=before, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return shown, self._cursors.make([str(shown[-1].id)], scope) if more else None

    async def create(
        self,
        caller: CallerContext,
        client_id: UUID,
        *,
        name: str,
        kind: KeyKind,
        expires_at: datetime | None,
        step_up_token: str | None = None,
    ) -> NewApiKey:
        """Add a key to a client.

        Raises:
            ClientNotFound: there is no such client.
            TooManyApiKeys: it has `MAX_LIVE_KEYS` live ones.
            UnprocessableRequest: `expires_at` is not in the future.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            fault = FieldError(field="expires_at", code="not_in_future", detail="must be in the future")
            raise UnprocessableRequest(errors=(fault,))
        await self._check(caller, client_id, step_up_token)
        new = draw_key(client_id, kind, name, now, expires_at)
        async with self._db.platform() as tx:
            if await client_store.lock(tx, client_id) is None:
                raise ClientNotFound
            if await store.count_live(tx, client_id, now) >= MAX_LIVE_KEYS:
                raise TooManyApiKeys
            await store.insert(tx, new)
            event = events.ApiKeyCreated(target_id=new.key.id, kind=kind, prefix=new.key.prefix)
            await self._outbox.emit(tx, event, caller, client_id=client_id)
        await self._bus.tell_all(INVALIDATE, str(client_id))
        return new

    async def rotate(
        self,
        caller: CallerContext,
        client_id: UUID,
        *,
        grace: timedelta,
        step_up_token: str | None = None,
    ) -> NewApiKey:
        """Replace all secret keys of a client by a new one; the old ones die now, or after `grace`.

        Raises:
            ClientNotFound: there is no such client.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        await self._check(caller, client_id, step_up_token)
        now = self._clock.now()
        new = draw_key(client_id, KeyKind.SECRET, _ROTATED_KEY_NAME, now)
        async with self._db.platform() as tx:
            # Of twenty rotations at once each kills the key of the one before it: the last one's is left.
            if await client_store.lock(tx, client_id) is None:
                raise ClientNotFound
            if grace:
                await store.retire_secrets(tx, client_id, now + grace)
            else:
                await store.revoke_secrets(tx, client_id, now)
            await store.insert(tx, new)
            event = events.ApiKeyRotated(
                target_id=client_id, prefix=new.key.prefix, grace_seconds=int(grace.total_seconds())
            )
            await self._outbox.emit(tx, event, caller, client_id=client_id)
        await self._bus.tell_all(INVALIDATE, str(client_id))
        return new

    async def revoke(
        self, caller: CallerContext, client_id: UUID, key_id: UUID, *, step_up_token: str | None = None
    ) -> None:
        """Revoke one key of a client, now.

        Raises:
            ApiKeyNotFound: the client has no such key, or it is revoked already.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        await self._check(caller, client_id, step_up_token)
        async with self._db.platform() as tx:
            revoked = await store.revoke(tx, client_id, key_id, self._clock.now())
            if revoked is None:
                raise ApiKeyNotFound
            event = events.ApiKeyRevoked(target_id=key_id, kind=revoked.kind, grace_seconds=0)
            await self._outbox.emit(tx, event, caller, client_id=client_id)
        await self._bus.tell_all(INVALIDATE, str(client_id))

    async def _check(self, caller: CallerContext, client_id: UUID, step_up_token: str | None) -> None:
        await self._guard.check(
            caller, Action.CLIENT_KEY_ROTATE, token=step_up_token, resource=client_id, client_id=client_id
        )
