"""The gRPC face on the public port: the public services, passed through to their owners as bytes.

The gateway reads no message. It names the caller (address, user agent, request id; an admin by
`authorization: Bearer …` or `x-admin-key`), limits by method, and passes deadline, answer and typed errors
through. API keys and users' tokens stand in the messages; the owner checks them. No other metadata of a
client goes on, and RPC services that are not public do not exist here.

So limits know the address alone. What could be guessed (`login`, `signup`, `sensitive`) has the limit of a
person, for anybody may write a publishable key into a message: a server that acts for many people logs them
in by HTTP with its secret key, or its operators raise the limit. Everything else has the limit of a server.

An address whose keys were refused too often is refused before the owner is asked, its good keys too, since
they are not seen here; it may have as many refusals as a server. Counted is the error `invalid_api_key`, and
the answers of `TokenService` that say just that, known by their bytes. Not seen, and so not counted, is a bad
access token that `TokenService` answers about: behind a good key, a server may ask about any.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chassis import deadlines
from chassis.context import Access, CallerContext, sign_context
from chassis.errors import AppError, InvalidRequest, Unavailable
from chassis.rpc import CONTEXT, DURATION, HANDLED, Channel, RpcContext, abort_with
from contracts.clients import InvalidApiKey
from contracts.gen.auth.v1 import admin_pb2, auth_pb2, token_pb2
from contracts.topology import PUBLIC_RPC_OWNERS
from gateway.addresses import ClientAddresses
from gateway.admin_key import AdminKey
from gateway.admins import Admins
from gateway.guesses import Guess, Guesses
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
    "/auth.v1.AuthService/VerifyEmail": "sensitive",
    "/auth.v1.AuthService/ResendVerification": "sensitive",
    "/auth.v1.AuthService/ForgotPassword": "sensitive",
    "/auth.v1.AuthService/ResetPassword": "sensitive",
    "/auth.v1.AuthService/SendMagicLink": "sensitive",
    "/auth.v1.AuthService/VerifyMagicLink": "login",
}
# Validation is what services do on each of their own requests; of it only bad keys are counted.
_SERVICE_LIMITS: Final = {"auth.v1.TokenService": UNLIMITED, "auth.v1.AdminService": "admin"}
_ADMINISTRATION: Final = "auth.v1.AdminService"
_BEARER: Final = "Bearer "
_GUESSABLE: Final = frozenset({"login", "signup", "sensitive"})

_BAD_KEY = token_pb2.ValidateTokenResponse(error=InvalidApiKey.code)
_BAD_KEY_ANSWERS: Final = {
    "/auth.v1.TokenService/ValidateToken": _BAD_KEY.SerializeToString(),
    "/auth.v1.TokenService/ValidateTokens": token_pb2.ValidateTokensResponse(
        results=[_BAD_KEY]
    ).SerializeToString(),
}
"""How the answer to a bad key begins, where it is an answer and no error."""


class PublicRpc:
    """The gRPC server of the gateway."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        keys: Mapping[str, bytes],
        *,
        addresses: ClientAddresses,
        admin_key: AdminKey,
        admins: Admins,
        limits: Limits,
        guesses: Guesses,
        timeout: float,
        max_revocation_streams: int,
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
        gate = _Gate(keys, addresses, admin_key, admins, limits, guesses, max_revocation_streams)
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


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A call that may go on: from which address, and the metadata that the owner is told."""

    ip: str
    metadata: tuple[tuple[str, str], ...]


class _Gate:
    """Admits a call: names its caller, limits it, and gives the metadata that the owner is told.

    Of what became of it, it counts bad keys.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        addresses: ClientAddresses,
        admin_key: AdminKey,
        admins: Admins,
        limits: Limits,
        guesses: Guesses,
        max_streams: int,
    ) -> None:
        self._keys = keys
        self._addresses = addresses
        self._admin_key = admin_key
        self._admins = admins
        self._limits = limits
        self._guesses = guesses
        self._max_streams = max_streams
        self._streams = 0

    async def admit(self, method: str, owner: str, context: RpcContext) -> _Admitted:
        """Raises AppError for a call that may not go on."""
        sent: dict[str, str] = {}
        for name, value in context.invocation_metadata() or ():
            if name in ("x-admin-key", "authorization") and name in sent:
                raise InvalidRequest(f"The metadata {name} came more than once.")
            sent[str(name)] = value if isinstance(value, str) else ""
        service = method[1:].rpartition("/")[0]
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
        elif service == _ADMINISTRATION and sent.get("authorization", "").startswith(_BEARER):
            caller = await self._admins.resolve(sent["authorization"].removeprefix(_BEARER), caller)
        else:
            self._guesses.check(Guess.RPC, caller.ip, of_server=True)
        name = _LIMITS.get(method) or _SERVICE_LIMITS.get(service, "default")
        await self._limits.check(name, caller, of_server=name not in _GUESSABLE)
        signed = sign_context(caller, self._keys[owner], "RPC", method)
        return _Admitted(caller.ip, ((CONTEXT, signed.decode()),))

    @contextlib.contextmanager
    def counting_bad_keys(self, ip: str) -> Iterator[None]:
        """Count an error that says that the key was bad."""
        try:
            yield
        except AppError as error:
            if error.code == InvalidApiKey.code:
                self._guesses.count(Guess.RPC, ip)
            raise

    def judge_answer(self, method: str, answer: bytes, ip: str) -> None:
        """Count an answer that says that the key was bad."""
        bad = _BAD_KEY_ANSWERS.get(method)
        if bad is not None and answer.startswith(bad):
            self._guesses.count(Guess.RPC, ip)

    @contextlib.contextmanager
    def streaming(self) -> Iterator[None]:
        """Hold one of the streams that this process may have; they are of all tenants.

        Raises:
            Unavailable: all are taken.
        """
        if self._streams >= self._max_streams:
            raise Unavailable("Too many streams at once.")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

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
            admitted = await gate.admit(name, owner, context)
            with gate.counting_bad_keys(admitted.ip):
                answer: bytes = await call(request, timeout=seconds, metadata=admitted.metadata)
            gate.judge_answer(name, answer, admitted.ip)
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
            admitted = await gate.admit(name, owner, context)
            with gate.streaming(), gate.counting_bad_keys(admitted.ip):
                async for answer in call(request, metadata=admitted.metadata):
                    yield answer
        except Exception as error:
            await abort_with(error, name, context)
        HANDLED.labels(name, "OK").inc()

    return passed


def _peer(context: RpcContext) -> str:
    """The peer's address of `ipv4:1.2.3.4:567` or `ipv6:[::1]:567`; "" for another transport."""
    kind, _, address = context.peer().partition(":")
    return unquote(address) if kind in {"ipv4", "ipv6"} else ""
