"""A service that records each request as it arrived, and a contract whose routes it owns."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from gateway.own import OWN_PATHS

KIB = 1024


def _operation(
    access: str, *, limit: str = "default", body: int = 0, parameters: tuple[Any, ...] = ()
) -> dict[str, Any]:
    return {
        "operationId": "echo",
        "x-access": access,
        "x-limit": limit,
        "x-body-limit": body,
        "x-owner": "identity",
        "responses": {},
        "parameters": list(parameters),
    }


_ID = ({"name": "id", "in": "path", "schema": {"type": "string", "format": "uuid"}},)
_KEY = ({"name": "key", "in": "path", "schema": {"type": "string"}},)
_PAGE = {"200": {"content": {"text/html": {"schema": {"type": "string"}}}}}

ECHO_CONTRACT: dict[str, Any] = {
    "paths": {
        **OWN_PATHS,
        "/echo/public": {
            "get": _operation("public"),
            "post": _operation("public", body=64 * KIB),
        },
        "/echo/large": {"post": _operation("public", body=64 * KIB * KIB)},
        "/echo/key": {
            "get": _operation("api_key"),
            "post": _operation("api_key", body=64 * KIB),
            "delete": _operation("api_key", body=16 * KIB),
        },
        "/echo/user": {"get": _operation("user"), "post": _operation("user", body=64 * KIB)},
        "/echo/login": {"post": _operation("api_key", limit="login", body=16 * KIB)},
        "/echo/oauth": {"post": {**_operation("oauth", body=64 * KIB), "x-errors": "oauth"}},
        "/echo/admin": {"get": _operation("admin", limit="admin")},
        "/echo/things/{id}": {"get": _operation("public", parameters=_ID)},
        "/echo/things/{id}/close": {"post": _operation("public", parameters=_ID)},
        "/page": {
            "get": {**_operation("public"), "responses": _PAGE},
            "post": {**_operation("public", limit="login", body=4 * KIB), "responses": _PAGE},
        },
        "/echo/things/special": {"get": _operation("public")},
        "/echo/roles/{key}": {"get": _operation("public", parameters=_KEY)},
    }
}


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request as the service got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    size: int

    def header(self, name: str) -> str | None:
        """A header's only value."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) <= 1, f"{name} arrived {len(values)} times"
        return values[0] if values else None


@dataclass(slots=True)
class Echo:
    """The ASGI application. `answer_headers` and `hold` let a test shape the answers."""

    url: str = ""
    arrived: list[Arrived] = field(default_factory=list)
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    waiting: int = 0
    left: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read all, record, answer."""
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        if target != b"/readyz":
            self.arrived.append(Arrived(scope["method"], target.decode("latin-1"), headers, size))
        if self.hold is not None and target != b"/readyz":
            await self._wait(receive)
        body = json.dumps({"method": scope["method"], "target": target.decode(), "size": size}).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head + self.answer_headers})
        await send({"type": "http.response.body", "body": body})

    async def _wait(self, receive: Receive) -> None:
        """Hold the answer until the test lets it go, or the caller leaves."""
        assert self.hold is not None
        self.waiting += 1
        gone = asyncio.ensure_future(receive())
        released = asyncio.create_task(self.hold.wait())
        done, pending = await asyncio.wait([gone, released], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        self.left += gone in done
        self.waiting -= 1

    def last(self) -> Arrived:
        """The newest request."""
        return self.arrived[-1]
