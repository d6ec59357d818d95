"""The rules of clients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.context import CallerContext, KeyKind
from chassis.database import Database, Tx
from chassis.errors import FieldError, UnprocessableRequest
from chassis.ids import new_id
from chassis.merge_patch import merge_patched
from chassis.models import field_error
from chassis.outbox import Outbox
from chassis.paging import Cursors
from contracts import events, relying_party
from contracts.clients import INVALIDATE, ClientNotFound, TokenMode
from contracts.relying_party import RelyingPartySettings
from services.orgs.api_keys import store as key_store
from services.orgs.api_keys.models import NewApiKey, draw_key
from services.orgs.apps.tenant import OidcSettings
from services.orgs.apps.uris import PublicUrls
from services.orgs.clients import store
from services.orgs.clients.checked_settings import check_is_ruled, check_oidc, check_settings
from services.orgs.clients.documents import MASK, Document, check_document, masked_for_audit, merge
from services.orgs.clients.models import DEFAULT_CELL, Client, ClientStatus
from services.orgs.clients.requests import CreateClientRequest, UpdateClientRequest
from services.orgs.clients.slugs import distinct, slug_from
from services.orgs.errors import AudienceTaken, SlugTaken, TokenModeDowngrade

_FIRST_KEY_NAME = "default"
_SLUG_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class CreatedClient:
    """A new client and its first two keys."""

    client: Client
    secret_key: NewApiKey
    publishable_key: NewApiKey


class ClientService:
    """Creates, changes, lists and finds clients. Whether the caller may is checked by the faces."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        cursors: Cursors,
        clock: Clock,
        *,
        default_token_mode: TokenMode,
        urls: PublicUrls,
    ) -> None:
        """Take the parts, the token mode of clients that choose none, and which URLs we may call."""
        self._urls = urls
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._cursors = cursors
        self._clock = clock
        self._default_token_mode = default_token_mode

    async def create(self, caller: CallerContext, wanted: CreateClientRequest) -> CreatedClient:
        """Create a client with one secret and one publishable key.

        Raises:
            SlugTaken: another client has the slug that was asked for; a derived one is made distinct.
            AudienceTaken: another client has a resource that one of both takes documents for.
            UnprocessableRequest: the settings mask a secret that is not stored.
        """
        now = self._clock.now()
        client = Client(
            id=new_id(),
            name=wanted.name,
            slug=wanted.slug or slug_from(wanted.name),
            status=ClientStatus.ACTIVE,
            token_mode=wanted.token_mode or self._default_token_mode,
            allowed_origins=tuple(wanted.allowed_origins),
            webhook_url=wanted.webhook_url,
            settings=self._merged({}, wanted.settings),
            cell=DEFAULT_CELL,
            created_at=now,
            updated_at=now,
        )
        secret = draw_key(client.id, KeyKind.SECRET, _FIRST_KEY_NAME, now)
        publishable = draw_key(client.id, KeyKind.PUBLISHABLE, _FIRST_KEY_NAME, now)
        async with self._db.platform() as tx:
            await _claim_audiences(tx, {}, client)
            client = await self._insert(tx, client, is_slug_chosen=wanted.slug is not None)
            created = events.ClientCreated(target_id=client.id, after=_for_audit(client))
            await self._outbox.emit(tx, created, caller, client_id=client.id)
            for key in (secret, publishable):
                await key_store.insert(tx, key)
                added = events.ApiKeyCreated(target_id=key.key.id, kind=key.key.kind, prefix=key.key.prefix)
                await self._outbox.emit(tx, added, caller, client_id=client.id)
        # Someone may have asked for it a moment ago and remember that there is none.
        await self._bus.tell(INVALIDATE, str(client.id))
        return CreatedClient(client, secret, publishable)

    async def allows_origin(self, origin: str) -> bool:
        """Return whether any active client lists an origin."""
        async with self._db.platform() as tx:
            return await store.allows_origin(tx, origin)

    async def get(self, client_id: UUID) -> Client:
        """Return a client.

        Raises:
            ClientNotFound: there is none.
        """
        async with self._db.platform() as tx:
            client = await store.find(tx, client_id)
        if client is None:
            raise ClientNotFound
        return client

    async def page(
        self,
        caller: CallerContext,
        *,
        search: str | None,
        status: ClientStatus | None,
        limit: int,
        cursor: str | None,
    ) -> tuple[list[Client], str | None]:
        """Return one page of the clients that an admin may see, the newest first, and the cursor of the next.

        Raises:
            InvalidCursor: the cursor is not one of this list with these filters.
        """
        scope = f"clients|{status or ''}|{search or ''}"
        before = UUID(str(self._cursors.read(cursor, scope)[0])) if cursor else None
        async with self._db.platform() as tx:
            found = await store.page(
                tx, within=caller.client_scope, search=search, status=status, before=before, limit=limit + 1
            )
        shown = found[:limit]
        more = len(found) > limit
        return shown, self._cursors.make([str(shown[-1].id)], scope) if more else None

    async def update(self, caller: CallerContext, client_id: UUID, changes: UpdateClientRequest) -> Client:
        """Change a client and tell everyone who remembers it; changes that change nothing leave no event.

        Raises:
            ClientNotFound: there is none.
            TokenModeDowngrade: back to a shared secret, without saying so.
            AudienceTaken: another client has a new resource that one of both takes documents for.
            UnprocessableRequest: the merged settings are too large, or mask a secret that is not stored.
        """
        async with self._db.platform() as tx:
            before = await store.lock(tx, client_id)
            if before is None:
                raise ClientNotFound
            after = self._changed(before, changes)
            if after == before:
                return before
            after = await self._store_change(tx, caller, before, after)
        await self._bus.tell_all(INVALIDATE, str(client_id))
        return after

    async def put_setting(
        self,
        caller: CallerContext,
        client_id: UUID,
        name: str,
        value: object,
        *,
        merges: bool,
    ) -> Client:
        """Replace one setting, or merge into it by RFC 7396, and tell everyone.

        Raises:
            ClientNotFound: there is none.
            UnprocessableRequest: the setting is not one that others may put, or the value breaks its rules.
        """
        check_is_ruled(name)
        async with self._db.platform() as tx:
            before = await store.lock(tx, client_id)
            if before is None:
                raise ClientNotFound
            put = merge_patched(before.settings.get(name), value) if merges else value
            after = replace(before, settings=self._merged(before.settings, _bounded({name: put})))
            if after == before:
                return before
            after = await self._store_change(tx, caller, before, after)
        await self._bus.tell_all(INVALIDATE, str(client_id))
        return after

    async def _store_change(self, tx: Tx, caller: CallerContext, before: Client, after: Client) -> Client:
        after = replace(after, updated_at=self._clock.now())
        await _claim_audiences(tx, before.settings, after)
        await store.update(tx, after)
        shown_before, shown_after = _difference(before, after)
        event = events.ClientUpdated(target_id=after.id, before=shown_before, after=shown_after)
        await self._outbox.emit(tx, event, caller, client_id=after.id)
        return after

    async def _insert(self, tx: Tx, client: Client, *, is_slug_chosen: bool) -> Client:
        wanted = client.slug
        for _ in range(_SLUG_ATTEMPTS):
            if await store.insert(tx, client):
                return client
            if is_slug_chosen:
                break
            client = replace(client, slug=distinct(wanted))
        raise SlugTaken

    def _changed(self, client: Client, changes: UpdateClientRequest) -> Client:
        """Apply the members that were sent, and only those."""
        sent = changes.model_fields_set
        token_mode = changes.token_mode if "token_mode" in sent else client.token_mode
        if _is_downgrade(client.token_mode, token_mode) and not changes.allow_token_mode_downgrade:
            raise TokenModeDowngrade
        return replace(
            client,
            name=changes.name if "name" in sent else client.name,
            allowed_origins=tuple(changes.allowed_origins)
            if "allowed_origins" in sent
            else client.allowed_origins,
            webhook_url=changes.webhook_url if "webhook_url" in sent else client.webhook_url,
            settings=self._merged(client.settings, changes.settings)
            if "settings" in sent
            else client.settings,
            status=changes.status if "status" in sent else client.status,
            token_mode=token_mode,
        )

    def _merged(self, stored: Document, changes: Document) -> Document:
        check_settings(changes)
        try:
            merged = merge(stored, changes)
        except PydanticCustomError as error:
            fault = FieldError(field="settings", code=error.type, detail=error.message())
            raise UnprocessableRequest(errors=(fault,)) from None
        if any(name.startswith(relying_party.PREFIX) for name in changes):
            _check_relying_party(merged)
        check_oidc(merged, changes, self._urls)
        return merged


async def _claim_audiences(tx: Tx, before: Document, after: Client) -> None:
    """Refuse resources by which two clients would be found; what was stored before is not judged again."""
    old, new = OidcSettings.of(before), OidcSettings.of(after.settings)
    takes_documents = new.client_id_metadata_documents
    begins = takes_documents and not old.client_id_metadata_documents
    added = [one for one in new.audiences if begins or one not in old.audiences]
    if added and await store.is_audience_taken(tx, after.id, added, takes_documents=takes_documents):
        raise AudienceTaken


def _is_downgrade(present: TokenMode, wanted: TokenMode) -> bool:
    return wanted is TokenMode.HS256 and present is not TokenMode.HS256


def _check_relying_party(settings: Document) -> None:
    """Refuse passkey settings that no ceremony could succeed with."""
    try:
        RelyingPartySettings.of(settings)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        faults = tuple(field_error(fault, ("settings", *fault["loc"])) for fault in found)
        raise UnprocessableRequest(errors=faults) from None


def _bounded(changes: dict[str, Any]) -> dict[str, Any]:
    """Check a document as the routes check theirs."""
    try:
        return check_document(changes)
    except PydanticCustomError as error:
        fault = FieldError(field="settings", code=error.type, detail=error.message())
        raise UnprocessableRequest(errors=(fault,)) from None


def _for_audit(client: Client) -> dict[str, Any]:
    url = urlsplit(client.webhook_url) if client.webhook_url else None
    return {
        "name": client.name,
        "slug": client.slug,
        "status": client.status,
        "token_mode": client.token_mode,
        "allowed_origins": list(client.allowed_origins),
        # The path of a webhook is often all that protects it.
        "webhook_url": f"{url.scheme}://{url.netloc}/{MASK}" if url else None,
        "settings": masked_for_audit(client.settings),
    }


def _difference(before: Client, after: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both states of what changed, masked; a changed secret appears masked on both sides."""
    names = [name for name in _for_audit(before) if getattr(before, name) != getattr(after, name)]
    shown = []
    for client, other in ((before, after), (after, before)):
        members = {name: _for_audit(client)[name] for name in names}
        if "settings" in members:
            members["settings"] = {
                name: value
                for name, value in members["settings"].items()
                if client.settings[name] != other.settings.get(name)
            }
        shown.append(members)
    return shown[0], shown[1]
