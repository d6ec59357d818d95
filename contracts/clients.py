"""Clients (tenants) as every process but `orgs` knows them: asked once, cached, dropped on change."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.bus import Bus
from chassis.context import KeyKind
from chassis.errors import AppError, DeadlineExceeded, Kind, NotFound, Unauthenticated, Unavailable
from chassis.rpc import Channel
from contracts.gen.internal.orgs.v1 import clients_pb2
from contracts.gen.internal.orgs.v1.clients_pb2_grpc import ClientServiceStub

log = structlog.get_logger()

INVALIDATE = "invalidate.client"
"""Plain subject; the text is the id of the client that changed."""

_FRESH_SECONDS = 30.0
_STALE_SECONDS = 600.0
_UNKNOWN_SECONDS = 5.0
_MAX_ENTRIES = 20_000
_KEY_PREFIXES = ("ask_", "apk_")
_MAX_KEY_LENGTH = 128

LOOKUPS = Counter("client_cache_lookups_total", "Look-ups of clients and keys.", ["result"])
_HITS = LOOKUPS.labels("hit")


class TokenMode(StrEnum):
    """How a client's access tokens are signed."""

    HS256 = "v1_hs256"
    RS256 = "v2_jwks"
    ES256 = "v3_es256"
    EDDSA = "v3_eddsa"


class InvalidApiKey(Unauthenticated):
    """The API key is missing, unknown, revoked or expired, or its client is suspended."""

    code = "invalid_api_key"
    detail = "The API key is missing or not valid."


class ClientNotFound(NotFound):
    """There is no such client."""

    code = "client_not_found"
    detail = "There is no such client."


@dataclass(frozen=True, slots=True)
class Client:
    """A tenant and how it is set up."""

    id: UUID
    name: str
    slug: str
    status: str
    token_mode: TokenMode
    allowed_origins: tuple[str, ...]
    settings: Mapping[str, Any]
    cell: str

    @property
    def is_active(self) -> bool:
        """False for a suspended client, whose keys and tokens open nothing."""
        return self.status == "active"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A resolved API key; `expires_at` is in Unix seconds, 0 without an end."""

    id: str
    kind: KeyKind
    client: Client
    expires_at: int


_Ask = Callable[[bool], Awaitable[ApiKey | Client | None]]
"""Asks `orgs`, waiting for a connection or not."""


@dataclass(slots=True)
class _Entry:
    value: ApiKey | Client
    stored_at: float


class ClientDirectory:
    """Looks clients up by key or id.

    An answer is fresh for 30 s and dropped at once when the client changes. While `orgs` is away a stale one
    is served for up to ten minutes, logged and without delay. Unknown keys are remembered for seconds, so
    that guessing does not reach `orgs`.
    """

    def __init__(self, channel: Channel, bus: Bus) -> None:
        """Take the way to `orgs`, and the bus that tells of changes."""
        self._stub = ClientServiceStub(channel.for_stubs)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        # Apart, so that no number of invented keys pushes out what is known.
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[ApiKey | Client | None]] = {}
        self._generation = 0
        bus.on(INVALIDATE, self._drop)

    async def resolve_key(self, raw: str) -> ApiKey:
        """Return what an API key stands for.

        Raises:
            InvalidApiKey: it stands for nothing.
            Unavailable: `orgs` is away and the key is not remembered.
        """
        if not raw.startswith(_KEY_PREFIXES) or len(raw) > _MAX_KEY_LENGTH:
            raise InvalidApiKey
        digest = hashlib.sha256(raw.encode()).digest()
        found = await self._look_up(_name_of(digest), lambda waits: self._ask_for_key(digest, waits))
        expired = isinstance(found, ApiKey) and 0 < found.expires_at <= time.time()
        if not isinstance(found, ApiKey) or expired or not found.client.is_active:
            raise InvalidApiKey
        return found

    def knows_key(self, raw: str) -> bool:
        """Whether a key was good when it was last looked up; asks nobody."""
        if len(raw) > _MAX_KEY_LENGTH:
            return False
        return _name_of(hashlib.sha256(raw.encode()).digest()) in self._entries

    async def get(self, client_id: UUID) -> Client:
        """Return a client, active or not.

        Raises:
            ClientNotFound: there is none.
            Unavailable: `orgs` is away and the client is not remembered.
        """
        found = await self._look_up(f"id:{client_id}", lambda waits: self._ask_for_client(client_id, waits))
        if not isinstance(found, Client):
            raise ClientNotFound
        return found

    def drop(self, client_id: UUID) -> None:
        """Forget a client and its keys now."""
        self._generation += 1
        self._unknown.clear()
        for name in [name for name, entry in self._entries.items() if _client_id(entry.value) == client_id]:
            del self._entries[name]

    async def _drop(self, text: str) -> None:
        if text:
            self.drop(UUID(text))
        else:
            self._generation += 1
            self._unknown.clear()
            self._entries.clear()

    async def _look_up(self, name: str, ask: _Ask) -> ApiKey | Client | None:
        entry = self._entries.get(name)
        now = time.monotonic()
        if entry is not None and now - entry.stored_at < _FRESH_SECONDS:
            _HITS.inc()
            return entry.value
        if now < self._unknown.get(name, 0.0):
            _HITS.inc()
            return None
        LOOKUPS.labels("miss").inc()
        is_usable = entry is not None and now - entry.stored_at <= _STALE_SECONDS
        try:
            return await self._ask_once(name, ask, waits=not is_usable)
        except (Unavailable, DeadlineExceeded):
            if entry is None or not is_usable:
                raise
            LOOKUPS.labels("stale").inc()
            log.warning("client served stale", age_seconds=int(now - entry.stored_at))
            return entry.value

    async def _ask_once(self, name: str, ask: _Ask, *, waits: bool) -> ApiKey | Client | None:
        """Ask `orgs`; requests for the same thing share one question."""
        task = self._asking.get(name)
        if task is None:
            # Without the context of whoever asks first: its deadline is not the others'.
            task = asyncio.create_task(self._ask_and_store(name, ask, waits=waits), context=Context())
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(task)

    async def _ask_and_store(self, name: str, ask: _Ask, *, waits: bool) -> ApiKey | Client | None:
        generation = self._generation
        value = await ask(waits)
        # An answer that was asked for before a change may be older than the change: use it, but do not keep
        # it.
        if generation == self._generation:
            self._keep(name, value)
        return value

    def _keep(self, name: str, value: ApiKey | Client | None) -> None:
        now = time.monotonic()
        if value is None:
            self._entries.pop(name, None)
            self._unknown[name] = now + _UNKNOWN_SECONDS
            self._unknown.move_to_end(name)
        else:
            self._unknown.pop(name, None)
            self._entries[name] = _Entry(value, now)
            self._entries.move_to_end(name)
        for kept in (self._entries, self._unknown):
            if len(kept) > _MAX_ENTRIES:
                kept.popitem(last=False)

    async def _ask_for_key(self, digest: bytes, waits: bool) -> ApiKey | None:
        try:
            request = clients_pb2.ResolveApiKeyRequest(key_sha256=digest)
            answer = await self._stub.ResolveApiKey(request, wait_for_ready=waits)
        except AppError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise
        return ApiKey(answer.key_id, KeyKind(answer.kind), decode_client(answer.client), answer.expires_at)

    async def _ask_for_client(self, client_id: UUID, waits: bool) -> Client | None:
        try:
            request = clients_pb2.GetClientRequest(client_id=str(client_id))
            return decode_client(await self._stub.GetClient(request, wait_for_ready=waits))
        except AppError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise


def decode_client(message: clients_pb2.Client) -> Client:
    """Return the client that a message of `orgs` tells of."""
    return Client(
        id=UUID(message.id),
        name=message.name,
        slug=message.slug,
        status=message.status,
        token_mode=TokenMode(message.token_mode),
        allowed_origins=tuple(message.allowed_origins),
        settings=json.loads(message.settings_json or "{}"),
        cell=message.cell,
    )


def _name_of(key_digest: bytes) -> str:
    return f"key:{key_digest.hex()}"


def _client_id(value: ApiKey | Client) -> UUID:
    return value.client.id if isinstance(value, ApiKey) else value.id
