"""The rules of registration: who may register, what of it, and what an app may change about itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError, FieldError, UnprocessableRequest
from chassis.ids import hash_of, new_secret
from chassis.outbox import Outbox
from chassis.paging import Cursors
from contracts import events
from contracts.actions import Action
from contracts.apps import INVALIDATE
from contracts.clients import ClientNotFound
from contracts.step_up import StepUpGuard
from services.orgs.apps import store as app_store
from services.orgs.apps.directory import narrowed
from services.orgs.apps.models import StoredApp, draw_secret
from services.orgs.apps.rules import check_fields
from services.orgs.apps.service import difference, drop_secrets, new_app, shown_for_audit
from services.orgs.apps.tenant import OidcSettings
from services.orgs.apps.uris import PublicUrls
from services.orgs.clients import store as client_store
from services.orgs.clients.models import Client, ClientStatus
from services.orgs.errors import (
    InitialAccessTokenNotFound,
    InvalidClientMetadata,
    RegistrationTokenRefused,
    TooManyInitialAccessTokens,
    TooManyRegisteredApps,
)
from services.orgs.registrations import store
from services.orgs.registrations.metadata import (
    ClientMetadata,
    as_registration_error,
    parse_document,
    parse_metadata,
    replaced,
)
from services.orgs.registrations.models import (
    REGISTRATION_PREFIX,
    InitialAccessToken,
    NewInitialAccessToken,
    Registered,
    draw_initial_token,
)

MAX_REGISTERED_APPS = 1000
MAX_LIVE_TOKENS = 100
MAX_TTL = timedelta(days=365)
_SECRET_NAME = "registered"  # noqa: S105 - a name
_OF_THE_SERVER = (
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)

REGISTRATIONS = Counter("app_registrations_total", "Dynamic client registrations asked for.", ["result"])


class RegistrationService:
    """Gives out initial access tokens, and lets apps register and change themselves."""

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
        """Take the parts; `guard` asks admins for a fresh proof before apps may register."""
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._cursors = cursors
        self._guard = guard
        self._urls = urls

    def now(self) -> datetime:
        """The time by which tokens are judged live or expired."""
        return self._clock.now()

    async def tokens(
        self, client_id: UUID, *, limit: int, cursor: str | None
    ) -> tuple[list[InitialAccessToken], str | None]:
        """Return one page of a client's initial access tokens, dead ones too, and the cursor of the next.

        Raises:
            ClientNotFound: there is no such client.
            InvalidCursor: the cursor is not one of this list.
        """
        scope = f"initial-access-tokens|{client_id}"
        before = UUID(str(self._cursors.read(cursor, scope)[0])) if cursor else None
        async with self._db.platform() as tx:
            if await client_store.find(tx, client_id) is None:
                raise ClientNotFound
            found = await store.page(tx, client_id, before=before, limit=limit + 1)
        shown = found[:limit]
        following = self._cursors.make([str(shown[-1].id)], scope) if len(found) > limit else None
        return shown, following

    async def give_token(
        self,
        caller: CallerContext,
        client_id: UUID,
        *,
        name: str,
        max_uses: int,
        expires_at: datetime,
        step_up_token: str | None,
    ) -> NewInitialAccessToken:
        """Give out an initial access token of a client.

        Raises:
            ClientNotFound: there is no such client.
            TooManyInitialAccessTokens: it has `MAX_LIVE_TOKENS` live ones.
            UnprocessableRequest: `expires_at` is not in the coming year.
            StepUpRequired, ActionBlocked: see `StepUpGuard`.
        """
        now = self._clock.now()
        if not now < expires_at <= now + MAX_TTL:
            fault = FieldError(field="expires_at", code="out_of_range", detail="must be in the coming year")
            raise UnprocessableRequest(errors=(fault,))
        async with self._db.platform() as tx:
            if await client_store.find(tx, client_id) is None:
                raise ClientNotFound
        await self._guard.check(
            caller, Action.APP_CHANGE, token=step_up_token, resource=client_id, client_id=client_id
        )
        new = draw_initial_token(client_id, name, max_uses=max_uses, now=now, expires_at=expires_at)
        async with self._db.platform() as tx:
            await client_store.lock(tx, client_id)
            if await store.count_live(tx, client_id, now) >= MAX_LIVE_TOKENS:
                raise TooManyInitialAccessTokens
            await store.insert(tx, new)
            created = events.InitialAccessTokenCreated(
                target_id=new.token.id, prefix=new.token.prefix, max_uses=max_uses
            )
            await self._outbox.emit(tx, created, caller, client_id=client_id)
        return new

    async def revoke_token(self, caller: CallerContext, client_id: UUID, token_id: UUID) -> None:
        """Revoke an initial access token; the apps that registered with it stay.

        Raises:
            InitialAccessTokenNotFound: the client has no such one, or it is revoked already.
        """
        async with self._db.platform() as tx:
            if not await store.revoke(tx, client_id, token_id, self._clock.now()):
                raise InitialAccessTokenNotFound
            revoked = events.InitialAccessTokenRevoked(target_id=token_id)
            await self._outbox.emit(tx, revoked, caller, client_id=client_id)

    async def register(self, caller: CallerContext, token_sha256: bytes, text: str) -> Registered:
        """Register an app by an initial access token, which loses one use when that succeeds.

        Raises:
            RegistrationTokenRefused: the token opens nothing (any more).
            InvalidClientMetadata, InvalidRedirectUri, UnapprovedSoftwareStatement: see RFC 7591 §3.2.2.
            TooManyRegisteredApps: the client has as many as it may.
        """
        async with self._db.platform() as tx:
            token = await store.find_live(tx, token_sha256, self._clock.now())
        if token is None:
            REGISTRATIONS.labels("refused").inc()
            raise RegistrationTokenRefused
        try:
            registered = await self._register(caller, token, parse_metadata(parse_document(text)))
        except AppError as error:
            REGISTRATIONS.labels("refused").inc()
            refused = events.AppRegistrationRefused(target_id=token.id, reason=error.code)
            await self._outbox.append(refused, caller, client_id=token.client_id)
            raise
        REGISTRATIONS.labels("registered").inc()
        await self._bus.tell(INVALIDATE, str(registered.app.id))
        return registered

    async def _register(
        self, caller: CallerContext, token: InitialAccessToken, metadata: ClientMetadata
    ) -> Registered:
        now, client_id = self._clock.now(), token.client_id
        app = new_app(client_id, metadata.fields_of_app(), now, is_registered=True)
        secret = draw_secret(app, _SECRET_NAME, now) if app.fields.auth_method.has_secret else None
        own_token = new_secret(REGISTRATION_PREFIX)
        async with self._db.platform() as tx:
            # The token before the client: of twenty with one use nineteen wait here, and find it used.
            if not await store.use(tx, token.id, now):
                raise RegistrationTokenRefused
            settings = self._check(app, await client_store.lock(tx, client_id))
            if await app_store.count(tx, client_id, is_registered=True) >= MAX_REGISTERED_APPS:
                raise TooManyRegisteredApps
            await app_store.insert(tx, app, registration_sha256=hash_of(own_token))
            if secret is not None:
                await app_store.insert_secret(tx, secret)
            created = events.AppCreated(target_id=app.id, method="registration", after=shown_for_audit(app))
            await self._outbox.emit(tx, created, caller, client_id=client_id)
        return Registered(app, _scopes(app, settings), secret.raw if secret else None, own_token)

    async def get(self, app_id: UUID, token_sha256: bytes) -> Registered:
        """Return an app to itself.

        Raises:
            RegistrationTokenRefused: the token is not the app's, or there is no such active app.
        """
        async with self._db.platform() as tx:
            app, client = await _own(tx, app_id, token_sha256)
        return Registered(app, _scopes(app, OidcSettings.of(client.settings)))

    async def replace(
        self, caller: CallerContext, app_id: UUID, token_sha256: bytes, text: str
    ) -> Registered:
        """Replace an app's metadata by what it sends, and its registration access token by a new one.

        An app that begins to prove itself by a secret gets one, its only one; one that stops loses all.
        Nothing changes when anything is refused.

        Raises:
            RegistrationTokenRefused: the token is not the app's, or there is no such active app.
            InvalidClientMetadata, InvalidRedirectUri, UnapprovedSoftwareStatement: see RFC 7591 §3.2.2.
        """
        async with self._db.platform() as tx:
            await _own(tx, app_id, token_sha256)
        document = parse_document(text)
        _check_own_members(document, app_id)
        metadata = parse_metadata(document)
        now, own_token, secret = self._clock.now(), new_secret(REGISTRATION_PREFIX), None
        async with self._db.platform() as tx:
            if not await store.replace_token(tx, app_id, token_sha256, hash_of(own_token)):
                raise RegistrationTokenRefused
            before, client = await _own(tx, app_id, hash_of(own_token))
            allowed = OidcSettings.of(client.settings).allowed_scopes
            after = replace(before, fields=replaced(before, metadata, allowed), updated_at=now)
            settings = self._check(after, client)
            await app_store.update(tx, after)
            await drop_secrets(tx, self._outbox, caller, before, after)
            if after.fields.auth_method.has_secret and not before.fields.auth_method.has_secret:
                secret = draw_secret(after, _SECRET_NAME, now)
                await app_store.insert_secret(tx, secret)
            old, new = difference(before, after)
            updated = events.AppUpdated(target_id=app_id, before=old, after=new)
            await self._outbox.emit(tx, updated, caller, client_id=after.client_id)
        await self._bus.tell_all(INVALIDATE, str(app_id))
        return Registered(after, _scopes(after, settings), secret.raw if secret else None, own_token)

    async def delete(self, caller: CallerContext, app_id: UUID, token_sha256: bytes) -> None:
        """Delete an app on its own wish.

        Raises:
            RegistrationTokenRefused: the token is not the app's, or there is no such active app.
        """
        async with self._db.platform() as tx:
            app, _ = await _own(tx, app_id, token_sha256)
            if not await app_store.delete(tx, app.client_id, app_id, self._clock.now()):
                raise RegistrationTokenRefused
            await self._outbox.emit(tx, events.AppDeleted(target_id=app_id), caller, client_id=app.client_id)
        await self._bus.tell_all(INVALIDATE, str(app_id))

    def _check(self, app: StoredApp, client: Client | None) -> OidcSettings:
        if client is None or client.status is not ClientStatus.ACTIVE:
            raise RegistrationTokenRefused
        settings = OidcSettings.of(client.settings)
        try:
            check_fields(app.fields, settings, self._urls)
        except UnprocessableRequest as error:
            raise as_registration_error(error) from None
        return settings


async def _own(tx: Tx, app_id: UUID, token_sha256: bytes) -> tuple[StoredApp, Client]:
    """Return the app that a registration access token is of, and its active client."""
    client_id = await store.client_of_registered(tx, app_id, token_sha256)
    app = await app_store.find(tx, client_id, app_id) if client_id else None
    client = await client_store.find(tx, client_id) if client_id else None
    if app is None or client is None or client.status is not ClientStatus.ACTIVE:
        raise RegistrationTokenRefused
    return app, client


def _check_own_members(document: dict[str, Any], app_id: UUID) -> None:
    """RFC 7592 §2.2: the app names itself, and sends nothing that the server decides."""
    if document.get("client_id") != str(app_id):
        raise InvalidClientMetadata("client_id: must be the app's own.")
    for name in _OF_THE_SERVER:
        if name in document:
            raise InvalidClientMetadata(f"{name}: must not be sent.")


def _scopes(app: StoredApp, settings: OidcSettings) -> tuple[str, ...]:
    return tuple(narrowed(app.fields.scopes, settings.allowed_scopes))
