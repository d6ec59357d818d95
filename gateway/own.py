"""The gateway's own operations, and how the contract describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Receive, Scope

from chassis.context import Access, CallerContext
from chassis.errors import NotFound
from chassis.events import AdminKeyUsed
from chassis.http import WHOLE
from chassis.probes import Probes
from gateway.answer import Answer
from gateway.authz import Decisions
from gateway.contract import Contract
from gateway.docs import DocsPages
from gateway.face import OwnHandler
from gateway.inbound import Inbound
from gateway.limits import UNLIMITED
from gateway.refusals import AuditQueue

_TAG: Final = "Operation"


def _operation(
    summary: str,
    description: str,
    *,
    media: str = "application/json",
    access: Access = Access.PUBLIC,
    limit: str = UNLIMITED,
    permission: str | None = None,
    responses: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    ok = {"description": "OK", "content": {media: {"schema": {"type": _SHAPES.get(media, "string")}}}}
    return {
        "get": {
            "tags": [_TAG],
            "summary": summary,
            "description": description,
            "operationId": summary.lower().replace(" ", "_").replace("-", "_"),
            "responses": {"200": ok, **(responses or {})},
            "x-access": str(access),
            "x-limit": limit,
            "x-body-limit": 0,
            "x-idempotent": False,
            "x-owner": "gateway",
            **({"x-permission": permission, "x-scope": WHOLE} if permission else {}),
        }
    }


_SHAPES: Final = {"application/json": "object", "application/yaml": "object"}

OWN_PATHS: Final[dict[str, Any]] = {
    "/healthz": _operation("Liveness", "The process lives. Asks nothing else."),
    "/readyz": _operation(
        "Readiness",
        "Names each dependency; 503 while the gateway must not be sent requests.",
        responses={"503": {"description": "Not ready; the body names what is missing."}},
    ),
    "/metrics": _operation(
        "Metrics", "Metrics of this process in Prometheus' format.", media="text/plain; version=0.0.4"
    ),
    "/api/admin/metrics": _operation(
        "Metrics for admins",
        "The same metrics, for where `/metrics` is not exposed.",
        media="text/plain; version=0.0.4",
        access=Access.ADMIN,
        limit="admin",
        permission="metrics:read",
        responses={"503": {"description": "The use of the admin key cannot be recorded now."}},
    ),
    "/_authz": _operation(
        "Decision for proxies",
        "For nginx `auth_request`, Traefik ForwardAuth and Envoy's HTTP `ext_authz`: judges `X-API-Key` and "
        "`Authorization` of the request that is asked about, and answers who is calling in "
        "`X-Auth-Client-Id`, `X-Auth-User-Id`, `X-Auth-Session-Id`, `X-Auth-Role`, `X-Auth-Scope` and, when "
        "an admin acts in the user's name, `X-Auth-Impersonator-Id`. "
        "Refuses with 401, 403 or 429. `?require=api_key` asks for the client alone. The proxy must delete "
        "these headers from what its clients send.",
    ),
    "/docs": _operation("Documentation", "This contract as a page.", media="text/html"),
    "/docs/errors": _operation("Errors", "Every error code, its status and its meaning.", media="text/html"),
    "/docs/openapi.json": _operation("OpenAPI as JSON", "This contract."),
    "/docs/openapi.yaml": _operation("OpenAPI as YAML", "This contract.", media="application/yaml"),
}


def own_handlers(
    contract: Contract, probes: Probes, audit: AuditQueue, decisions: Decisions, *, expose_metrics: bool
) -> dict[str, OwnHandler]:
    """Return the handler of each path in `OWN_PATHS`."""
    pages = DocsPages(contract.document)

    async def probe(
        request: Inbound, caller: CallerContext | None, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        if request.path == b"/metrics" and not expose_metrics:
            raise NotFound
        await probes(scope, receive, answer.send)

    async def admin_metrics(
        request: Inbound, caller: CallerContext | None, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        if caller is not None and caller.is_break_glass:
            used = AdminKeyUsed(method=request.method, path=request.path.decode())
            await audit.record_now(used, caller)
        answer.headers.append((b"vary", b"X-Admin-Key"))
        await probes({**scope, "path": "/metrics"}, receive, answer.send)

    async def docs(
        request: Inbound, caller: CallerContext | None, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        await pages.serve(request.path.decode(), answer)

    return {
        "/healthz": probe,
        "/readyz": probe,
        "/metrics": probe,
        "/api/admin/metrics": admin_metrics,
        "/_authz": decisions.answer,
        "/docs": docs,
        "/docs/errors": docs,
        "/docs/openapi.json": docs,
        "/docs/openapi.yaml": docs,
    }
