"""The HTTP face of a service: routes that declare what they need, and the ASGI base around them.

The gateway decides who calls; a service believes only its signature, checks the route's credential class
again, and bounds the body. All middleware is pure ASGI.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, TypeVar, Unpack

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import deadlines, idempotency, telemetry
from chassis.context import HEADER, Access, CallerContext, ContextRejected, verify_context
from chassis.errors import (
    AppError,
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    Kind,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    UnprocessableRequest,
)
from chassis.events import AccessRefused, AdminKeyUsed
from chassis.models import AnswerModel, field_error
from chassis.outbox import Outbox
from chassis.probes import Probes
from chassis.problems import problem
from chassis.whole_answers import write_answer

log = structlog.get_logger()

KIB = 1024
_BODY_LIMIT = {"GET": 0, "DELETE": 16 * KIB, "POST": 64 * KIB, "PUT": 64 * KIB, "PATCH": 64 * KIB}
_DEFAULT_BUDGET_SECONDS = 15.0
_MAX_SHOWN_PATH = 256
_BUDGET_HEADER = b"x-request-timeout-ms"

_CLIENT = "client_id"
WHOLE, LISTED = "all", "listed"
"""Scopes of admin routes beside the name of a path parameter: of the whole installation; or of whatever the
admin may see, by which the service itself narrows what it answers."""

REQUESTS = Counter("http_requests_total", "Requests answered.", ["method", "route", "status"])
DURATION = Histogram(
    "http_request_duration_seconds",
    "Time from a request's head to its answer's end.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


def _caller_of(request: Request) -> CallerContext:
    caller: CallerContext = request.scope["caller"]
    return caller


async def _caller(request: Request) -> CallerContext:
    # Asynchronous though it waits for nothing: FastAPI sends a plain function to another thread and back.
    return _caller_of(request)


Caller = Annotated[CallerContext, Depends(_caller)]
"""A handler's parameter for who is calling."""

_MAX_STEP_UP_TOKEN = 128


async def _step_up_token(
    request: Request,
    x_step_up_token: Annotated[
        str | None,
        Header(
            max_length=_MAX_STEP_UP_TOKEN,
            description="Proof for a protected action, as `POST /api/auth/step-up/verify` answered it. It "
            "may instead be the member `step_up_token` of a JSON body; never a parameter of the query.",
        ),
    ] = None,
) -> str | None:
    if x_step_up_token is not None:
        return x_step_up_token
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return None
    try:
        body = json.loads(await request.body() or b"null")
    except (ValueError, RecursionError):
        return None  # the body's own model says what is wrong with it
    token = body.get("step_up_token") if isinstance(body, dict) else None
    return token if isinstance(token, str) else None


StepUpToken = Annotated[str | None, Depends(_step_up_token)]
"""A handler's parameter for the proof that a protected action may need; it goes to the step-up guard."""


class BoundedRoute(APIRoute):
    """A route that checks the caller's class and bounds the body before FastAPI reads anything."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # narrower than Coroutine
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()
        declared: dict[str, Any] = self.openapi_extra or {}
        access, body_limit = Access(declared["x-access"]), int(declared["x-body-limit"])
        for_enrollment = bool(declared["x-enrollment"])
        for_impersonation = bool(declared["x-impersonation"])
        permission, admin_scope = declared.get("x-permission"), declared.get("x-scope", WHOLE)

        async def bounded(request: Request) -> Response:
            request.scope["oauth_errors"] = declared["x-errors"] == "oauth"
            caller = _caller_of(request)
            try:
                caller.check_access(
                    access, for_enrollment=for_enrollment, for_impersonation=for_impersonation
                )
                if access is Access.ADMIN:
                    _check_admin(request, permission, admin_scope)
            except AppError as error:
                await _record_refusal(request, caller, error)
                raise
            length = request.headers.get("content-length")
            if length is not None and int(length) > body_limit:
                raise BodyTooLarge
            request = Request(request.scope, _bound(request.receive, body_limit), request._send)  # noqa: SLF001 - Starlette offers no other way to keep `send`
            key = request.headers.get(idempotency.HEADER) if declared["x-idempotent"] else None
            if key is None:
                return await handle(request)
            kept: idempotency.Idempotency = request.app.state.idempotency
            return await kept.run(_caller_of(request), key, request, handle)

        return bounded


async def _record_refusal(request: Request, caller: CallerContext, error: AppError) -> None:
    """Put on record what people with rights over others were refused; others' requests are too many."""
    if caller.access is Access.ADMIN or caller.impersonator_id is not None:
        refused = AccessRefused(
            reason=error.code, method=request.method, path=request.scope["path"][:_MAX_SHOWN_PATH]
        )
        outbox: Outbox = request.app.state.outbox
        await outbox.append(refused, caller)


def _check_admin(request: Request, permission: str | None, scope: str) -> None:
    """Check what an admin may do and where; the gateway checked the former, and knows no path parameter."""
    caller = _caller_of(request)
    caller.check_permission(permission)
    if scope != LISTED:
        caller.check_client_scope(None if scope == WHOLE else request.path_params[scope])


Answer = Callable[[Request, bytes], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Shortcut:
    """The answer of a route at a third of the cost, for the hottest: given before FastAPI sees the request.

    `answer` gets the request and its body. It returns None for whatever it has no answer to, a body with a
    fault above all; the route's handler then gives one, and is also what the contract shows.
    """

    path: str
    access: Access
    body_limit: int
    for_impersonation: bool
    answer: Answer


def json_answer(answer: AnswerModel, carrier: Response | None = None) -> Response:
    """Return what FastAPI would make of a handler's answer; `carrier` has the cookies that were set."""
    response = Response(answer.model_dump_json(), media_type="application/json")
    if carrier is not None:
        response.raw_headers += [pair for pair in carrier.raw_headers if pair[0] == b"set-cookie"]
    return response


class Operation(TypedDict, total=False):
    """What a route may declare beside its credential class.

    `limit` names the rate-limit class, `body_limit` is in bytes, `idempotent` routes honour
    `Idempotency-Key`, `enrollment` routes accept a token that is for the set-up of a second factor only,
    `impersonation` ones a session in the user's name (unless said otherwise, all that only read),
    `permission` is what an admin needs for it (`contracts.admin_roles`; none of them may call a route that
    declares none), `scope` where: the path parameter that names the client, or `WHOLE` or `LISTED`. Without
    it that is `client_id` where the path has it, and else the whole installation.
    `shortcut` answers without FastAPI (see `Shortcut`; the path has no parameters, and the route is not
    idempotent). `endless` routes answer an `EventStream`, which the gateway lets go on for as long as the
    caller may have it. `oauth_errors` routes refuse as OAuth does, by default those of its credential class;
    `request_body` is the contract's word on a body that the handler reads by itself. The rest is FastAPI's.
    """

    shortcut: Answer

    limit: str
    body_limit: int
    idempotent: bool
    enrollment: bool
    oauth_errors: bool
    impersonation: bool
    endless: bool
    permission: str
    scope: str
    status_code: int
    response_model: Any
    response_class: type[Response]
    request_body: dict[str, Any]
    responses: dict[int | str, dict[str, Any]]


Handler = TypeVar("Handler", bound=Callable[..., Any])


class Router:
    """Collects the routes of one slice; each must declare its credential class.

    What a route declares is written into its operation of the contract (`x-access`, `x-limit`,
    `x-body-limit`, `x-idempotent`, `x-enrollment`, `x-impersonation`, of admin routes `x-permission` and
    `x-scope`, of endless ones `x-endless`), which is all the gateway needs to know.
    """

    def __init__(self, *, tag: str) -> None:
        """Group the routes under one tag of the contract."""
        self.fastapi = APIRouter(tags=[tag], route_class=BoundedRoute)
        self.shortcuts: dict[tuple[str, str], Shortcut] = {}

    def get(self, path: str, *, access: Access, **options: Unpack[Operation]) -> Callable[[Handler], Handler]:
        """Declare a GET."""
        return self._declare("GET", path, access, options)

    def post(
        self, path: str, *, access: Access, **options: Unpack[Operation]
    ) -> Callable[[Handler], Handler]:
        """Declare a POST."""
        return self._declare("POST", path, access, options)

    def put(self, path: str, *, access: Access, **options: Unpack[Operation]) -> Callable[[Handler], Handler]:
        """Declare a PUT."""
        return self._declare("PUT", path, access, options)

    def patch(
        self, path: str, *, access: Access, **options: Unpack[Operation]
    ) -> Callable[[Handler], Handler]:
        """Declare a PATCH."""
        return self._declare("PATCH", path, access, options)

    def delete(
        self, path: str, *, access: Access, **options: Unpack[Operation]
    ) -> Callable[[Handler], Handler]:
        """Declare a DELETE."""
        return self._declare("DELETE", path, access, options)

    def _declare(
        self, method: str, path: str, access: Access, options: Operation
    ) -> Callable[[Handler], Handler]:
        body_limit = options.pop("body_limit", _BODY_LIMIT[method])
        for_impersonation = options.pop("impersonation", method == "GET")
        extra: dict[str, Any] = {
            "x-access": str(access),
            "x-limit": options.pop("limit", "default"),
            "x-body-limit": body_limit,
            "x-idempotent": options.pop("idempotent", False),
            "x-enrollment": options.pop("enrollment", False),
            "x-errors": "oauth" if options.pop("oauth_errors", access is Access.OAUTH) else "problem",
            "x-impersonation": for_impersonation,
        }
        if options.pop("endless", False):
            extra["x-endless"] = True
        permission = options.pop("permission", None)
        scope = options.pop("scope", _CLIENT if f"{{{_CLIENT}}}" in path else WHOLE)
        if access is Access.ADMIN:
            extra |= {"x-scope": scope} | ({"x-permission": permission} if permission else {})
        if "request_body" in options:
            extra["requestBody"] = options.pop("request_body")
        shortcut = options.pop("shortcut", None)
        if shortcut is not None:
            self.shortcuts[method, path] = Shortcut(path, access, body_limit, for_impersonation, shortcut)
        return self.fastapi.api_route(
            path, methods=[method], openapi_extra=extra, **dict[str, Any](**options)
        )


def build_api(service: str, routers: list[Router], kept: idempotency.Idempotency, outbox: Outbox) -> FastAPI:
    """Return the FastAPI application of a service, with every error rendered as a problem document."""
    api = FastAPI(title=f"AuthService {service}", docs_url=None, redoc_url=None, openapi_url=None)
    api.state.idempotency = kept
    api.state.outbox = outbox
    for router in routers:
        api.include_router(router.fastapi)
    api.add_exception_handler(AppError, _render)
    api.add_exception_handler(RequestValidationError, _render)
    api.add_exception_handler(HTTPException, _render)
    # Starlette answers with it and raises again, so that `ServiceFace` logs the stack.
    api.add_exception_handler(Exception, _render)
    return api


class ServiceFace:
    """The ASGI base around a service's API: caller, deadline, errors, metrics, span and security headers.

    `probe` paths are answered by `probes` without a caller; everything else needs a context signed by the
    gateway.
    """

    def __init__(
        self,
        api: ASGIApp,
        *,
        key: bytes,
        probes: Probes,
        probe_paths: frozenset[str],
        outbox: Outbox,
        shortcuts: Mapping[tuple[str, str], Shortcut],
    ) -> None:
        """Take the API and the key that the gateway signs with for this service."""
        self._api = api
        self._shortcuts = shortcuts
        self._outbox = outbox
        self._key = key
        self._probes = probes
        self._probe_paths = probe_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if scope["path"] in self._probe_paths:
            await self._probes(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send)
        headers = dict(scope["headers"])
        try:
            caller = self._verify(scope, headers)
            scope["caller"] = caller
            scope["probes"] = self._probes
            answer.request_id = caller.request_id
            deadlines.set_budget(_budget(headers.get(_BUDGET_HEADER)))
            if caller.is_break_glass:
                await self._outbox.append(AdminKeyUsed(method=scope["method"], path=scope["path"]), caller)
            with (
                structlog.contextvars.bound_contextvars(request_id=caller.request_id),
                telemetry.server_span(
                    scope["path"], {"traceparent": headers.get(b"traceparent", b"").decode("latin-1")}
                ),
            ):
                shortcut = self._shortcuts.get((scope["method"], scope["path"]))
                if shortcut is None:
                    await self._api(scope, receive, answer.send)
                else:
                    await self._cut_short(shortcut, scope, receive, answer)
        except AppError as error:
            await answer.refuse(error)
        except Exception:
            log.exception(
                "request failed", method=scope["method"], path=scope["path"], request_id=answer.request_id
            )
            await answer.refuse(InternalError())
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            REQUESTS.labels(scope["method"], route, answer.status).inc()
            DURATION.labels(scope["method"], route).observe(time.perf_counter() - started)

    async def _cut_short(self, shortcut: Shortcut, scope: Scope, receive: Receive, answer: _Answer) -> None:
        answer.oauth_errors = shortcut.access is Access.OAUTH
        scope["caller"].check_access(shortcut.access, for_impersonation=shortcut.for_impersonation)
        scope["route"] = shortcut
        body: bytes | None = b""
        if shortcut.body_limit:
            body, receive = await _take(receive, shortcut.body_limit)
        response = None if body is None else await shortcut.answer(Request(scope), body)
        if response is None:
            await self._api(scope, receive, answer.send)
        else:
            await answer.whole(response)

    def _verify(self, scope: Scope, headers: dict[bytes, bytes]) -> CallerContext:
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        try:
            return verify_context(headers.get(HEADER, b""), self._key, scope["method"], target)
        except ContextRejected as error:
            log.warning("caller context refused", reason=str(error), path=scope["path"])
            raise Unauthenticated("This port answers the gateway only.") from None


class _Answer:
    """What has been sent of an answer, so that a late failure cannot start a second one."""

    __slots__ = ("_send", "_started", "oauth_errors", "request_id", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = False
        self.request_id = ""
        self.oauth_errors = False
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            _complete_headers(message.setdefault("headers", []))
        await self._send(message)

    async def whole(self, response: Response) -> None:
        """Send what is at hand as a whole."""
        _complete_headers(response.raw_headers)
        body = bytes(response.body)
        if write_answer(self._send, response.status_code, response.raw_headers, body):
            self._started = True
            self.status = response.status_code
            return
        headers = response.raw_headers
        await self.send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, error: AppError) -> None:
        if self._started:
            return
        status, headers, body = problem(error, self.request_id, oauth=self.oauth_errors)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _complete_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Add what every answer has."""
    names = {name for name, _ in headers}
    if b"cache-control" not in names:
        headers.append((b"cache-control", b"no-store"))
    if b"x-content-type-options" not in names:
        headers.append((b"x-content-type-options", b"nosniff"))


def _bound(receive: Receive, limit: int) -> Receive:
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > limit:
                raise BodyTooLarge
        return message

    return bounded


async def _take(receive: Receive, limit: int) -> tuple[bytes | None, Receive]:
    """Return the whole body, None when the peer left before its end, and a `receive` that gives it again."""
    bounded = _bound(receive, limit)
    messages = [await bounded()]
    while messages[-1].get("more_body", False):
        messages.append(await bounded())
    whole = messages[-1]["type"] == "http.request"
    body = b"".join(message.get("body", b"") for message in messages) if whole else None
    kept = iter(messages)

    async def again() -> Message:
        message = next(kept, None)
        return await receive() if message is None else message

    return body, again


async def _render(request: Request, error: Exception) -> Response:
    refusal = _as_app_error(error)
    if isinstance(error, AppError) and error.kind is Kind.INTERNAL:
        log.error("request failed", code=error.code, detail=error.detail)
    caller: CallerContext | None = request.scope.get("caller")
    oauth = request.scope.get("oauth_errors", False)
    status, headers, body = problem(refusal, caller.request_id if caller else "", oauth=oauth)
    response = Response(body, status_code=status)
    response.raw_headers = headers
    return response


def _as_app_error(error: Exception) -> AppError:
    match error:
        case AppError():
            return error
        case RequestValidationError():
            return UnprocessableRequest(
                errors=tuple(field_error(fault, fault["loc"][1:] or fault["loc"]) for fault in error.errors())
            )
        case HTTPException(status_code=404):
            return NotFound()
        case HTTPException(status_code=405):
            return MethodNotAllowed()
        case HTTPException():
            return InvalidRequest()
        case _:
            return InternalError()


def _budget(header: bytes | None) -> float:
    if header is None or not header.isdigit() or len(header) > len("999999"):
        return _DEFAULT_BUDGET_SECONDS
    return int(header) / 1000
