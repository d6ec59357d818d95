"""gRPC face of rotation, for the admin face in orgs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import grpc

from chassis.context import CallerContext
from chassis.errors import InvalidRequest
from chassis.rpc import RpcService
from contracts.gen.internal.token.v1 import secrets_pb2
from contracts.gen.internal.token.v1.secrets_pb2_grpc import (
    SecretServiceServicer,
    add_SecretServiceServicer_to_server,
)
from contracts.origins import caller_behind
from services.token.signing.service import SigningService

Context = grpc.aio.ServicerContext[Any, Any]


class SecretsRpc(SecretServiceServicer):
    """`internal.token.v1.SecretService`."""

    def __init__(self, signing: SigningService) -> None:
        """Take the rules."""
        self._signing = signing

    async def RotateSecret(  # noqa: N802 - the name in the proto
        self, request: secrets_pb2.RotateSecretRequest, _context: Context
    ) -> secrets_pb2.RotateSecretResponse:
        """Replace a client's JWT secret."""
        secret = await self._signing.rotate_secret(_caller(request), _id(request.client_id))
        return secrets_pb2.RotateSecretResponse(jwt_secret=secret)

    async def RotateSigningKey(  # noqa: N802
        self, request: secrets_pb2.RotateSigningKeyRequest, _context: Context
    ) -> secrets_pb2.RotateSigningKeyResponse:
        """Let a client's next key sign."""
        rotation = await self._signing.rotate_signing_key(_caller(request), _id(request.client_id))
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
    return caller_behind(request.origin, _id(request.client_id))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequest("client_id is not a UUID") from None
