"""SIGTERM under load: what was begun is finished, and what is new goes elsewhere (F-12)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import httpx
import pytest

from local.service_process import ServiceProcess
from tests.e2e.stack import PASSWORD, Login, Stack, Tenant

IN_FLIGHT = 16


async def drained(process: ServiceProcess) -> int | None:
    """Wait until a process that was asked to stop has ended; its exit code."""
    await asyncio.to_thread(process.wait_stopped, 15.0)
    return process.exit_code


async def test_gateway_when_asked_to_stop_then_answers_what_it_has_begun(stack: Stack, shop: Tenant) -> None:
    users = await asyncio.gather(*(stack.sign_up(shop) for _ in range(IN_FLIGHT)))
    gateway = stack.processes("gateway")[1]
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=IN_FLIGHT)) as http:

        async def log_in(user: Login) -> int:
            body = {"email": user.email, "password": PASSWORD, "token_transport": "json"}
            url = f"{gateway.url}/api/auth/login"
            return (await http.post(url, json=body, headers=shop.headers)).status_code

        logins = [asyncio.create_task(log_in(user)) for user in users]
        # One is answered: the others, which cost as much, are under way.
        await asyncio.wait(logins, return_when=asyncio.FIRST_COMPLETED)
        gateway.ask_to_stop()
        answers = await asyncio.gather(*logins, return_exceptions=True)
        code = await drained(gateway)
    assert answers == [200] * IN_FLIGHT
    assert code == 0
    assert (await stack.call("GET", "/api/auth/me", users[0])).status_code == 200


@pytest.mark.parametrize("name", ["identity-2", "token-2"])
async def test_service_when_asked_to_stop_under_load_then_nobody_notices(
    stack: Stack, shop: Tenant, name: str
) -> None:
    """Rolling a service over: every request of the whole time succeeds, the stopped process ends well."""
    process = stack.system.process(name)
    stopped = asyncio.Event()
    statuses: list[tuple[str, int]] = []

    async def work(gateway: int) -> None:
        user = await stack.sign_up(shop, gateway=gateway)
        rounds = 0
        while not stopped.is_set() or rounds < 3:
            rounds += 1
            body = {"email": user.email, "password": PASSWORD, "token_transport": "json"}
            opened = await stack.call("POST", "/api/auth/login", shop, json=body, gateway=gateway)
            statuses.append(("login", opened.status_code))
            if opened.status_code != 200:
                continue
            login = Login.of(shop, opened)
            request_id = {"x-request-id": f"drain-{secrets.token_hex(4)}"}
            for method, path in (("GET", "/api/auth/me"), ("GET", "/api/auth/sessions")):
                answer = await stack.call(method, path, login, gateway=gateway, headers=request_id)
                statuses.append((path, answer.status_code))
            renewed = await stack.refresh(shop, login.refresh_token, gateway=gateway)
            statuses.append(("refresh", renewed.status_code))

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(work(number % 2))
        while len(statuses) < 12:
            await asyncio.sleep(0.02)
        process.ask_to_stop()
        code = await drained(process)
        stopped.set()
    assert [one for one in statuses if one[1] != 200] == []
    assert code == 0


@pytest.mark.parametrize("name", ["token-2", "gateway-2"])
async def test_stream_when_its_process_is_asked_to_stop_then_ends_and_nobody_waits_for_it(
    stack: Stack, shop: Tenant, name: str
) -> None:
    """Streams have no end of their own: they must not take up the time in which requests are finished."""
    process = stack.system.process(name)
    gateway = stack.processes("gateway")[1]
    async with contextlib.AsyncExitStack() as streams:
        http = await streams.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        answers = [
            await streams.enter_async_context(
                http.stream("GET", f"{gateway.url}/api/revocations/stream", headers=shop.headers)
            )
            for _ in range(4)  # two at each process of the service
        ]
        assert [answer.status_code for answer in answers] == [200] * 4
        reading = [asyncio.create_task(answer.aread()) for answer in answers]
        process.ask_to_stop()
        ended = asyncio.as_completed(reading, timeout=3)
        for first in ended:
            assert b"event: synced" in await first
            break
        assert await drained(process) == 0
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
