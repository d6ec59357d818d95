"""One machine's clock is 90 s ahead of the others', or behind: nobody is refused for it (F-10)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.clock import MAX_CLOCK_DIFFERENCE
from tests.e2e.stack import Login, Stack, eventually

DIFFERENCE = int(MAX_CLOCK_DIFFERENCE.total_seconds())
SECOND_MACHINE = ("gateway-2", "token-2", "identity-2")
FLOWS = 6
REVOKED_WITHIN = 2.0


def libfaketime() -> str:
    """The library that fakes a process's clock; skips the test where it is not installed."""
    for folder in ("/usr/lib", "/usr/local/lib"):
        for found in sorted(Path(folder).glob("**/faketime/libfaketime.so.1")):
            return str(found)
    pytest.skip("faketime is not installed")


@contextlib.asynccontextmanager
async def second_machine_at(stack: Stack, seconds: int) -> AsyncIterator[None]:
    """Run one of each two processes by a clock that differs; the time that passes is real."""
    fake = {
        "LD_PRELOAD": libfaketime(),
        "FAKETIME": f"{seconds:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    processes = [stack.system.process(name) for name in SECOND_MACHINE]
    own = [process.env for process in processes]
    for process in processes:
        process.env = {**process.env, **fake}
    try:
        await restart(stack)
        yield
    finally:
        for process, env in zip(processes, own, strict=True):
            process.env = env
        await restart(stack)


async def restart(stack: Stack) -> None:
    """Start the second machine's processes anew, and wait until all serve."""
    for name in SECOND_MACHINE:
        await asyncio.to_thread(stack.system.process(name).restart)
    await asyncio.to_thread(stack.system.await_ready)


def issued_at(user: Login) -> int:
    """The access token's `iat`."""
    part = user.access_token.split(".")[1]
    return int(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["iat"])


async def assert_good(stack: Stack, user: Login) -> None:
    """The access token opens the routes of two services, and is valid, at both gateways and replicas."""
    for gateway in (0, 1):
        for path in ("/api/auth/me", "/api/auth/sessions") * 2:
            answer = await stack.call("GET", path, user, gateway=gateway)
            assert answer.status_code == 200, (gateway, path, answer.text)
            verdict = await stack.validate(user.access_token, user.tenant.api_key, gateway=gateway)
            assert verdict.valid, (gateway, verdict.error)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seconds", [DIFFERENCE, -DIFFERENCE])
async def test_clock_when_one_machines_differs_then_nobody_is_refused(stack: Stack, seconds: int) -> None:
    """Signed callers, proofs of callers, access and refresh tokens cross between the machines both ways."""
    async with second_machine_at(stack, seconds):
        differences = []
        for mode in ("v1_hs256", "v3_es256"):
            tenant = await stack.tenant(token_mode=mode)
            for number in range(FLOWS):
                user = await stack.sign_up(tenant, gateway=number % 2)
                differences.append(issued_at(user) - time.time())
                await assert_good(stack, user)
                for gateway in (0, 1, 1, 0):
                    renewed = await stack.refresh(tenant, user.refresh_token, gateway=gateway)
                    assert renewed.status_code == 200, renewed.text
                    user = Login.of(tenant, renewed)
                    differences.append(issued_at(user) - time.time())
                await assert_good(stack, user)
            await assert_ended_everywhere(stack, user)
        # Both clocks have issued: without that the test would show nothing.
        assert min(map(abs, differences)) < 5
        assert abs(max(differences, key=abs) - seconds) < 5


async def assert_ended_everywhere(stack: Stack, user: Login) -> None:
    """A session that one machine ends is dead at the other, whichever of them issued its tokens."""
    sessions = [await stack.log_in(user, gateway=number % 2) for number in range(4)]
    for number, session in enumerate(sessions):
        path = f"/api/auth/sessions/{session.session_id}"
        assert (await stack.call("DELETE", path, user, gateway=number // 2)).status_code == 204

        async def is_refused(session: Login = session) -> bool:
            answers = [await stack.call("GET", "/api/auth/me", session, gateway=at) for at in (0, 1)]
            return [answer.status_code for answer in answers] == [401, 401]

        await eventually(is_refused, within=REVOKED_WITHIN, what="the end of a session at both gateways")
        for gateway in (0, 1):
            assert not (
                await stack.validate(session.access_token, user.tenant.api_key, gateway=gateway)
            ).valid
