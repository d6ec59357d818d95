"""The rules of service accounts and their secrets. Whether the caller may is checked by the faces."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import FieldError, UnprocessableRequest
from chassis.ids import new_id
from chassis.outbox import Outbox
from chassis.paging import Cursors
from contracts import events
from contracts.actions import Action
from contracts.clients import ClientDirectory
from contracts.step_up import StepUpGuard
from services.token.errors import (
    ServiceAccountKeyNotFound,
    ServiceAccountNotFound,
    TooManyServiceAccountKeys,
    TooManyServiceAccounts,
)
from services.token.revocations.service import Revocations
from services.token.service_accounts import store
from services.token.service_accounts.directory import INVALIDATE
from services.token.service_accounts.models import (
    KeyStatus,
    NewKey,
    ServiceAccount,
    ServiceAccountKey,
    ServiceAccountStatus,
    draw_key,
)

MAX_ACCOUNTS = 1000
MAX_LIVE_KEYS = 10
_FIRST_KEY_NAME = "default"
_GIVES_POWER = frozenset({"jwks_json", "scopes"})


@dataclass(frozen=True, slots=True)
class AccountFields:
    """What an admin writes about an account; `jwks_json` is checked by the routes."""

    name: str
    description: str
    scopes: tuple[str, ...]
    status: ServiceAccountStatus
    jwks_json: str | None


class ServiceAccountService:
    """Creates, changes and deletes service accounts, and their secrets.

    A disabled or deleted account's tokens, and those got with a revoked secret, are dead at the answer: the
    revocation is written in the same transaction and told to every process before it.
    """

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        clock: Clock,
        *,
        clients: ClientDirectory,
        cursors: Cursors,
        revocations: Revocations,
        guard: StepUpGuard,
    ) -> None:
        """Take the parts; `guard` asks admins for a fresh proof before secrets are given out."""
        self._guard = guard
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._clients = clients
        self._cursors = cursors
        self._revocations = revocations

    def now(self) -> datetime:
        """The time by which secrets are judged live or expired."""
        return self._clock.now()

    async def page(
        self, client_id: UUID, *, limit: int, cursor: str | None
    ) -> tuple[list[ServiceAccount], str | None]:
        """Return one page of a client's accounts, the newest first, and the cursor of the next.

        Raises:
            ClientNotFound: there is no such client.
            InvalidCursor: the cursor is not one of this list.
        """
        await self._clients.get(client_id)
        scope = f"service-accounts|{client_id}"
        before = UUID(str(self._cursors.read(cursor, scope)[0])) if cursor else None
        async with self._db.tenant(client_id) as tx:
            found = await store.page(tx, before=before, limit=limit + 1)
        shown = found[:limit]
        following = self._cursors.make([str(shown[-1].id)], scope) if len(found) > limit else None
        return shown, following

    async def get(self, client_id: UUID, account_id: UUID) -> ServiceAccount:
        """Return an account.

        Raises:
            ServiceAccountNotFound: the client has none with this id.
        """
        async with self._db.tenant(client_id) as tx:
            return _found(await store.find(tx, account_id))

    async def create(
        self,
        caller: CallerContext,
        client_id: UUID,
        fields: AccountFields,
        *,
        step_up_token: str | None = None,
    ) -> tuple[ServiceAccount, NewKey]:
        """Create an account with its first secret.

        Raises:
            ClientNotFound: there is no such client.
            TooManyServiceAccounts: it has `MAX_ACCOUNTS`.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        await self._clients.get(client_id)
        await self._check(caller, client_id, client_id, step_up_token)
        now = self._clock.now()
        account = ServiceAccount(
            id=new_id(),
            client_id=client_id,
            name=fields.name,
            description=fields.description,
            scopes=fields.scopes,
            status=fields.status,
            jwks_json=fields.jwks_json,
            created_at=now,
            updated_at=now,
        )
        new = draw_key(account, _FIRST_KEY_NAME, now)
        async with self._db.tenant(client_id) as tx:
            if await store.count(tx) >= MAX_ACCOUNTS:
                raise TooManyServiceAccounts
            await store.insert(tx, account)
            await store.insert_key(tx, new)
            created = events.ServiceAccountCreated(target_id=account.id, after=_shown(account))
            await self._outbox.emit(tx, created, caller, client_id=client_id)
        return account, new

    async def change(
        self,
        caller: CallerContext,
        client_id: UUID,
        account_id: UUID,
        changes: dict[str, Any],
        *,
        step_up_token: str | None = None,
    ) -> ServiceAccount:
        """Change the named members (checked values of `AccountFields`); disabled, its tokens are dead.

        Raises:
            ServiceAccountNotFound: the client has none with this id.
            StepUpRequired, ActionBlocked: new keys or scopes need a fresh proof, as another secret does.
        """
        if _GIVES_POWER & changes.keys():
            await self._check(caller, client_id, account_id, step_up_token)
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            before = _found(await store.find(tx, account_id, for_change=True))
            after = replace(before, **changes)
            if after == before:
                return before
            after = replace(after, updated_at=now)
            await store.update(tx, after)
            if before.is_active and not after.is_active:
                await self._revocations.machine(tx, client_id, str(account_id), now, for_good=False)
            updated = events.ServiceAccountUpdated(
                target_id=account_id, before=_shown(before), after=_shown(after)
            )
            await self._outbox.emit(tx, updated, caller, client_id=client_id)
        await self._announce(account_id)
        return after

    async def delete(self, caller: CallerContext, client_id: UUID, account_id: UUID) -> None:
        """Delete an account; its id never names another.

        Raises:
            ServiceAccountNotFound: the client has none with this id.
        """
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            if not await store.delete(tx, account_id, now):
                raise ServiceAccountNotFound
            await self._revocations.machine(tx, client_id, str(account_id), now, for_good=True)
            deleted = events.ServiceAccountDeleted(target_id=account_id)
            await self._outbox.emit(tx, deleted, caller, client_id=client_id)
        await self._announce(account_id)

    async def keys(self, client_id: UUID, account_id: UUID) -> list[ServiceAccountKey]:
        """Return an account's secrets, dead ones too, the newest first.

        Raises:
            ServiceAccountNotFound: the client has none with this id.
        """
        async with self._db.tenant(client_id) as tx:
            _found(await store.find(tx, account_id))
            return await store.keys(tx, account_id)

    async def add_key(
        self,
        caller: CallerContext,
        client_id: UUID,
        account_id: UUID,
        *,
        name: str,
        expires_at: datetime | None,
        step_up_token: str | None = None,
    ) -> NewKey:
        """Give an account another secret.

        Raises:
            ServiceAccountNotFound: the client has none with this id.
            TooManyServiceAccountKeys: it has `MAX_LIVE_KEYS` live ones.
            UnprocessableRequest: `expires_at` is not in the future.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            fault = FieldError(field="expires_at", code="not_in_future", detail="must be in the future")
            raise UnprocessableRequest(errors=(fault,))
        await self._check(caller, client_id, account_id, step_up_token)
        async with self._db.tenant(client_id) as tx:
            account = await self._account_with_room(tx, account_id, now)
            new = draw_key(account, name, now, expires_at)
            await store.insert_key(tx, new)
            created = events.ServiceAccountKeyCreated(
                target_id=account_id, key_id=str(new.key.id), prefix=new.key.prefix
            )
            await self._outbox.emit(tx, created, caller, client_id=client_id)
        await self._announce(account_id)
        return new

    async def rotate_key(
        self,
        caller: CallerContext,
        client_id: UUID,
        account_id: UUID,
        key_id: UUID,
        *,
        grace: timedelta,
        step_up_token: str | None = None,
    ) -> NewKey:
        """Replace a secret by a new one; the old one dies now, or ends after `grace`.

        Without a grace the tokens got with the old secret die with it; with one they live to their own end.

        Raises:
            ServiceAccountNotFound: the client has none with this id.
            ServiceAccountKeyNotFound: the account has no such live secret.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        await self._check(caller, client_id, account_id, step_up_token)
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            account = _found(await store.find(tx, account_id, for_change=True))
            old = await (
                store.retire_key(tx, account_id, key_id, now + grace)
                if grace
                else store.revoke_key(tx, account_id, key_id, now)
            )
            if old is None:
                raise ServiceAccountKeyNotFound
            if not grace:
                await self._revocations.sessions(tx, client_id, [key_id], now)
            new = draw_key(account, old.name, now)
            await store.insert_key(tx, new)
            rotated = events.ServiceAccountKeyRotated(
                target_id=account_id,
                key_id=str(key_id),
                new_key_id=str(new.key.id),
                prefix=new.key.prefix,
                grace_seconds=int(grace.total_seconds()),
            )
            await self._outbox.emit(tx, rotated, caller, client_id=client_id)
        await self._announce(account_id)
        return new

    async def _check(
        self, caller: CallerContext, client_id: UUID, resource: UUID, step_up_token: str | None
    ) -> None:
        action = Action.SERVICE_ACCOUNT_KEY_ROTATE
        await self._guard.check(caller, action, token=step_up_token, resource=resource, client_id=client_id)

    async def revoke_key(
        self, caller: CallerContext, client_id: UUID, account_id: UUID, key_id: UUID
    ) -> None:
        """Revoke a secret and the tokens that were got with it.

        Raises:
            ServiceAccountKeyNotFound: the client has no such account, or that no such live secret.
        """
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            if await store.revoke_key(tx, account_id, key_id, now) is None:
                raise ServiceAccountKeyNotFound
            # A token's `sid` is the secret it was got with.
            await self._revocations.sessions(tx, client_id, [key_id], now)
            revoked = events.ServiceAccountKeyRevoked(target_id=account_id, key_id=str(key_id))
            await self._outbox.emit(tx, revoked, caller, client_id=client_id)
        await self._announce(account_id)

    async def _account_with_room(self, tx: Tx, account_id: UUID, now: datetime) -> ServiceAccount:
        """Lock an account, so that keys are added one after the other, and count."""
        account = _found(await store.find(tx, account_id, for_change=True))
        live = [key for key in await store.keys(tx, account_id) if key.status(now) is KeyStatus.ACTIVE]
        if len(live) >= MAX_LIVE_KEYS:
            raise TooManyServiceAccountKeys
        return account

    async def _announce(self, account_id: UUID) -> None:
        await self._bus.tell_all(INVALIDATE, str(account_id))
        await self._revocations.announce()


def _found(account: ServiceAccount | None) -> ServiceAccount:
    if account is None:
        raise ServiceAccountNotFound
    return account


def _shown(account: ServiceAccount) -> dict[str, Any]:
    kids = [str(key.get("kid")) for key in json.loads(account.jwks_json)["keys"]] if account.jwks_json else []
    return {
        "name": account.name,
        "description": account.description,
        "scopes": list(account.scopes),
        "status": account.status,
        "jwks_kids": kids,
    }
