"""The HTTP face: every request passes the same few steps, in one order.

Path and method by contract, shape and size, caller, limit, then the owner: the gateway itself or a service.
A refusal at any step is a problem document with the request's id. Pure ASGI: this is the path of every
request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Histogram
from starlette.types import Receive, Scope, Send

from chassis import deadlines, telemetry
from chassis.context import Access, CallerContext
from chassis.errors import AppError, BodyTooLarge, InternalError, InvalidRequest, MethodNotAllowed, NotFound
from chassis.http import DURATION, REQUESTS
from contracts.topology import GATEWAY
from gateway import authz
from gateway.addresses import ClientAddresses
from gateway.answer import Answer, RawHeaders
from gateway.callers import Callers, Known
from gateway.contract import METHODS, Contract, Operation, Route, is_acceptable_query
from gateway.forward import ClientGone, Forwarder
from gateway.inbound import Inbound
from gateway.limits import Limits
from gateway.origins import Origins, Verdict
from gateway.protocol import CONNECTION, HardenedProtocol

log = structlog.get_logger()

_CLIENT_GONE: Final = 499

OwnHandler = Callable[[Inbound, CallerContext | None, Scope, Receive, Answer], Awaitable[None]]
"""Answers one of the gateway's own operations."""

PreflightCheck = Callable[[str, str], Awaitable[Verdict]]
"""Judges the origin of a preflight, which never carries a key, from an address."""


class GatewayFace:
    """The ASGI application."""

    def __init__(
        self,
        contract: Contract,
        *,
        addresses: ClientAddresses,
        callers: Callers,
        limits: Limits,
        origins: Origins,
        preflight: PreflightCheck,
        forwarder: Forwarder,
        own: Mapping[str, OwnHandler],
        security: RawHeaders,
        timeout: float,
    ) -> None:
        """Take the parts; `own` are the gateway's operations by path, `timeout` a request's seconds."""
        self._contract = contract
        self._addresses = addresses
        self._callers = callers
        self._limits = limits
        self._origins = origins
        self._preflight = preflight
        self._forwarder = forwarder
        self._own = own
        self._security = security
        self._timeout = timeout
        self._meters: dict[tuple[str, str, int], tuple[PrometheusCounter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        request = Inbound(scope, self._addresses)
        method = request.method  # a decision puts that of another request in its place
        answer = Answer(send, request.request_id, self._security)
        answer.closes_on_refusal = b"expect" in request.headers
        connection: HardenedProtocol | None = scope.get(CONNECTION)
        if connection is not None:
            connection.serving = asyncio.current_task()
        template = "unmatched"
        try:
            route = self._route(request)
            operation = self._operation(route, request)
            template = operation.template if operation else "preflight"
            answer.oauth_errors = operation is not None and operation.oauth_errors
            if operation is None:
                await self._answer_options(route, request, answer)
            else:
                await self._serve(operation, request, scope, receive, answer)
        except AppError as error:
            await answer.refuse(error, reader=self._reader(request))
        except ClientGone:
            answer.status = _CLIENT_GONE
        except asyncio.CancelledError:
            if connection is None or not connection.is_lost:
                raise
            answer.status = _CLIENT_GONE
        except Exception:
            log.exception("request failed", method=request.method, request_id=request.request_id)
            await answer.refuse(InternalError(), reader=self._reader(request))
        finally:
            if connection is not None:
                connection.serving = None
            self._measure(method, template, answer.status, time.perf_counter() - started)

    def _route(self, request: Inbound) -> Route:
        route = self._contract.find(request.path)
        if route is None and request.path.startswith(authz.PREFIX):
            return self._decision_route()
        if route is None:
            raise NotFound
        if request.query and not is_acceptable_query(request.query):
            raise InvalidRequest("The query holds a character that is not acceptable.")
        return route

    def _decision_route(self) -> Route:
        """Every path and method under the prefix is a request that a proxy asks about."""
        route = self._contract.find(authz.PATH)
        if route is None:
            raise NotFound
        decision = route.operations["GET"]
        return Route(dict.fromkeys((*METHODS, "HEAD", "OPTIONS"), decision))

    def _operation(self, route: Route, request: Inbound) -> Operation | None:
        """Return the operation that is asked for; None for OPTIONS."""
        operation = route.operations.get(request.method)
        if operation is None and request.method != "OPTIONS":
            raise MethodNotAllowed(headers=(("Allow", route.allow),))
        return operation

    async def _serve(
        self, operation: Operation, request: Inbound, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        request.check()
        if request.declared_length() > operation.body_limit:
            raise BodyTooLarge
        deadline = asyncio.get_running_loop().time() + self._timeout
        deadlines.set_budget(self._timeout)
        if operation.owner == GATEWAY and operation.access is Access.PUBLIC:
            # Probes and pages ask for nobody, so that they answer whatever is away.
            await self._own[operation.template](request, None, scope, receive, answer)
            return
        known = Known()
        try:
            caller = await self._callers.resolve(
                operation.access, request, known, for_enrollment=operation.for_enrollment
            )
        finally:
            if operation.is_for_every_page:
                known.verdict = self._origins.opened(known.verdict, request.origin)
            # Also on a refusal, so that a page can read why.
            answer.headers += self._origins.answer_headers(known.verdict, request.origin)
        answer.headers += await self._limits.check(operation.limit, caller)
        if operation.access is Access.ADMIN:
            self._callers.check_admin(caller, operation, request)
        if operation.owner == GATEWAY:
            await self._own[operation.template](request, caller, scope, receive, answer)
            return
        with telemetry.server_span(operation.template, {"traceparent": request.text(b"traceparent") or ""}):
            if not operation.is_endless:
                await self._forwarder.forward(operation, request, caller, receive, answer, deadline)
                return

            async def admit() -> None:
                await self._callers.resolve(operation.access, request, Known())

            await self._forwarder.stream(operation, request, caller, answer, deadline, admit)

    async def _answer_options(self, route: Route, request: Inbound, answer: Answer) -> None:
        """Answer a preflight, or a plain OPTIONS; neither reaches a service."""
        headers: RawHeaders = [(b"allow", route.allow.encode()), (b"cache-control", b"no-store")]
        origin = request.origin
        if origin is not None and b"access-control-request-method" in request.headers:
            verdict = await self._preflight(origin, request.ip)
            if all(operation.is_for_every_page for operation in route.operations.values()):
                verdict = self._origins.opened(verdict, origin)
            headers += self._origins.preflight_headers(verdict, origin, route.allow)
        await answer.begin(204, headers)
        await answer.body(b"")

    def _reader(self, request: Inbound) -> tuple[str, ...] | None:
        """Return the languages of the person who reads the answer; None where a program does."""
        is_read = request.wants_page and self._contract.is_for_people(request.path)
        return request.languages() if is_read else None

    def _measure(self, method: str, template: str, status: int, seconds: float) -> None:
        if template == "unmatched":
            method = "any"  # a label must not be a client's to choose
        meters = self._meters.get((method, template, status))
        if meters is None:
            meters = (REQUESTS.labels(method, template, status), DURATION.labels(method, template))
            self._meters[method, template, status] = meters
        meters[0].inc()
        meters[1].observe(seconds)
