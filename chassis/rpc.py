"""gRPC between services: servers that know their callers, channels with proof, deadline and typed errors.

A caller proves itself by certificate where mTLS is configured, else by the key it shares with the callee. An
`AppError` crosses as `google.rpc.ErrorInfo` (AIP-193) and arrives as a `RemoteError` with the same kind,
code, detail and further members.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, cast
from uuid import UUID

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import Counter, Histogram

from chassis import deadlines, telemetry
from chassis.context import CallerContext, ContextRejected, verify_context
from chassis.errors import (
    GRPC_STATUS,
    AppError,
    DeadlineExceeded,
    Forbidden,
    InternalError,
    InvalidRequest,
    Kind,
    RemoteError,
    Unauthenticated,
    Unavailable,
)
from chassis.internal_keys import BadCallerProof, InternalKeys

log = structlog.get_logger()

DOMAIN = "authservice"
CALLER = "x-caller"
PROOF = "x-caller-proof"
CONTEXT = "x-auth-context"
_DETAILS = "grpc-status-details-bin"
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_DEFAULT_TIMEOUT_SECONDS = 5.0
_CONNECT_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 0.5  # so that who waits for a connection sees the peer that has come back
_OPEN_SERVICES = ("grpc.health.v1.Health",)
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"

Metadata = tuple[tuple[str, str], ...]

RpcContext = grpc.aio.ServicerContext[Any, Any]
"""What gRPC hands to every handler. Those of services need nothing of it: the interceptor has used it."""

HANDLED = Counter("rpc_handled_total", "RPCs answered.", ["method", "code"])
DURATION = Histogram("rpc_duration_seconds", "Time to answer an RPC.", ["method"])

_context: ContextVar[CallerContext | None] = ContextVar("rpc_caller_context", default=None)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM contents of a process's certificate, its key, and the CA of its peers."""

    certificate: bytes
    key: bytes
    ca: bytes


@dataclass(frozen=True, slots=True)
class RpcService:
    """A servicer and the generated function that adds it; `name` is the full name of its proto service."""

    name: str
    servicer: Any
    add: Callable[[Any, Any], None]


def forwarded_caller() -> CallerContext:
    """Return the client behind the gateway of the RPC being handled.

    Raises:
        Forbidden: the RPC came without one.
    """
    caller = _context.get()
    if caller is None:
        raise Forbidden("This call must come through the gateway.")
    return caller


def parse_id(text: str, name: str) -> UUID:
    """Read the id that a message calls `name`.

    Raises:
        InvalidRequest: it is not a UUID.
    """
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequest(f"{name} is not a UUID.") from None


class RpcServer:
    """The gRPC face of a process."""

    def __init__(
        self,
        services: list[RpcService],
        *,
        process: str,
        keys: InternalKeys,
        callers: Mapping[str, frozenset[str]],
        tls: TlsFiles | None,
        share_port: bool,
        with_reflection: bool,
    ) -> None:
        """Take the services and who may call each (`callers`, by RPC service name)."""
        self._tls = tls
        options = [
            ("grpc.so_reuseport", int(share_port)),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ("grpc.max_concurrent_streams", 1000),
            # So that callers find processes that started later; streams begin anew and miss nothing.
            ("grpc.max_connection_age_ms", 10 * 60_000),
            ("grpc.max_connection_age_grace_ms", 60_000),
        ]
        self._guard = guard = _Guard(process, keys, callers, by_certificate=tls is not None)
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()
        for service in services:
            service.add(service.servicer, _Guarding(self._server, guard))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = [*(service.name for service in services), *_OPEN_SERVICES, _REFLECTION]
            reflection.enable_server_reflection(names, self._server)

    async def start(self, address: str) -> int:
        """Listen on `host:port` and return the port.

        Raises:
            OSError: the port is taken.
        """
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(address)
            else:
                pairs = [(self._tls.key, self._tls.certificate)]
                credentials = grpc.ssl_server_credentials(pairs, self._tls.ca, require_client_auth=True)
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for gRPC") from error
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace: float) -> None:
        """Say NOT_SERVING, refuse new calls, and give those in flight `grace` seconds.

        A stream ends after its next message, for its reader to begin anew at another process: one without end
        would take up the whole grace.
        """
        self._guard.is_draining = True
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


def _end_stream(*, is_draining: bool) -> None:
    if is_draining:
        raise Unavailable("This process is stopping. Begin the stream anew.")


class _Guard:
    """Names the caller, checks that it may call, sets the deadline, and turns errors into statuses."""

    def __init__(
        self,
        process: str,
        keys: InternalKeys,
        callers: Mapping[str, frozenset[str]],
        *,
        by_certificate: bool,
    ) -> None:
        self.is_draining = False
        self._process = process
        self._keys = keys
        self._callers = callers
        self._by_certificate = by_certificate

    def wrap(self, handler: grpc.RpcMethodHandler[Any, Any], method: str) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the guarded handler of `method`; made once, where an interceptor makes it for each call."""
        service = method[1:].rpartition("/")[0]
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, method, service),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_stream_rpc_method_handler(
            self._stream(handler.unary_stream, method, service),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _unary(self, behaviour: Any, method: str, service: str) -> Any:
        handled, duration = HANDLED.labels(method, "OK"), DURATION.labels(method)

        async def guarded(request: Any, context: RpcContext) -> Any:
            started = time.perf_counter()
            try:
                metadata = self._enter(context, method, service)
                with telemetry.server_span(method, metadata):
                    answer = await behaviour(request, context)
            except Exception as error:
                await abort_with(error, method, context)
            else:
                handled.inc()
                return answer
            finally:
                duration.observe(time.perf_counter() - started)

        return guarded

    def _stream(self, behaviour: Any, method: str, service: str) -> Any:
        async def guarded(request: Any, context: RpcContext) -> AsyncIterator[Any]:
            try:
                self._enter(context, method, service)
                async for answer in behaviour(request, context):
                    yield answer
                    _end_stream(is_draining=self.is_draining)
            except Exception as error:
                await abort_with(error, method, context)
            else:
                HANDLED.labels(method, "OK").inc()

        return guarded

    def _enter(self, context: RpcContext, method: str, service: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {str(key): value for key, value in context.invocation_metadata() or ()}
        caller = self._certified(context) if self._by_certificate else self._proven(method, metadata)
        if caller not in self._callers.get(service, frozenset()):
            log.warning("rpc caller refused", caller=caller, method=method)
            raise Forbidden
        left = context.time_remaining()
        if left is not None:
            deadlines.set_budget(left)
        _context.set(self._forwarded(caller, method, metadata))
        return metadata

    def _certified(self, context: RpcContext) -> str:
        names = list(context.auth_context().get("x509_common_name", ()))
        return names[0].decode() if names else ""

    def _proven(self, method: str, metadata: dict[str, Any]) -> str:
        caller = str(metadata.get(CALLER, ""))
        try:
            self._keys.check(caller, self._process, method, str(metadata.get(PROOF, "")))
        except BadCallerProof as error:
            log.warning("rpc caller not proven", caller=caller[:64], method=method, reason=str(error))
            raise Unauthenticated("The caller is not proven.") from None
        return caller

    def _forwarded(self, caller: str, method: str, metadata: dict[str, Any]) -> CallerContext | None:
        header = metadata.get(CONTEXT)
        if header is None:
            return None
        try:
            return verify_context(str(header).encode(), self._keys.key(caller, self._process), "RPC", method)
        except (ContextRejected, BadCallerProof):
            raise Unauthenticated("The caller is not proven.") from None


class _Guarding:
    """The part of a server that the generated functions use; what they add is added guarded."""

    def __init__(self, server: grpc.aio.Server, guard: _Guard) -> None:
        self._server = server
        self._guard = guard

    def add_generic_rpc_handlers(self, _handlers: Any) -> None:
        """Nothing: the same methods are added by name, and without that they would not exist at all."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Add the methods of a service."""
        guarded = {
            name: self._guard.wrap(handler, f"/{service}/{name}") for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, guarded),))


async def abort_with(error: Exception, method: str, context: RpcContext) -> NoReturn:
    """Abort the RPC with what the error says, and count it; an unknown one says nothing and is logged."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, AppError):
        log.error("rpc failed", method=method, exc_info=error)
        error = InternalError()
    code = GRPC_STATUS[error.kind]
    HANDLED.labels(method, code.name).inc()
    await context.abort(code, error.detail, ((_DETAILS, _status(error, code)),))


def _status(error: AppError, code: grpc.StatusCode) -> bytes:
    metadata = {"kind": str(error.kind), "detail": error.detail}
    if error.retry_after is not None:
        metadata["retry_after"] = str(error.retry_after)
    if error.extra:
        metadata["extra"] = json.dumps(dict(error.extra))
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=metadata)
    packed = any_pb2.Any()
    packed.Pack(info)
    number = code_pb2.Code.Value(code.name)
    encoded: bytes = status_pb2.Status(
        code=number, message=error.detail, details=[packed]
    ).SerializeToString()
    return encoded


class Channel:
    """A connection to one service, for the stub classes: `SessionServiceStub(channel.for_stubs)`.

    `addresses` is `host:port`, comma separated for several, used in turn. Every call carries the caller's
    proof, the time that is left (at most five seconds unless `timeout` is given) and the trace.

    Without a connection a call waits for one, up to a second, so that a peer that starts anew is hardly
    noticed; nothing has been sent then, so this is right for every method. Who has another answer at hand
    does not wait: `wait_for_ready=False`.
    """

    def __init__(
        self, addresses: str, *, caller: str, callee: str, keys: InternalKeys, tls: TlsFiles | None = None
    ) -> None:
        """Remember the peer; `start` makes the channel, which connects at first use."""
        self._addresses = [address.strip() for address in addresses.split(",") if address.strip()]
        self._caller = caller
        self._callee = callee
        self._keys = keys
        self._tls = tls
        self._made: grpc.aio.Channel | None = None
        self._connecting: asyncio.Task[None] | None = None

    @property
    def for_stubs(self) -> grpc.aio.Channel:
        """This channel as the type that stubs are declared for; of its methods they call the two we have."""
        return cast("grpc.aio.Channel", self)

    async def start(self) -> None:
        """Make the channel. It must be made inside the event loop that uses it."""
        options = [
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", int(_LONGEST_BACKOFF_SECONDS * 1000)),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self._tls is None:
            self._made = grpc.aio.insecure_channel(self._target(), options)
            return
        credentials = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.certificate)
        self._made = grpc.aio.secure_channel(self._target(), credentials, options)

    async def stop(self) -> None:
        """Close it."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._made is not None:
            await self._made.close(grace=1)

    def unary_unary(self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        """Return the callable of one method; stubs call this when they are made."""
        made: list[Any] = []

        async def call(
            request: Any,
            timeout: float = _DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - gRPC's own parameter
            metadata: Metadata = (),
            *,
            wait_for_ready: bool = True,
        ) -> Any:
            channel = self._channel()
            if not made:
                made.append(channel.unary_unary(method, request_serializer, response_deserializer))
            is_ready = channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY
            if wait_for_ready and not is_ready:
                await self._await_connection(channel)
            try:
                return await made[0](
                    request,
                    timeout=deadlines.remaining(timeout),
                    metadata=(*self.metadata(method), *metadata),
                )
            except grpc.aio.AioRpcError as error:
                raise as_app_error(error) from error

        return call

    def unary_stream(self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        """Return the callable of one streaming method, an async iterator without a deadline."""

        async def call(request: Any, metadata: Metadata = ()) -> AsyncIterator[Any]:
            stream = self._channel().unary_stream(method, request_serializer, response_deserializer)
            answers = stream(request, metadata=(*self.metadata(method), *metadata))
            try:
                async for answer in answers:
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise as_app_error(error) from error
            finally:
                # Whoever leaves early leaves for good: the callee must not go on until this is collected.
                answers.cancel()

        return call

    def metadata(self, method: str) -> Metadata:
        """Return what every call carries."""
        trace: dict[str, str] = {}
        telemetry.inject(trace)
        proof = self._keys.prove(self._caller, self._callee, method)
        return ((CALLER, self._caller), (PROOF, proof), *trace.items())

    async def _await_connection(self, channel: grpc.aio.Channel) -> None:
        """Wait for a connection within the time that is left; whether one came, the call will see."""
        if self._connecting is None or self._connecting.done():
            # One for all who wait, without the context of the first: a watch cannot be taken back.
            self._connecting = asyncio.create_task(_connected(channel), context=Context())
        await asyncio.wait({self._connecting}, timeout=deadlines.remaining(_CONNECT_SECONDS))

    def _channel(self) -> grpc.aio.Channel:
        if self._made is None:
            raise Unavailable
        return self._made

    def _target(self) -> str:
        if len(self._addresses) == 1 and not self._addresses[0][0].isdigit():
            return f"dns:///{self._addresses[0]}"
        return f"ipv4:{','.join(self._addresses)}"


async def _connected(channel: grpc.aio.Channel) -> None:
    """Return when the channel has a connection."""
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)


def as_app_error(error: grpc.aio.AioRpcError) -> AppError:
    """Turn a failed call into what the callee raised, or into what its failure means for us."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            status = status_pb2.Status.FromString(
                value if isinstance(value, bytes) else value.encode("latin-1")
            )
            for packed in status.details:
                info = error_details_pb2.ErrorInfo()
                if packed.Unpack(info) and info.domain == DOMAIN:
                    return _remote(info)
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Unavailable()
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded()
        case _:
            log.error("rpc refused", code=error.code().name, details=error.details())
            return InternalError()


def _remote(info: error_details_pb2.ErrorInfo) -> AppError:
    retry_after, extra = info.metadata.get("retry_after"), info.metadata.get("extra")
    return RemoteError(
        Kind(info.metadata["kind"]),
        info.reason,
        info.metadata["detail"],
        int(retry_after) if retry_after else None,
        extra=json.loads(extra) if extra else None,
    )
