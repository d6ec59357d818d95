"""gRPC face of rotation, for the admin face in orgs."""

from __future__ import annotations

from chassis.context import CallerContext
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.gen.internal.token.v1 import secrets_pb2
from contracts.gen.internal.token.v1.secrets_pb2_grpc import (
    SecretServiceServicer,
    add_SecretServiceServicer_to_server,
)
from contracts.origins import caller_behind
from services.token.signing.service import SigningService


class SecretsRpc(SecretServiceServicer):
    """`internal.token.v1.SecretService`."""

    def __init__(self, signing: SigningService) -> None:
        """Take the rules."""
        self._signing = signing

    async def RotateSecret(
        self, request: secrets_pb2.RotateSecretRequest, _context: RpcContext
    ) -> secrets_pb2.RotateSecretResponse:
        """Replace a client's JWT secret."""
        caller = _caller(request)
        secret = await self._signing.rotate_secret(caller, caller.require_client())
        return secrets_pb2.RotateSecretResponse(jwt_secret=secret)

    async def RotateSigningKey(
        self, request: secrets_pb2.RotateSigningKeyRequest, _context: RpcContext
    ) -> secrets_pb2.RotateSigningKeyResponse:
        """Let a client's next key sign."""
        caller = _caller(request)
        rotation = await self._signing.rotate_signing_key(caller, caller.require_client())
        return secrets_pb2.RotateSigningKeyResponse(
            active_kid=rotation.active_kid,
            next_kid=rotation.next_kid,
            retiring_kid=rotation.retiring_kid or "",
        )


def secrets_rpc(signing: SigningService) -> RpcService:
    """Return the slice's gRPC service."""
    return RpcService(
        "internal.token.v1.SecretService", SecretsRpc(signing), add_SecretServiceServicer_to_server
    )


def _caller(request: secrets_pb2.RotateSecretRequest | secrets_pb2.RotateSigningKeyRequest) -> CallerContext:
    return caller_behind(request.origin, parse_id(request.client_id, "client_id"))
