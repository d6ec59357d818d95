"""Clients (tenants) as every process but `orgs` knows them: asked once, cached, dropped on change."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from chassis.bus import Bus
from chassis.context import KeyKind
from chassis.errors import AppError, Kind, NotFound, Unauthenticated
from chassis.rpc import Channel
from contracts.gen.internal.orgs.v1 import clients_pb2
from contracts.gen.internal.orgs.v1.clients_pb2_grpc import ClientServiceStub
from contracts.remembered import Remembered

INVALIDATE = "invalidate.client"
"""Plain subject; the text is the id of the client that changed."""

_KEY_PREFIXES = ("ask_", "apk_")
_MAX_KEY_LENGTH = 128

LOOKUPS = Counter("client_cache_lookups_total", "Look-ups of clients and keys.", ["result"])


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


class ClientDirectory:
    """Looks clients up by key or id; remembered as `Remembered` says, dropped at once when one changes."""

    def __init__(self, channel: Channel, bus: Bus) -> None:
        """Take the way to `orgs`, and the bus that tells of changes."""
        self._stub = ClientServiceStub(channel.for_stubs)
        self._known: Remembered[ApiKey | Client] = Remembered("client", LOOKUPS)
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
        found = await self._known.get(_name_of(digest), lambda waits: self._ask_for_key(digest, waits))
        expired = isinstance(found, ApiKey) and 0 < found.expires_at <= time.time()
        if not isinstance(found, ApiKey) or expired or not found.client.is_active:
            raise InvalidApiKey
        return found

    def knows_key(self, raw: str) -> bool:
        """Whether a key was good when it was last looked up; asks nobody."""
        if len(raw) > _MAX_KEY_LENGTH:
            return False
        return self._known.holds(_name_of(hashlib.sha256(raw.encode()).digest()))

    async def get(self, client_id: UUID) -> Client:
        """Return a client, active or not.

        Raises:
            ClientNotFound: there is none.
            Unavailable: `orgs` is away and the client is not remembered.
        """
        found = await self._known.get(f"id:{client_id}", lambda waits: self._ask_for_client(client_id, waits))
        if not isinstance(found, Client):
            raise ClientNotFound
        return found

    def drop(self, client_id: UUID) -> None:
        """Forget a client and its keys now."""
        self._known.drop(lambda value: _client_id(value) == client_id)

    async def _drop(self, text: str) -> None:
        if text:
            self.drop(UUID(text))
        else:
            self._known.drop()

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
