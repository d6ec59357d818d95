"""What every other process asks of clients: `internal.orgs.v1.ClientService`."""

from __future__ import annotations

import json
from uuid import UUID

from chassis.errors import InvalidRequest
from chassis.rpc import RpcContext, RpcService
from contracts.clients import ClientNotFound
from contracts.gen.internal.orgs.v1 import clients_pb2
from contracts.gen.internal.orgs.v1.clients_pb2_grpc import (
    ClientServiceServicer,
    SettingsServiceServicer,
    add_ClientServiceServicer_to_server,
    add_SettingsServiceServicer_to_server,
)
from contracts.origins import caller_behind
from services.orgs.api_keys.service import ApiKeyService
from services.orgs.clients.models import Client
from services.orgs.clients.service import ClientService

NAME = "internal.orgs.v1.ClientService"


class ClientsRpc(ClientServiceServicer):
    """Answers clients whole, settings with their secrets: for the platform's own processes only."""

    def __init__(self, clients: ClientService, api_keys: ApiKeyService) -> None:
        """Take the rules."""
        self._clients = clients
        self._api_keys = api_keys

    async def ResolveApiKey(
        self,
        request: clients_pb2.ResolveApiKeyRequest,
        _context: RpcContext,
    ) -> clients_pb2.ResolveApiKeyResponse:
        """Answer what a live key stands for, also when its client is suspended: the status says so."""
        found = await self._api_keys.resolve(request.key_sha256)
        return clients_pb2.ResolveApiKeyResponse(
            client=encode_client(found.client),
            key_id=str(found.id),
            kind=found.kind,
            expires_at=int(found.expires_at.timestamp()) if found.expires_at else 0,
        )

    async def GetClient(
        self,
        request: clients_pb2.GetClientRequest,
        _context: RpcContext,
    ) -> clients_pb2.Client:
        """Answer a client by its id."""
        return encode_client(await self._clients.get(parse_client_id(request.client_id)))

    async def AllowsOrigin(
        self,
        request: clients_pb2.AllowsOriginRequest,
        _context: RpcContext,
    ) -> clients_pb2.AllowsOriginResponse:
        """Answer whether any active client allows the origin."""
        return clients_pb2.AllowsOriginResponse(allowed=await self._clients.allows_origin(request.origin))


class SettingsRpc(SettingsServiceServicer):
    """Changes single settings for the services that rule what they mean."""

    def __init__(self, clients: ClientService) -> None:
        """Take the rules."""
        self._clients = clients

    async def PutSetting(
        self,
        request: clients_pb2.PutSettingRequest,
        _context: RpcContext,
    ) -> clients_pb2.Client:
        """Replace or merge one setting, in the name of whoever is behind the call."""
        client_id = parse_client_id(request.client_id)
        try:
            value = json.loads(request.value_json)
        except (ValueError, RecursionError):
            raise InvalidRequest("value_json: must be JSON") from None
        caller = caller_behind(request.origin, client_id)
        return encode_client(
            await self._clients.put_setting(caller, client_id, request.name, value, merges=request.merges)
        )


def settings_rpc(clients: ClientService) -> RpcService:
    """Return the servicer for the process's gRPC face."""
    name = "internal.orgs.v1.SettingsService"
    return RpcService(name, SettingsRpc(clients), add_SettingsServiceServicer_to_server)


def clients_rpc(clients: ClientService, api_keys: ApiKeyService) -> RpcService:
    """Return the servicer for the process's gRPC face."""
    return RpcService(NAME, ClientsRpc(clients, api_keys), add_ClientServiceServicer_to_server)


def parse_client_id(text: str) -> UUID:
    """Return the id that a message names.

    Raises:
        ClientNotFound: the text is no id, so nobody has it.
    """
    try:
        return UUID(text)
    except ValueError:
        raise ClientNotFound from None


def encode_client(client: Client) -> clients_pb2.Client:
    """Return a client as other processes are told of it."""
    return clients_pb2.Client(
        id=str(client.id),
        name=client.name,
        slug=client.slug,
        status=client.status,
        token_mode=client.token_mode,
        allowed_origins=client.allowed_origins,
        settings_json=json.dumps(dict(client.settings), ensure_ascii=False, separators=(",", ":")),
        cell=client.cell,
    )
