"""The system that the end-to-end and contract tests share: real processes, started once per test process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.stack import Stack, Tenant

PROCESSES = {"gateway": 2, "token": 2, "identity": 2, "audit": 2}
"""Two of what must agree with its twin."""


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Two gateways before two processes each of the services that decide something once."""
    async with Stack.started(PROCESSES) as running:
        yield running


@pytest.fixture
async def shop(stack: Stack) -> Tenant:
    """A fresh client."""
    return await stack.tenant()
