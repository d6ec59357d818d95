"""Client id metadata documents: apps that describe themselves at the https URL that is their id.

draft-ietf-oauth-client-id-metadata-document. MCP clients come this way: no tenant has heard of them before. A
tenant lets them in by its setting `oidc_client_id_metadata_documents`, and is found by the resource that the
request asks for. Whoever they say they are, the one thing that is known of them is the host of the URL: they
are public, never trusted, and users are asked each time.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from prometheus_client import Counter
from pydantic import Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from chassis.clock import Clock
from chassis.database import Database
from chassis.models import RequestModel
from chassis.outbound import OutboundFailed
from chassis.outbox import Outbox
from chassis.public_http import AddressRefused, PublicAnswer, PublicClient
from contracts import events
from contracts.apps import AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN
from contracts.gen.internal.orgs.v1 import apps_pb2
from services.orgs.apps.directory import narrowed
from services.orgs.apps.models import AuthMethod, IdTokenAlgorithm
from services.orgs.apps.tenant import MAX_URIS, OidcSettings
from services.orgs.apps.uris import parse_document_url, parse_redirect_uri
from services.orgs.clients import store as client_store
from services.orgs.clients.models import Client
from services.orgs.clients.requests import Name
from services.orgs.clients.rpc import encode_client
from services.orgs.clients.urls import parse_public_url
from services.orgs.errors import AppNotFound

log = structlog.get_logger()

TIMEOUT_SECONDS: Final = 3.0
_WAIT_SECONDS: Final = 2.0
MAX_BYTES: Final = 16 * 1024
_MAX_KEPT: Final = 1000
_MAX_FETCHES: Final = 16
_MAX_WAITING: Final = 64
_MIN_FRESH: Final = timedelta(minutes=1)
_DEFAULT_FRESH: Final = timedelta(minutes=15)
_MAX_FRESH: Final = timedelta(days=1)
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=\"?([0-9]{1,9})\"?(?:$|[,\s])")
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.!#$&^_-]+\+)?json")
_GRANTS: Final = (AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE)
_SECRET_MEMBERS: Final = ("client_secret", "client_secret_expires_at")
_PRIVATE_KEY_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

FETCHES = Counter(
    "client_id_documents_total", "Client id metadata documents that were asked for.", ["result"]
)

_Texts = Annotated[list[Annotated[str, StringConstraints(max_length=2048)]], Field(max_length=MAX_URIS)]


class DocumentRefused(Exception):
    """There is no acceptable document; the text is a word for the log and the record."""


class DocumentNotReached(DocumentRefused):
    """Its server did not answer, or had a fault: one that was fetched before may still be good."""


class _Document(RequestModel):
    client_id: str
    client_name: Name | None = None
    redirect_uris: _Texts
    post_logout_redirect_uris: _Texts = Field(default=[])
    grant_types: _Texts = Field(default=[AUTHORIZATION_CODE])
    token_endpoint_auth_method: str = AuthMethod.NONE
    scope: Annotated[str, StringConstraints(max_length=4096)] | None = None
    logo_uri: str | None = None
    client_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None


@dataclass(frozen=True, slots=True)
class IdDocument:
    """What an app says of itself, as far as it may."""

    url: str
    name: str
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    scopes: tuple[str, ...] | None
    links: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    document: IdDocument
    fetched_at: datetime
    fresh_until: datetime


class IdDocuments:
    """Finds the tenant of a document and the document itself, which is kept as long as its server says.

    Kept at least a minute and at most a day, and never when it is refused. One whose server is away stays
    good for a day after it was fetched: a fault there must not log people out. Requests for one document
    share one fetch, and of all documents a few are fetched at the same time; the others wait two
    seconds at most, and together they are no more than `_MAX_WAITING`.
    """

    def __init__(self, db: Database, outbox: Outbox, clock: Clock, http: PublicClient) -> None:
        """Take where tenants are, and the guarded way to the Internet."""
        self._clock = clock
        self._db = db
        self._outbox = outbox
        self._http = http
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[IdDocument]] = {}
        self._turns = asyncio.Semaphore(_MAX_FETCHES)

    async def find(self, url: str, client_id: UUID | None, resources: Sequence[str]) -> apps_pb2.App:
        """Return the app at a URL, in the tenant that is named, or else in the one that has a resource.

        Raises:
            AppNotFound: no tenant, or more than one, is meant; it takes no documents; or there is no
                acceptable one. The tenant's record says why.
        """
        client = await self._client(client_id, resources)
        allowed = OidcSettings.of(client.settings) if client else None
        if client is None or allowed is None or not allowed.client_id_metadata_documents:
            raise AppNotFound
        try:
            document = await self._document(url)
        except DocumentRefused as error:
            FETCHES.labels("refused").inc()
            log.warning("client id document refused", reason=str(error), client_id=str(client.id))
            refused = events.ClientIdDocumentRefused(target_id=client.id, host=_host(url), reason=str(error))
            await self._outbox.append(refused, None, client_id=client.id)
            raise AppNotFound from None
        return _encode(document, client, allowed)

    async def _client(self, client_id: UUID | None, resources: Sequence[str]) -> Client | None:
        async with self._db.platform() as tx:
            if client_id is not None:
                return await client_store.find(tx, client_id)
            found = await client_store.of_audiences(tx, resources)
        return found[0] if len(found) == 1 else None

    async def _document(self, url: str) -> IdDocument:
        kept = self._kept.get(url)
        if kept is not None and self._clock.now() < kept.fresh_until:
            FETCHES.labels("kept").inc()
            return kept.document
        task = self._fetching.get(url)
        if task is None:
            if len(self._fetching) >= _MAX_WAITING:
                return self._stale(url, DocumentNotReached("too_many_fetches"))
            # Without the context of whoever asks first: its deadline is not the others'.
            task = asyncio.create_task(self._fetch(url), context=Context())
            self._fetching[url] = task
            task.add_done_callback(lambda _: self._fetching.pop(url, None))
        return await asyncio.shield(task)

    async def _fetch(self, url: str) -> IdDocument:
        now = self._clock.now()
        try:
            answer = await self._answer(url)
            document = read_document(url, answer)
        except DocumentNotReached as error:
            return self._stale(url, error)
        except DocumentRefused:
            self._kept.pop(url, None)
            raise
        FETCHES.labels("fetched").inc()
        fresh = fresh_for(answer.headers.get("cache-control", ""))
        self._kept[url] = _Kept(document, fetched_at=now, fresh_until=now + fresh)
        self._kept.move_to_end(url)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return document

    def _stale(self, url: str, error: DocumentNotReached) -> IdDocument:
        """Return what was fetched within a day, or raise why there is nothing newer."""
        now, kept = self._clock.now(), self._kept.get(url)
        if kept is None or now > kept.fetched_at + _MAX_FRESH:
            raise error
        FETCHES.labels("stale").inc()
        self._kept[url] = replace(kept, fresh_until=now + _MIN_FRESH)
        return kept.document

    async def _answer(self, url: str) -> PublicAnswer:
        try:
            parse_document_url(url)
        except PydanticCustomError:
            raise DocumentRefused("url_invalid") from None
        try:
            # Who waits too long for a turn has no time left for an answer; both together have the whole time.
            until = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
            async with asyncio.timeout(_WAIT_SECONDS) as limit, self._turns:
                limit.reschedule(until)
                answer = await self._http.exchange("GET", url, headers={"accept": "application/json"})
        except AddressRefused:
            raise DocumentRefused("address_refused") from None
        except (OutboundFailed, TimeoutError):
            raise DocumentNotReached("not_reached") from None
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise DocumentNotReached("status_not_200")
        return answer


def guarded_client(*, allow_private: bool, ca_file: str | None) -> PublicClient:
    """Return the way by which documents are fetched; `ca_file` is trusted instead of the system's CAs."""
    tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
    return PublicClient(timeout=TIMEOUT_SECONDS, max_answer=MAX_BYTES, allow_private=allow_private, tls=tls)


def fresh_for(cache_control: str) -> timedelta:
    """Return how long a document is kept, within our bounds (RFC 9111 §5.2.2)."""
    said = cache_control.lower()
    if "no-store" in said or "no-cache" in said:
        return _MIN_FRESH
    age = _MAX_AGE.search(said)
    wanted = timedelta(seconds=int(age[1])) if age else _DEFAULT_FRESH
    return min(max(wanted, _MIN_FRESH), _MAX_FRESH)


def read_document(url: str, answer: PublicAnswer) -> IdDocument:
    """Return what a server answered at a URL, when it is an acceptable document of that URL.

    Redirect URIs that break our rules are left out rather than refused: documents are written for many
    servers. Links that are not public https are left out, too.

    Raises:
        DocumentRefused: it is none.
    """
    if answer.status != 200:
        raise DocumentRefused("status_not_200")
    if not _JSON_TYPE.fullmatch(answer.headers.get("content-type", "").partition(";")[0].strip().lower()):
        raise DocumentRefused("not_json")
    try:
        members = json.loads(answer.body)
        found = _Document.model_validate(members)
    except ValidationError:
        raise DocumentRefused("metadata_invalid") from None
    except (ValueError, RecursionError):
        raise DocumentRefused("not_json") from None
    if found.client_id != url:
        raise DocumentRefused("client_id_differs")
    _refuse_secrets(members)
    uris = tuple(dict.fromkeys(uri for uri in found.redirect_uris if _is_acceptable(uri)))
    grants = tuple(grant for grant in _GRANTS if grant in found.grant_types)
    if not uris or not grants:
        raise DocumentRefused("redirect_uris_invalid" if not uris else "grant_types_invalid")
    return IdDocument(
        url=url,
        name=found.client_name or urlsplit(url).hostname or url,
        redirect_uris=uris,
        post_logout_redirect_uris=tuple(filter(_is_acceptable, found.post_logout_redirect_uris)),
        grant_types=grants,
        scopes=None if found.scope is None else tuple(dict.fromkeys(found.scope.split())),
        links={
            name: link
            for name in ("logo_uri", "client_uri", "policy_uri", "tos_uri")
            if (link := getattr(found, name)) and _is_public(link)
        },
    )


def _refuse_secrets(members: Mapping[str, Any]) -> None:
    """Draft §4.1: nothing in it may be a secret, and no method may need one."""
    if members.get("token_endpoint_auth_method", AuthMethod.NONE) != AuthMethod.NONE:
        raise DocumentRefused("auth_method_not_none")
    if any(name in members for name in _SECRET_MEMBERS):
        raise DocumentRefused("holds_a_secret")
    jwks = members.get("jwks")
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, dict) and _PRIVATE_KEY_MEMBERS & set(key):
            raise DocumentRefused("holds_a_secret")


def _host(url: str) -> str:
    """Return whose document it would be, as far as the URL is one."""
    try:
        return urlsplit(parse_document_url(url)).hostname or ""
    except PydanticCustomError:
        return ""


def _is_acceptable(uri: str) -> bool:
    try:
        return parse_redirect_uri(uri) == uri
    except PydanticCustomError:
        return False


def _is_public(link: str) -> bool:
    try:
        return parse_public_url(link) == link
    except PydanticCustomError:
        return False


def _encode(document: IdDocument, client: Client, allowed: OidcSettings) -> apps_pb2.App:
    return apps_pb2.App(
        id=document.url,
        client=encode_client(client),
        name=document.name,
        is_active=True,
        auth_method=AuthMethod.NONE,
        redirect_uris=document.redirect_uris,
        post_logout_redirect_uris=document.post_logout_redirect_uris,
        grant_types=document.grant_types,
        scopes=narrowed(document.scopes, allowed.allowed_scopes),
        audiences=allowed.audiences,
        is_trusted=False,
        requires_consent=True,
        requires_pkce=True,
        id_token_alg=IdTokenAlgorithm.RS256,
        logo_uri=document.links.get("logo_uri", ""),
        client_uri=document.links.get("client_uri", ""),
        policy_uri=document.links.get("policy_uri", ""),
        tos_uri=document.links.get("tos_uri", ""),
    )
