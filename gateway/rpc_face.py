"""The gRPC face on the public port: the public services, passed through to their owners as bytes.

The gateway reads no message. It names the caller (address, user agent, request id; an admin by
`x-admin-key`), limits by method, and passes deadline, answer and typed errors through. API keys and access
tokens stand in the messages; the owner checks them. No other metadata of a client goes on, and RPC services
that are not public do not exist here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chassis import deadlines
from chassis.context import Access, CallerContext, sign_context
from chassis.errors import InvalidRequest
from chassis.rpc import CONTEXT, DURATION, HANDLED, Channel, RpcContext, abort_with
from contracts.gen.auth.v1 import admin_pb2, auth_pb2, token_pb2
from contracts.topology import PUBLIC_RPC_OWNERS
from gateway.addresses import ClientAddresses
from gateway.admin_key import AdminKey
from gateway.inbound import MAX_USER_AGENT, request_id
from gateway.limits import UNLIMITED, Limits

_FILES: Final = (admin_pb2, auth_pb2, token_pb2)  # imported, their services are in the descriptor pool
_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_MAX_METADATA_BYTES: Final = 16 * 1024
_MAX_STREAMS: Final = 200
_HEALTH: Final = "grpc.health.v1.Health"

_LIMITS: Final = {
    "/auth.v1.AuthService/Login": "login",
    "/auth.v1.AuthService/Signup": "signup",
    "/auth.v1.AuthService/Refresh": "refresh",
    "/auth.v1.AuthService/Logout": "refresh",
    "/auth.v1.AuthService/ChangePassword": "sensitive",
}
# Validation is what services do on each of their own requests, and it guards nothing that could be guessed.
_SERVICE_LIMITS: Final = {"auth.v1.TokenService": UNLIMITED, "auth.v1.AdminService": "admin"}


class PublicRpc:
    """The gRPC server of the gateway."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        keys: Mapping[str, bytes],
        *,
        addresses: ClientAddresses,
        admin_key: AdminKey,
        limits: Limits,
        timeout: float,
        share_port: bool,
        with_reflection: bool,
    ) -> None:
        """Take a channel and a signing key per service; `timeout` bounds a unary call, in seconds."""
        options = [
            ("grpc.so_reuseport", int(share_port)),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_time_ms", 60_000),
        ]
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        gate = _Gate(keys, addresses, admin_key, limits)
        for name, owner in PUBLIC_RPC_OWNERS.items():
            handlers = _handlers(name, owner, channels[owner], gate, timeout)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        if with_reflection:
            names = [*PUBLIC_RPC_OWNERS, _HEALTH, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)

    async def start(self, address: str) -> int:
        """Listen on `host:port` and return the port.

        Raises:
            OSError: the port is taken.
        """
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for gRPC") from error
        await self._server.start()
        for name in ("", *PUBLIC_RPC_OWNERS):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace: float) -> None:
        """Say NOT_SERVING, refuse new calls, and give those in flight `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


class _Gate:
    """Admits a call: names its caller, limits it, and gives the metadata that the owner is told."""

    def __init__(
        self, keys: Mapping[str, bytes], addresses: ClientAddresses, admin_key: AdminKey, limits: Limits
    ) -> None:
        self._keys = keys
        self._addresses = addresses
        self._admin_key = admin_key
        self._limits = limits

    async def admit(self, method: str, owner: str, context: RpcContext) -> tuple[tuple[str, str], ...]:
        """Raises AppError for a call that may not go on."""
        sent: dict[str, str] = {}
        for name, value in context.invocation_metadata() or ():
            if name == "x-admin-key" and name in sent:
                raise InvalidRequest("The metadata x-admin-key came more than once.")
            sent[str(name)] = value if isinstance(value, str) else ""
        caller = self._caller(sent, _peer(context))
        await context.send_initial_metadata((("x-request-id", caller.request_id),))
        if "x-admin-key" in sent:
            await self._admin_key.check(sent["x-admin-key"], caller, "RPC", method)
            caller = CallerContext(
                access=Access.ADMIN,
                request_id=caller.request_id,
                ip=caller.ip,
                user_agent=caller.user_agent,
            )
        service = method[1:].rpartition("/")[0]
        name = _LIMITS.get(method) or _SERVICE_LIMITS.get(service, "default")
        await self._limits.check(name, caller, of_server=True)
        signed = sign_context(caller, self._keys[owner], "RPC", method)
        return ((CONTEXT, signed.decode()),)

    def _caller(self, sent: Mapping[str, str], peer: str) -> CallerContext:
        return CallerContext(
            access=Access.PUBLIC,
            request_id=request_id(sent.get("x-request-id", "")),
            ip=self._addresses.client(peer, sent.get(self._addresses.header, "")),
            user_agent=sent.get("user-agent", "")[:MAX_USER_AGENT],
        )


def _handlers(
    service: str, owner: str, channel: Channel, gate: _Gate, timeout: float
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """One handler per method of the service's descriptor, without (de)serializers: messages stay bytes."""
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in descriptor.methods:
        name = f"/{service}/{method.name}"
        if method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(_stream(name, owner, channel, gate))
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                _unary(name, owner, channel, gate, timeout)
            )
    return handlers


def _unary(
    name: str, owner: str, channel: Channel, gate: _Gate, timeout: float
) -> Callable[[bytes, RpcContext], Awaitable[bytes]]:
    call = channel.unary_unary(name, None, None)

    async def passed(request: bytes, context: RpcContext) -> bytes:
        started = time.perf_counter()
        try:
            left = context.time_remaining()
            seconds = timeout if left is None else min(left, timeout)
            deadlines.set_budget(seconds)
            metadata = await gate.admit(name, owner, context)
            answer: bytes = await call(request, timeout=seconds, metadata=metadata)
        except Exception as error:
            await abort_with(error, name, context)
        else:
            HANDLED.labels(name, "OK").inc()
            return answer
        finally:
            DURATION.labels(name).observe(time.perf_counter() - started)

    return passed


def _stream(
    name: str, owner: str, channel: Channel, gate: _Gate
) -> Callable[[bytes, RpcContext], AsyncIterator[bytes]]:
    call = channel.unary_stream(name, None, None)

    async def passed(request: bytes, context: RpcContext) -> AsyncIterator[bytes]:
        try:
            metadata = await gate.admit(name, owner, context)
            async for answer in call(request, metadata=metadata):
                yield answer
        except Exception as error:
            await abort_with(error, name, context)
        HANDLED.labels(name, "OK").inc()

    return passed


def _peer(context: RpcContext) -> str:
    """The peer's address of `ipv4:1.2.3.4:567` or `ipv6:[::1]:567`; "" for another transport."""
    kind, _, address = context.peer().partition(":")
    return unquote(address) if kind in {"ipv4", "ipv6"} else ""
