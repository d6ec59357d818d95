"""Calls to services that the operator chose: bounded in time and size, without redirects or proxies.

The addresses come from the configuration, so where they lead is not judged; addresses that tenants give are
for `chassis.public_http`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

_CHUNK = 16 * 1024


class OutboundFailed(Exception):
    """There was no answer in time, or none that can be used; the text is for the log."""


class OutboundClient:
    """An HTTP client of one process; only for services whose extra has `httpx`."""

    def __init__(self, *, timeout: float, max_answer: int) -> None:
        """Take the bounds of a whole exchange: seconds, and bytes of the answer."""
        self._timeout = timeout
        self._max_answer = max_answer
        self._http: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Nothing yet: the client is made at the first call, as many installations make none."""

    async def stop(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,  # noqa: ANN401 - any JSON value
        form: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request and return the body of its 200 answer.

        Raises:
            OutboundFailed: anything else.
        """
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, trust_env=False)
        body = b""
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(method, url, headers=headers, json=json, data=form) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    raise OutboundFailed(f"status {answer.status_code}")
                async for chunk in answer.aiter_bytes(_CHUNK):
                    body += chunk
                    if len(body) > self._max_answer:
                        raise OutboundFailed("the answer is too long")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise OutboundFailed(type(error).__name__) from error
        return body
