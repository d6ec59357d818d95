"""The rules of apps and their secrets. Whether the caller may is checked by the faces."""

from __future__ import annotations

import json
from dataclasses import replace
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
from contracts.apps import INVALIDATE
from contracts.clients import ClientNotFound
from contracts.step_up import StepUpGuard
from services.orgs.apps import store
from services.orgs.apps.models import (
    AppFields,
    AppStatus,
    NewSecret,
    SecretStatus,
    StoredApp,
    StoredSecret,
    draw_secret,
)
from services.orgs.apps.rules import check_fields
from services.orgs.apps.tenant import OidcSettings
from services.orgs.apps.uris import PublicUrls
from services.orgs.clients import store as client_store
from services.orgs.clients.models import Client
from services.orgs.errors import (
    AppNotFound,
    AppSecretNotFound,
    AppWithoutSecrets,
    TooManyApps,
    TooManyAppSecrets,
)

MAX_APPS = 1000
MAX_LIVE_SECRETS = 10
_FIRST_SECRET_NAME = "default"  # noqa: S105 - a name
_HARMLESS = frozenset({"name", "contacts", "software_id", "software_version"})
"""What a stolen session may change without harm to the app's users; `changes` of the rest needs a proof."""


class AppService:
    """Creates, changes and deletes apps and their secrets; every process knows before the answer."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        clock: Clock,
        *,
        cursors: Cursors,
        guard: StepUpGuard,
        urls: PublicUrls,
    ) -> None:
        """Take the parts; `guard` asks admins for a fresh proof before an app gets power over logins."""
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._cursors = cursors
        self._guard = guard
        self._urls = urls

    def now(self) -> datetime:
        """The time by which secrets are judged live or expired."""
        return self._clock.now()

    async def page(
        self, client_id: UUID, *, limit: int, cursor: str | None
    ) -> tuple[list[StoredApp], str | None]:
        """Return one page of a client's apps, the newest first, and the cursor of the next.

        Raises:
            ClientNotFound: there is no such client.
            InvalidCursor: the cursor is not one of this list.
        """
        scope = f"apps|{client_id}"
        before = UUID(str(self._cursors.read(cursor, scope)[0])) if cursor else None
        async with self._db.platform() as tx:
            if await client_store.find(tx, client_id) is None:
                raise ClientNotFound
            found = await store.page(tx, client_id, before=before, limit=limit + 1)
        shown = found[:limit]
        following = self._cursors.make([str(shown[-1].id)], scope) if len(found) > limit else None
        return shown, following

    async def get(self, client_id: UUID, app_id: UUID) -> StoredApp:
        """Return an app.

        Raises:
            AppNotFound: the client has none with this id.
        """
        async with self._db.platform() as tx:
            return _found(await store.find(tx, client_id, app_id))

    async def create(
        self, caller: CallerContext, client_id: UUID, fields: AppFields, *, step_up_token: str | None = None
    ) -> tuple[StoredApp, NewSecret | None]:
        """Create an app, with its first secret where it proves itself by one.

        Raises:
            ClientNotFound: there is no such client.
            TooManyApps: it has `MAX_APPS`.
            UnprocessableRequest: the app breaks a rule, or asks for more than the client's settings allow.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        async with self._db.platform() as tx:
            client = await client_store.find(tx, client_id)
        _check(fields, client, self._urls)
        await self._prove(caller, client_id, client_id, step_up_token)
        now = self._clock.now()
        app = new_app(client_id, fields, now, is_registered=False)
        secret = draw_secret(app, _FIRST_SECRET_NAME, now) if fields.auth_method.has_secret else None
        async with self._db.platform() as tx:
            # The client is locked, so that apps are counted and added one after the other.
            await client_store.lock(tx, client_id)
            if await store.count(tx, client_id, is_registered=False) >= MAX_APPS:
                raise TooManyApps
            await store.insert(tx, app)
            created = events.AppCreated(target_id=app.id, method="admin", after=shown_for_audit(app))
            await self._outbox.emit(tx, created, caller, client_id=client_id)
            if secret is not None:
                await self._insert_secret(tx, caller, secret)
        await self._bus.tell(INVALIDATE, str(app.id))
        return app, secret

    async def change(
        self,
        caller: CallerContext,
        client_id: UUID,
        app_id: UUID,
        changes: dict[str, Any],
        *,
        status: AppStatus | None = None,
        step_up_token: str | None = None,
    ) -> StoredApp:
        """Change members of an app; a change that changes nothing leaves no event.

        When it no longer proves itself by a secret, all it has are revoked, and none comes back.

        Raises:
            AppNotFound: the client has none with this id.
            UnprocessableRequest: the changed app breaks a rule.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        present = await self.get(client_id, app_id)
        if set(changes) - _HARMLESS or (status is AppStatus.ACTIVE and present.status is not status):
            await self._prove(caller, client_id, app_id, step_up_token)
        async with self._db.platform() as tx:
            client = await client_store.find(tx, client_id)
            before = _found(await store.find(tx, client_id, app_id, for_change=True))
            after = replace(before, fields=replace(before.fields, **changes), status=status or before.status)
            if after == before:
                return before
            _check(after.fields, client, self._urls)
            _refuse_trust_in_registered(after)
            after = replace(after, updated_at=self._clock.now())
            await store.update(tx, after)
            await drop_secrets(tx, self._outbox, caller, before, after)
            shown_before, shown_after = difference(before, after)
            updated = events.AppUpdated(target_id=app_id, before=shown_before, after=shown_after)
            await self._outbox.emit(tx, updated, caller, client_id=client_id)
        await self._bus.tell_all(INVALIDATE, str(app_id))
        return after

    async def delete(self, caller: CallerContext, client_id: UUID, app_id: UUID) -> None:
        """Delete an app; its id never names another.

        Raises:
            AppNotFound: the client has none with this id.
        """
        async with self._db.platform() as tx:
            if not await store.delete(tx, client_id, app_id, self._clock.now()):
                raise AppNotFound
            await self._outbox.emit(tx, events.AppDeleted(target_id=app_id), caller, client_id=client_id)
        await self._bus.tell_all(INVALIDATE, str(app_id))

    async def secrets(self, client_id: UUID, app_id: UUID) -> list[StoredSecret]:
        """Return an app's secrets, dead ones too, the newest first.

        Raises:
            AppNotFound: the client has none with this id.
        """
        async with self._db.platform() as tx:
            _found(await store.find(tx, client_id, app_id))
            return await store.secrets(tx, client_id, app_id)

    async def add_secret(
        self,
        caller: CallerContext,
        client_id: UUID,
        app_id: UUID,
        *,
        name: str,
        expires_at: datetime | None,
        step_up_token: str | None = None,
    ) -> NewSecret:
        """Give an app another secret.

        Raises:
            AppNotFound: the client has none with this id.
            AppWithoutSecrets: it proves itself otherwise.
            TooManyAppSecrets: it has `MAX_LIVE_SECRETS` live ones.
            UnprocessableRequest: `expires_at` is not in the future.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            fault = FieldError(field="expires_at", code="not_in_future", detail="must be in the future")
            raise UnprocessableRequest(errors=(fault,))
        await self._prove(caller, client_id, app_id, step_up_token)
        async with self._db.platform() as tx:
            app = _found(await store.find(tx, client_id, app_id, for_change=True))
            if not app.fields.auth_method.has_secret:
                raise AppWithoutSecrets
            known = await store.secrets(tx, client_id, app_id)
            if sum(secret.status(now) is SecretStatus.ACTIVE for secret in known) >= MAX_LIVE_SECRETS:
                raise TooManyAppSecrets
            new = draw_secret(app, name, now, expires_at)
            await self._insert_secret(tx, caller, new)
        await self._bus.tell_all(INVALIDATE, str(app_id))
        return new

    async def rotate_secret(
        self,
        caller: CallerContext,
        client_id: UUID,
        app_id: UUID,
        secret_id: UUID,
        *,
        grace: timedelta,
        step_up_token: str | None = None,
    ) -> NewSecret:
        """Replace a secret by a new one; the old one dies now, or ends after `grace`.

        Raises:
            AppNotFound: the client has none with this id.
            AppSecretNotFound: the app has no such live secret.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        await self._prove(caller, client_id, app_id, step_up_token)
        now = self._clock.now()
        async with self._db.platform() as tx:
            app = _found(await store.find(tx, client_id, app_id, for_change=True))
            old = await (
                store.retire_secret(tx, client_id, app_id, secret_id, now + grace, now)
                if grace
                else store.revoke_secret(tx, client_id, app_id, secret_id, now)
            )
            if old is None:
                raise AppSecretNotFound
            new = draw_secret(app, old.name, now)
            await store.insert_secret(tx, new)
            rotated = events.AppSecretRotated(
                target_id=app_id,
                secret_id=str(secret_id),
                new_secret_id=str(new.secret.id),
                prefix=new.secret.prefix,
                grace_seconds=int(grace.total_seconds()),
            )
            await self._outbox.emit(tx, rotated, caller, client_id=client_id)
        await self._bus.tell_all(INVALIDATE, str(app_id))
        return new

    async def revoke_secret(
        self, caller: CallerContext, client_id: UUID, app_id: UUID, secret_id: UUID
    ) -> None:
        """Revoke a secret.

        Raises:
            AppSecretNotFound: the client has no such app, or that no such live secret.
        """
        async with self._db.platform() as tx:
            if await store.revoke_secret(tx, client_id, app_id, secret_id, self._clock.now()) is None:
                raise AppSecretNotFound
            revoked = events.AppSecretRevoked(target_id=app_id, secret_id=str(secret_id))
            await self._outbox.emit(tx, revoked, caller, client_id=client_id)
        await self._bus.tell_all(INVALIDATE, str(app_id))

    async def _insert_secret(self, tx: Tx, caller: CallerContext, new: NewSecret) -> None:
        await store.insert_secret(tx, new)
        created = events.AppSecretCreated(
            target_id=new.secret.app_id, secret_id=str(new.secret.id), prefix=new.secret.prefix
        )
        await self._outbox.emit(tx, created, caller, client_id=new.secret.client_id)

    async def _prove(
        self, caller: CallerContext, client_id: UUID, resource: UUID, step_up_token: str | None
    ) -> None:
        await self._guard.check(
            caller, Action.APP_CHANGE, token=step_up_token, resource=resource, client_id=client_id
        )


def new_app(client_id: UUID, fields: AppFields, now: datetime, *, is_registered: bool) -> StoredApp:
    """Return a new app, to be stored."""
    return StoredApp(
        id=new_id(),
        client_id=client_id,
        status=AppStatus.ACTIVE,
        is_registered=is_registered,
        fields=fields,
        created_at=now,
        updated_at=now,
    )


async def drop_secrets(
    tx: Tx, outbox: Outbox, caller: CallerContext, before: StoredApp, after: StoredApp
) -> None:
    """Revoke all secrets of an app that stops proving itself by one, or begins to: it begins without any."""
    if before.fields.auth_method.has_secret is after.fields.auth_method.has_secret:
        return
    for secret_id in await store.revoke_secrets(tx, after.client_id, after.id, after.updated_at):
        revoked = events.AppSecretRevoked(target_id=after.id, secret_id=str(secret_id))
        await outbox.emit(tx, revoked, caller, client_id=after.client_id)


def shown_for_audit(app: StoredApp) -> dict[str, Any]:
    """Return an app as events carry it: keys by their ids alone."""
    shown = {
        name: getattr(app.fields, name) for name in AppFields.__dataclass_fields__ if name != "jwks_json"
    }
    keys = json.loads(app.fields.jwks_json)["keys"] if app.fields.jwks_json else []
    return {"status": str(app.status), **shown, "jwks_kids": [str(key.get("kid")) for key in keys]}


def difference(before: StoredApp, after: StoredApp) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both states of what changed, for the record."""
    old, new = shown_for_audit(before), shown_for_audit(after)
    names = [name for name in new if old[name] != new[name]]
    return {name: old[name] for name in names}, {name: new[name] for name in names}


def _check(fields: AppFields, client: Client | None, urls: PublicUrls) -> None:
    if client is None:
        raise ClientNotFound
    check_fields(fields, OidcSettings.of(client.settings), urls)


def _refuse_trust_in_registered(app: StoredApp) -> None:
    """Who registered itself may be anybody: its users are always asked, whatever an admin thinks."""
    if app.is_registered and app.fields.is_trusted:
        fault = FieldError(
            field="trusted", code="registered_app", detail="cannot be true, it registered itself"
        )
        raise UnprocessableRequest(errors=(fault,))


def _found(app: StoredApp | None) -> StoredApp:
    if app is None:
        raise AppNotFound
    return app
