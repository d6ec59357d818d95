"""Processes that are not ours: the examples, run beside the system."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from local.processes import ManagedProcess
from local.service_process import REPOSITORY
from tests.e2e.stack import Stack, Tenant, eventually

START_SECONDS = 20.0

ProtectedApi = Callable[[Tenant], Awaitable[str]]
"""Starts the example API for a client and answers its address."""


@pytest.fixture
async def protected_api(stack: Stack) -> AsyncIterator[ProtectedApi]:
    """`examples/protected_api` as a process of its own, per client."""
    started: list[ManagedProcess] = []

    async def start(tenant: Tenant) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = ManagedProcess(
            f"protected-api-{tenant.id}",
            [sys.executable, "examples/protected_api/main.py"],
            folder=stack.system.folder,
            env={
                "PATH": os.defpath,
                "AUTHSERVICE_URL": stack.base_url,
                "CLIENT_ID": tenant.id,
                "PORT": str(port),
            },
            cwd=REPOSITORY,
        )
        process.start()
        started.append(process)
        url = f"http://127.0.0.1:{port}"

        async def lives() -> bool:
            assert process.is_running, process.obituary()
            try:
                return (await stack.http.get(f"{url}/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(lives, within=START_SECONDS, what="the example serves")
        return url

    yield start
    for process in started:
        process.stop()
