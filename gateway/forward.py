"""Forwards a request to its owner: body in, signed caller along, answer out, nothing held longer than needed.

The body is read up to 64 KiB before the service is called, so that a slow client holds no connection of a
service; a longer one streams. It is counted as it comes and cut at the route's limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import structlog
from prometheus_client import Counter
from starlette.types import Receive

from chassis import telemetry
from chassis.context import HEADER, Access, CallerContext, sign_context
from chassis.errors import AppError, BodyTooLarge, DeadlineExceeded, InvalidRequest, Unavailable
from gateway.answer import Answer, is_forwarded
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
_STREAM_IDLE_SECONDS: Final = 60.0

FAILED = Counter("gateway_upstream_failures_total", "Requests without an answer.", ["service", "why"])


class ServiceUnavailable(Unavailable):
    """The service that owns the route is away."""

    code = "service_unavailable"


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Forwarder:
    """Knows the services by name."""

    def __init__(self, upstreams: Mapping[str, Upstream], keys: Mapping[str, bytes]) -> None:
        """Take a client and a signing key per service."""
        self._upstreams = upstreams
        self._keys = keys

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

    def _headers(
        self, operation: Operation, method: str, request: Inbound, caller: CallerContext, deadline: float
    ) -> list[tuple[bytes, bytes]]:
        headers = request.forwarded_headers()
        if request.method == "HEAD":
            # The owner is asked for a GET, and must not take it for somebody who has opened the page.
            headers = [pair for pair in headers if pair[0] != b"sec-purpose"]
            headers.append((b"sec-purpose", b"prefetch"))
        if operation.access is Access.OAUTH and (credentials := request.headers.get(b"authorization")):
            # The client's own, which only the owner can check.
            headers.append((b"authorization", credentials))
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
    nominated = _nominated(response.headers)
    headers = [pair for pair in response.headers if is_forwarded(pair[0]) and pair[0] not in nominated]
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
