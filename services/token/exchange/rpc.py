"""gRPC face of exchange codes, for the services whose logins end in a redirect."""

from __future__ import annotations

from chassis.errors import InvalidRequest
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.gen.internal.token.v1 import exchange_pb2
from contracts.gen.internal.token.v1.exchange_pb2_grpc import (
    ExchangeServiceServicer,
    add_ExchangeServiceServicer_to_server,
)
from services.token.exchange.service import TTL, ExchangeService


class ExchangeRpc(ExchangeServiceServicer):
    """`internal.token.v1.ExchangeService`."""

    def __init__(self, exchange: ExchangeService) -> None:
        """Take the rules."""
        self._exchange = exchange

    async def CreateCode(
        self, request: exchange_pb2.CreateCodeRequest, _context: RpcContext
    ) -> exchange_pb2.CreateCodeResponse:
        """Keep an outcome behind a code."""
        if request.outcome.WhichOneof("outcome") is None:
            raise InvalidRequest("outcome is empty")
        code = await self._exchange.create(parse_id(request.client_id, "client_id"), request.outcome)
        return exchange_pb2.CreateCodeResponse(code=code, expires_in=int(TTL.total_seconds()))


def exchange_rpc(exchange: ExchangeService) -> RpcService:
    """Return the slice's gRPC service."""
    return RpcService(
        "internal.token.v1.ExchangeService", ExchangeRpc(exchange), add_ExchangeServiceServicer_to_server
    )
