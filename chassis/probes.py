"""`/healthz`, `/readyz` and `/metrics` of every process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess
from starlette.types import Receive, Scope, Send

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_CHECK_SECONDS = 1.0
_KEEP_SECONDS = 0.5

Check = Callable[[], Awaitable[None]]


class Probes:
    """Answers whether the process lives, and whether each thing it needs does.

    `required` must work for the process to be ready; `optional` may be away (the process then does less), and
    is only named. Neither answer tells versions or addresses.

    What the checks found is kept for half a second and shared: anyone may ask a gateway, which asks every
    service, which asks its database.
    """

    def __init__(self, required: Mapping[str, Check], optional: Mapping[str, Check]) -> None:
        """Take the checks by name; a check raises when its dependency is away."""
        self._required = required
        self._optional = optional
        self._asking: asyncio.Task[dict[str, bool]] | None = None
        self._kept_until = 0.0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one of `PATHS`."""
        match scope["path"]:
            case "/healthz":
                await _send(send, 200, b'{"status":"ok"}')
            case "/readyz":
                ready, document = await self.readiness()
                await _send(send, 200 if ready else 503, json.dumps(document).encode())
            case _:
                await _send(send, 200, _metrics(), CONTENT_TYPE_LATEST.encode())

    async def readiness(self) -> tuple[bool, dict[str, object]]:
        """Return what the checks say; true when every required one passed and the process is not draining."""
        if self._asking is None or (self._asking.done() and time.monotonic() >= self._kept_until):
            # Without the context of whoever asks first: its deadline is not the others'.
            self._asking = asyncio.create_task(self._ask(), context=Context())
        results = await asyncio.shield(self._asking)
        ready = not self.draining and all(results[name] for name in self._required)
        status = "draining" if self.draining else "ready" if ready else "not_ready"
        return ready, {
            "status": status,
            "checks": {name: "ok" if ok else "away" for name, ok in results.items()},
        }

    async def _ask(self) -> dict[str, bool]:
        """Run all checks at once."""
        checks = {**self._required, **self._optional}
        passed = await asyncio.gather(*map(_passes, checks.values()))
        self._kept_until = time.monotonic() + _KEEP_SECONDS
        return dict(zip(checks, passed, strict=True))


class ProbeFace:
    """The ASGI application of the probe port: `PATHS`, and 404 for the rest."""

    def __init__(self, probes: Probes) -> None:
        """Take the probes to answer from."""
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] in PATHS and scope["method"] in {"GET", "HEAD"}:
            await self._probes(scope, receive, send)
        else:
            await _send(send, 404, b'{"status":"not_found"}')


async def _passes(check: Check) -> bool:
    try:
        await asyncio.wait_for(check(), _CHECK_SECONDS)
    except Exception:
        return False
    return True


def _metrics() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in prometheus_client
    return generate_latest(registry)


async def _send(send: Send, status: int, body: bytes, media_type: bytes = b"application/json") -> None:
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
