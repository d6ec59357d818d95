"""Forwards a request to its owner: body in, signed caller along, answer out, nothing held longer than needed.

The body is read up to 64 KiB before the service is called, so that a slow client holds no connection of a
service; a longer one streams. It is counted as it comes and cut at the route's limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import structlog
from prometheus_client import Counter, Gauge
from starlette.types import Receive

from chassis import telemetry
from chassis.context import HEADER, Access, CallerContext, sign_context
from chassis.errors import (
    AppError,
    BodyTooLarge,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    Unauthenticated,
    Unavailable,
)
from chassis.probes import Probes
from gateway.answer import Answer, RawHeaders, is_forwarded
from gateway.contract import Operation
from gateway.inbound import Inbound
from gateway.upstream import (
    Upstream,
    UpstreamError,
    UpstreamRequestError,
    UpstreamResponse,
    UpstreamTimeout,
)

log = structlog.get_logger()

_READ_AHEAD: Final = 64 * 1024
_PROOFS: Final = (b"authorization", b"dpop")
_STREAM_IDLE_SECONDS: Final = 60.0
_ENDLESS_IDLE_SECONDS: Final = 5.0
_ADMIT_EVERY_SECONDS: Final = 1.0
_ADMIT_WITHIN_SECONDS: Final = 0.5

FAILED = Counter("gateway_upstream_failures_total", "Requests without an answer.", ["service", "why"])
STREAMS = Gauge("gateway_streams", "Endless HTTP streams now.", multiprocess_mode="livesum")


class ServiceUnavailable(Unavailable):
    """The service that owns the route is away."""

    code = "service_unavailable"


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Forwarder:
    """Knows the services by name."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        for_streams: Mapping[str, Upstream],
        keys: Mapping[str, bytes],
        probes: Probes,
    ) -> None:
        """Take a client for requests, one for endless streams and a signing key, per service."""
        self._upstreams = upstreams
        self._for_streams = for_streams
        self._keys = keys
        self._probes = probes

    async def forward(
        self,
        operation: Operation,
        request: Inbound,
        caller: CallerContext,
        receive: Receive,
        answer: Answer,
        deadline: float,
    ) -> None:
        """Forward and answer; `deadline` is the loop's time.

        Raises:
            BodyTooLarge: the body is longer than the route takes.
            ServiceUnavailable: the service is away, or broke off before its answer began.
            DeadlineExceeded: the time is over.
        """
        body = await _read(request, receive, operation.body_limit, deadline)
        # HEAD is a GET whose body stays here: services need not know it.
        method = operation.method
        headers = self._headers(operation, method, request, caller, deadline)
        try:
            response = await self._upstreams[operation.owner].request(
                method.encode(), request.target, headers, body, deadline
            )
        except UpstreamError as error:
            raise _as_app_error(error, operation.owner) from error
        try:
            await _answer(response, answer, operation.owner, is_head=request.method == "HEAD")
        finally:
            await response.aclose()

    async def stream(
        self,
        operation: Operation,
        request: Inbound,
        caller: CallerContext,
        answer: Answer,
        deadline: float,
        admit: Callable[[], Awaitable[None]],
    ) -> None:
        """Forward an endless stream, for as long as its caller is admitted and this process serves.

        `deadline` is for its beginning alone; from then on it ends when the service has said nothing for
        five seconds. `admit` raises `Unauthenticated` or `Forbidden` when the caller has lost its right, and
        is asked every second.

        Raises:
            ServiceUnavailable: the service is away, or there are as many streams as there may be.
            DeadlineExceeded: it did not begin in time.
        """
        if self._probes.draining:
            raise Unavailable("This process is stopping. Begin the stream anew.")
        headers = self._headers(operation, operation.method, request, caller, deadline)
        try:
            response = await self._for_streams[operation.owner].request(
                operation.method.encode(), request.target, headers, None, deadline
            )
        except UpstreamError as error:
            raise _as_app_error(error, operation.owner) from error
        try:
            is_head = request.method == "HEAD"
            if response.status != HTTPStatus.OK or is_head:
                await _answer(response, answer, operation.owner, is_head=is_head)
                return
            await answer.begin(response.status, _forwarded(response))
            with STREAMS.track_inprogress():
                await self._pass_on(response, answer, operation.owner, admit)
            await answer.body(b"")
        finally:
            await response.aclose()

    async def _pass_on(
        self,
        response: UpstreamResponse,
        answer: Answer,
        owner: str,
        admit: Callable[[], Awaitable[None]],
    ) -> None:
        """Return when the stream has ended, or must. Its parts come at least once a second."""
        now = asyncio.get_running_loop().time
        admit_at = now() + _ADMIT_EVERY_SECONDS
        try:
            async for part in response.body():
                response.set_deadline(now() + _ENDLESS_IDLE_SECONDS)
                if now() >= admit_at:
                    if self._probes.draining or not await _is_admitted(admit):
                        return
                    admit_at = now() + _ADMIT_EVERY_SECONDS
                await answer.body(part, more=True)
        except UpstreamError as error:
            # The peer begins anew; a stream that was cut would tell it no more than one that ended.
            _as_app_error(error, owner)

    def _headers(
        self, operation: Operation, method: str, request: Inbound, caller: CallerContext, deadline: float
    ) -> list[tuple[bytes, bytes]]:
        headers = request.forwarded_headers()
        if request.method == "HEAD":
            # The owner is asked for a GET, and must not take it for somebody who has opened the page.
            headers = [pair for pair in headers if pair[0] != b"sec-purpose"]
            headers.append((b"sec-purpose", b"prefetch"))
        if operation.access is Access.OAUTH:
            # The client's own, which only the owner can check.
            headers += [(name, request.headers[name]) for name in _PROOFS if name in request.headers]
        context = sign_context(caller, self._keys[operation.owner], method, request.target.decode("ascii"))
        left = deadline - asyncio.get_running_loop().time()
        headers.append((HEADER, context))
        headers.append((b"x-request-timeout-ms", b"%d" % max(1, int(left * 1000))))
        trace: dict[str, str] = {}
        telemetry.inject(trace)
        if trace:
            headers = [pair for pair in headers if pair[0] not in (b"traceparent", b"tracestate")]
            headers += [(name.encode(), value.encode()) for name, value in trace.items()]
        return headers


async def _read(
    request: Inbound, receive: Receive, limit: int, deadline: float
) -> bytes | AsyncIterator[bytes] | None:
    """Return the whole body when it is short, else a stream of it."""
    if not request.has_body:
        return None
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout_at(deadline):
            while size <= _READ_AHEAD:
                part, more = await _next(receive)
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise BodyTooLarge
                if not more:
                    return b"".join(parts)
    except TimeoutError:
        raise DeadlineExceeded("The body did not arrive in time.") from None
    return _stream(b"".join(parts), receive, limit)


async def _stream(begun: bytes, receive: Receive, limit: int) -> AsyncIterator[bytes]:
    size = len(begun)
    yield begun
    more = True
    while more:
        part, more = await _next(receive)
        size += len(part)
        if size > limit:
            raise BodyTooLarge
        if part:
            yield part


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


async def _answer(response: UpstreamResponse, answer: Answer, owner: str, *, is_head: bool) -> None:
    headers = _forwarded(response)
    if response.content is not None or is_head:
        await answer.complete(response.status, headers, b"" if is_head else response.content or b"")
        return
    await answer.begin(response.status, headers)
    loop = asyncio.get_running_loop()
    try:
        async for part in response.body():
            response.set_deadline(loop.time() + _STREAM_IDLE_SECONDS)
            await answer.body(part, more=True)
    except UpstreamError as error:
        raise _as_app_error(error, owner) from error
    await answer.body(b"")


async def _is_admitted(admit: Callable[[], Awaitable[None]]) -> bool:
    """Whether the caller of a stream may go on having it; what cannot be told now changes nothing."""
    try:
        async with asyncio.timeout(_ADMIT_WITHIN_SECONDS):
            await admit()
    except (Unauthenticated, Forbidden):
        return False
    except (TimeoutError, AppError):
        log.warning("it cannot be told whose stream this is")
    return True


def _forwarded(response: UpstreamResponse) -> RawHeaders:
    nominated = _nominated(response.headers)
    return [pair for pair in response.headers if is_forwarded(pair[0]) and pair[0] not in nominated]


def _nominated(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The headers that a service's `Connection` declares hop-by-hop; mostly none."""
    for name, value in headers:
        if name == b"connection":
            return frozenset(part.strip().lower() for part in value.split(b","))
    return frozenset()


def _as_app_error(error: UpstreamError, owner: str) -> AppError:
    match error:
        case UpstreamRequestError():
            return InvalidRequest()
        case UpstreamTimeout():
            FAILED.labels(owner, "timeout").inc()
            return DeadlineExceeded()
        case _:
            why = type(error).__name__
            FAILED.labels(owner, why).inc()
            log.warning("service did not answer", service=owner, why=why, cause=repr(error.__cause__))
            return ServiceUnavailable()
