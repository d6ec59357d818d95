"""What the provider's registration endpoint asks: `internal.orgs.v1.RegistrationService`."""

from __future__ import annotations

import json
from uuid import UUID

from chassis.rpc import RpcContext, RpcService
from contracts.gen.internal.orgs.v1 import registrations_pb2
from contracts.gen.internal.orgs.v1.registrations_pb2_grpc import (
    RegistrationServiceServicer,
    add_RegistrationServiceServicer_to_server,
)
from contracts.origins import caller_behind
from services.orgs.errors import RegistrationTokenRefused
from services.orgs.registrations.metadata import shown_metadata
from services.orgs.registrations.models import Registered
from services.orgs.registrations.service import RegistrationService

NAME = "internal.orgs.v1.RegistrationService"


class RegistrationsRpc(RegistrationServiceServicer):
    """Lets apps register; tokens arrive as their hashes."""

    def __init__(self, registrations: RegistrationService) -> None:
        """Take the rules."""
        self._registrations = registrations

    async def Register(
        self, request: registrations_pb2.RegisterRequest, _context: RpcContext
    ) -> registrations_pb2.Registration:
        """Register an app."""
        caller = caller_behind(request.origin, None)
        return _encode(
            await self._registrations.register(caller, request.token_sha256, request.metadata_json)
        )

    async def GetRegistration(
        self, request: registrations_pb2.GetRegistrationRequest, _context: RpcContext
    ) -> registrations_pb2.Registration:
        """Answer an app to itself."""
        return _encode(await self._registrations.get(_id(request.app_id), request.token_sha256))

    async def ReplaceRegistration(
        self, request: registrations_pb2.ReplaceRegistrationRequest, _context: RpcContext
    ) -> registrations_pb2.Registration:
        """Replace an app's metadata."""
        caller = caller_behind(request.origin, None)
        return _encode(
            await self._registrations.replace(
                caller, _id(request.app_id), request.token_sha256, request.metadata_json
            )
        )

    async def DeleteRegistration(
        self, request: registrations_pb2.DeleteRegistrationRequest, _context: RpcContext
    ) -> registrations_pb2.DeleteRegistrationResponse:
        """Delete an app."""
        caller = caller_behind(request.origin, None)
        await self._registrations.delete(caller, _id(request.app_id), request.token_sha256)
        return registrations_pb2.DeleteRegistrationResponse()


def registrations_rpc(registrations: RegistrationService) -> RpcService:
    """Return the servicer for the process's gRPC face."""
    return RpcService(NAME, RegistrationsRpc(registrations), add_RegistrationServiceServicer_to_server)


def _encode(registered: Registered) -> registrations_pb2.Registration:
    shown = shown_metadata(registered.app, registered.scopes)
    if registered.client_secret is not None:
        # RFC 7591 §3.2.1: 0 says that it does not expire.
        shown |= {"client_secret": registered.client_secret, "client_secret_expires_at": 0}
    return registrations_pb2.Registration(
        app_id=str(registered.app.id),
        metadata_json=json.dumps(shown, ensure_ascii=False, separators=(",", ":")),
        registration_access_token=registered.registration_access_token or "",
    )


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise RegistrationTokenRefused from None
