"""The cheapest ASGI application: what uvicorn costs alone."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

_BODY = b"x" * 64


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 64 bytes."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"64")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})
