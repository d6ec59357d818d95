"""`auth.v1.AdminService`: the rules of the HTTP face, and `token`'s for what signs."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import Message

from chassis.context import Access, CallerContext
from chassis.errors import Unauthenticated, UnprocessableRequest
from chassis.events import AdminKeyUsed
from chassis.models import Model, checked
from chassis.outbox import Outbox
from chassis.paging import DEFAULT_LIMIT, MAX_LIMIT
from chassis.rpc import Channel, RpcContext, RpcService, forwarded_caller
from contracts.gen.auth.v1 import admin_pb2
from contracts.gen.auth.v1.admin_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server
from contracts.gen.internal.token.v1 import secrets_pb2
from contracts.gen.internal.token.v1.secrets_pb2_grpc import SecretServiceStub
from contracts.origins import origin_of
from services.orgs.api_keys.routes import RotateApiKeyRequest
from services.orgs.api_keys.service import ApiKeyService
from services.orgs.clients.models import Client
from services.orgs.clients.requests import CreateClientRequest
from services.orgs.clients.rpc import parse_client_id
from services.orgs.clients.service import ClientService
from services.orgs.clients.views import ClientView

NAME = "auth.v1.AdminService"


class AdminRpc(AdminServiceServicer):
    """Administration of clients over gRPC."""

    def __init__(
        self, clients: ClientService, api_keys: ApiKeyService, outbox: Outbox, token: Channel
    ) -> None:
        """Take the rules, the way to `token`, and where uses of the admin key are recorded."""
        self._clients = clients
        self._api_keys = api_keys
        self._outbox = outbox
        self._secrets = SecretServiceStub(token.for_stubs)

    async def CreateClient(
        self,
        request: admin_pb2.CreateClientRequest,
        _context: RpcContext,
    ) -> admin_pb2.CreateClientResponse:
        """Create a client with its first two keys, shown once."""
        caller = await self._admit("CreateClient", "clients:write")
        caller.check_client_scope(None)
        created = await self._clients.create(caller, _parse(CreateClientRequest, request))
        return admin_pb2.CreateClientResponse(
            client=_encode(created.client),
            api_key=created.secret_key.raw,
            publishable_key=created.publishable_key.raw,
        )

    async def ListClients(
        self,
        request: admin_pb2.ListClientsRequest,
        _context: RpcContext,
    ) -> admin_pb2.ListClientsResponse:
        """List clients, the newest first."""
        caller = await self._admit("ListClients", "clients:read")
        limit = request.limit or DEFAULT_LIMIT
        if not 1 <= limit <= MAX_LIMIT:
            raise UnprocessableRequest(f"limit: must be 1 to {MAX_LIMIT}")
        found, following = await self._clients.page(
            caller, search=None, status=None, limit=limit, cursor=request.cursor or None
        )
        return admin_pb2.ListClientsResponse(items=map(_encode, found), next_cursor=following or "")

    async def RotateApiKey(
        self,
        request: admin_pb2.RotateApiKeyRequest,
        _context: RpcContext,
    ) -> admin_pb2.RotateApiKeyResponse:
        """Replace all secret keys of a client."""
        caller = await self._admit("RotateApiKey", "keys:write")
        caller.check_client_scope(request.client_id)
        wanted = _parse(RotateApiKeyRequest, request)
        grace = timedelta(seconds=wanted.grace_seconds)
        new = await self._api_keys.rotate(caller, parse_client_id(request.client_id), grace=grace)
        return admin_pb2.RotateApiKeyResponse(api_key=new.raw)

    async def RotateSecret(
        self,
        request: admin_pb2.RotateSecretRequest,
        _context: RpcContext,
    ) -> admin_pb2.RotateSecretResponse:
        """Replace the client's JWT secret."""
        caller = await self._admit("RotateSecret", "keys:write")
        caller.check_client_scope(request.client_id)
        client_id = await self._existing(request.client_id)
        wanted = secrets_pb2.RotateSecretRequest(client_id=client_id, origin=origin_of(caller))
        answer = await self._secrets.RotateSecret(wanted)
        return admin_pb2.RotateSecretResponse(jwt_secret=answer.jwt_secret)

    async def RotateSigningKey(
        self,
        request: admin_pb2.RotateSigningKeyRequest,
        _context: RpcContext,
    ) -> admin_pb2.RotateSigningKeyResponse:
        """Promote the client's next signing key."""
        caller = await self._admit("RotateSigningKey", "keys:write")
        caller.check_client_scope(request.client_id)
        client_id = await self._existing(request.client_id)
        wanted = secrets_pb2.RotateSigningKeyRequest(client_id=client_id, origin=origin_of(caller))
        answer = await self._secrets.RotateSigningKey(wanted)
        return admin_pb2.RotateSigningKeyResponse(
            active_kid=answer.active_kid, next_kid=answer.next_kid, retiring_kid=answer.retiring_kid
        )

    async def _admit(self, rpc: str, permission: str) -> CallerContext:
        """Return the caller when it is an administrator; a use of the break-glass key is recorded first.

        Raises:
            Unauthenticated: it is none.
            PermissionMissing: it is one who may not do this.
        """
        caller = forwarded_caller()
        if caller.access is not Access.ADMIN:
            raise Unauthenticated
        caller.check_permission(permission)
        if caller.is_break_glass:
            await self._outbox.append(AdminKeyUsed(method="RPC", path=f"/{NAME}/{rpc}"), caller)
        return caller

    async def _existing(self, client_id: str) -> str:
        client = await self._clients.get(parse_client_id(client_id))
        return str(client.id)


def admin_rpc(clients: ClientService, api_keys: ApiKeyService, outbox: Outbox, token: Channel) -> RpcService:
    """Return the servicer for the process's gRPC face."""
    return RpcService(NAME, AdminRpc(clients, api_keys, outbox, token), add_AdminServiceServicer_to_server)


def _parse(model: type[Model], message: Message) -> Model:
    """Read a message by the same rules as a body; what a message leaves empty counts as not sent."""
    try:
        members = MessageToDict(message, preserving_proto_field_name=True)
    except SerializeToJsonError:
        # A `Struct` can hold NaN and the infinities, for which JSON has no word; only settings are one.
        raise UnprocessableRequest("settings: must hold finite numbers only") from None
    return checked(model, members)


def _encode(client: Client) -> admin_pb2.Client:
    view = ClientView.of(client)
    message = admin_pb2.Client(
        id=str(view.id),
        name=view.name,
        slug=view.slug,
        status=view.status,
        token_mode=view.token_mode,
        allowed_origins=view.allowed_origins,
        webhook_url=view.webhook_url or "",
    )
    message.created_at.FromDatetime(view.created_at)
    message.updated_at.FromDatetime(view.updated_at)
    message.settings.update(view.settings)
    return message
