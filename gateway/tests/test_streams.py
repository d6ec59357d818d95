"""The HTTP stream of revocations through the gateway: at once, for whoever may have it, as long as it may."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from gateway.tests.people import Person, sign_up
from gateway.tests.running import RunningGateway, running_gateway
from tests.harness import System, Tenant

PATH = "/api/revocations/stream"
STREAMS_OF_CLIENT = 20


class Stream:
    """A stream, and what it has said."""

    def __init__(self, answer: httpx.Response) -> None:
        """Take an answer that has begun."""
        self.answer = answer
        self._lines = answer.aiter_lines()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.pings = 0

    async def until(self, event: str, **members: Any) -> dict[str, Any]:
        """Read until an event with these members was said."""
        async with asyncio.timeout(5):
            while True:
                for name, data in self.events:
                    if name == event and members.items() <= data.items():
                        return data
                await self._read()

    async def end(self) -> None:
        """Read to the end."""
        async with asyncio.timeout(5):
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    await self._read()

    async def ping(self) -> None:
        """Read a sign of life."""
        seen = self.pings
        while self.pings == seen:
            await self._read()

    async def _read(self) -> None:
        line = await anext(self._lines)
        if line.startswith(":"):
            self.pings += 1
        elif line.startswith("event: "):
            data = await anext(self._lines)
            self.events.append((line.removeprefix("event: "), json.loads(data.removeprefix("data: "))))


@contextlib.asynccontextmanager
async def streaming(gateway: RunningGateway, api_key: str) -> AsyncIterator[Stream]:
    """A stream that has told what is in force."""
    headers = {"x-api-key": api_key}
    async with gateway.client.stream("GET", PATH, headers=headers, timeout=10) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        stream = Stream(answer)
        await stream.until("synced")
        yield stream


async def log_out(gateway: RunningGateway, person: Person) -> None:
    """End the session."""
    body = {"refresh_token": person.refresh_token}
    answer = await gateway.client.post("/api/auth/logout", headers=person.headers, json=body)
    assert answer.status_code == 204, answer.text


async def test_stream_when_a_session_ends_then_says_so_within_a_second_and_only_to_its_tenant(
    system: System, gateway: RunningGateway, tenant: Tenant
) -> None:
    before, after = await sign_up(gateway, tenant), await sign_up(gateway, tenant)
    await log_out(gateway, before)
    other = await system.tenant()
    async with streaming(gateway, tenant.api_key) as mine, streaming(gateway, other.api_key) as others:
        assert {data.get("ref") for _, data in mine.events} == {before.session_id, None}
        assert mine.events[-1][0] == "synced"
        me = await gateway.client.get("/api/auth/me", headers=after.headers)
        assert me.status_code == 200
        started = time.monotonic()
        await log_out(gateway, after)
        told = await mine.until("revocation", kind="session", ref=after.session_id)
        assert time.monotonic() - started < 1
        assert told.keys() == {"kind", "ref", "at", "expires_at"}
        assert told["expires_at"] > system.clock.now().timestamp()
        await mine.ping()
        await others.ping()
        assert others.events == [("synced", {})]


@pytest.mark.parametrize("kind", ["publishable", "unknown", "none"])
async def test_stream_when_the_key_is_not_a_servers_then_refused(
    gateway: RunningGateway, tenant: Tenant, kind: str
) -> None:
    keys = {"publishable": {"x-api-key": tenant.publishable_key}, "unknown": {"x-api-key": "ask_none"}}
    answer = await gateway.client.get(PATH, headers=keys.get(kind, {}), timeout=5)
    expected = (403, "forbidden") if kind == "publishable" else (401, "invalid_api_key")
    assert (answer.status_code, answer.json()["code"]) == expected


async def test_stream_when_its_key_is_revoked_or_its_client_suspended_then_ends(
    system: System, gateway: RunningGateway, tenant: Tenant
) -> None:
    path = f"/api/admin/clients/{tenant.id}"
    async with streaming(gateway, tenant.api_key) as old:
        await old.ping()
        rotated = await system.call("orgs", "POST", f"{path}/rotate-key", caller=system.admin(), json={})
        assert rotated.status == 200, rotated.body
        await old.end()
    async with streaming(gateway, rotated.json["api_key"]) as new:
        await new.ping()
        suspended = {"status": "suspended"}
        assert (await system.call("orgs", "PATCH", path, caller=system.admin(), json=suspended)).status == 200
        await new.end()
    refused = await gateway.client.get(PATH, headers={"x-api-key": rotated.json["api_key"]})
    assert refused.status_code == 401


async def test_stream_when_there_are_as_many_as_may_be_then_refused_with_a_time_and_requests_go_on(
    system: System, service_urls: dict[str, str], tenant: Tenant
) -> None:
    async with (
        running_gateway(system, service_urls, max_revocation_streams=STREAMS_OF_CLIENT + 1) as gateway,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(STREAMS_OF_CLIENT):
            last = await stack.enter_async_context(streaming(gateway, tenant.api_key))
        full = await gateway.client.get(PATH, headers={"x-api-key": tenant.api_key})
        assert (full.status_code, full.json()["code"]) == (429, "rate_limited")
        assert int(full.headers["retry-after"]) > 0
        other = await system.tenant()
        await stack.enter_async_context(streaming(gateway, other.api_key))
        refused = await gateway.client.get(PATH, headers={"x-api-key": other.api_key})
        assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
        assert int(refused.headers["retry-after"]) > 0
        await sign_up(gateway, tenant)  # streams take no connection of requests
        # Whoever leaves makes room.
        await last.answer.aclose()
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(AssertionError):
                    async with streaming(gateway, tenant.api_key):
                        break


async def test_stream_when_it_outlives_the_timeout_of_requests_then_goes_on(
    system: System, service_urls: dict[str, str], tenant: Tenant
) -> None:
    async with (
        running_gateway(system, service_urls, request_timeout=timedelta(seconds=1)) as gateway,
        streaming(gateway, tenant.api_key) as stream,
    ):
        started = time.monotonic()
        while time.monotonic() - started < 2:
            await stream.ping()
