"""The cheapest grpc.aio server: what a call costs alone. Prints its port."""

from __future__ import annotations

import asyncio

import grpc
import uvloop

from contracts.gen.auth.v1 import token_pb2


async def _answer(
    _request: token_pb2.ValidateTokenRequest, _context: object
) -> token_pb2.ValidateTokenResponse:
    return token_pb2.ValidateTokenResponse(valid=True)


async def _serve() -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        _answer,
        token_pb2.ValidateTokenRequest.FromString,
        token_pb2.ValidateTokenResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler("auth.v1.TokenService", {"ValidateToken": handler})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
