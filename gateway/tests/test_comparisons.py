"""W-15: the time of a refused admin key or API key tells nothing of how much of it was right.

Neither is compared by itself. Both are looked at as their SHA-256, whose prefix no guesser can choose: the
admin key's by `hmac.compare_digest`, the API key's as a name in the gateway's memory, else as a value in the
index of `orgs`, which is told nothing but the digest. What is measured is the gateway's own code, in process,
without the noise of a network; a naive comparison shows what the same measure would find.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.context import Access, CallerContext
from chassis.internal_keys import InternalKeys
from chassis.ratelimit import Limit, RateLimiter
from chassis.rpc import Channel
from contracts.clients import ClientDirectory, InvalidApiKey
from contracts.gen.internal.orgs.v1 import clients_pb2
from gateway.admin_key import AdminKey, InvalidAdminKey
from gateway.limits import Limits
from gateway.refusals import AuditQueue
from tests.harness import System, Tenant

# What is measured means something only while nothing else runs.
pytestmark = pytest.mark.alone

ADMIN_KEY = "aak_Zq9vXw7LmN2pRs4TuVyA6bCdE8fGhJkM5nPqR3sTuVw"
PREFIX = len("aak_")

SAMPLES = 10_000
BOUND = 1e-6
"""Seconds that a right character more may take."""

PERCEPTIBLE = 5e-9
"""Seconds for a character, which the measure finds where a comparison takes them; well under the bound."""

CALLER = CallerContext(access=Access.PUBLIC, request_id="r", ip="198.51.100.7")

R = TypeVar("R")


def guesses(key: str) -> dict[int, str]:
    """Wrong keys of the same length, by how many of their first characters are right."""
    rights = [PREFIX, PREFIX + 1, PREFIX + 2, PREFIX + 4, PREFIX + 8, 20, 28, 36, len(key) - 1]
    return {right: key[:right] + "!" * (len(key) - right) for right in rights}


def interleaved(key: str) -> Iterator[tuple[int, str]]:
    """Every guess in turn, so that whatever slows the machine slows all of them alike."""
    by_right = list(guesses(key).items())
    for _ in range(SAMPLES // len(by_right) + 1):
        yield from by_right


def slope(timed: dict[int, list[float]]) -> float:
    """Seconds for a right character more: a line through the medians, which no outlier moves."""
    assert sum(map(len, timed.values())) >= SAMPLES
    medians = {right: statistics.median(times) for right, times in timed.items()}
    return statistics.linear_regression(list(medians), list(medians.values())).slope


async def measured(
    key: str, check: Callable[[str], Awaitable[object]], refusal: type[Exception]
) -> dict[int, list[float]]:
    """Time a check that refuses every guess."""
    timed: dict[int, list[float]] = {right: [] for right in guesses(key)}
    for right, guess in interleaved(key):
        started = time.perf_counter()
        try:
            await check(guess)
        except refusal:
            timed[right].append(time.perf_counter() - started)
        else:
            raise AssertionError("a wrong key was accepted")
    return timed


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    """Without the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class _NaiveRefusal(Exception):
    """The naive comparison found a difference."""


async def _naive(presented: str) -> None:
    """Compare as nobody should: up to the first difference."""
    for given, right in zip(presented, ADMIN_KEY, strict=True):
        if given != right:
            raise _NaiveRefusal


async def test_measure_when_a_comparison_stops_at_the_first_difference_then_finds_it() -> None:
    """The positive control."""
    await _naive(ADMIN_KEY)
    assert slope(await measured(ADMIN_KEY, _naive, _NaiveRefusal)) > PERCEPTIBLE


async def test_admin_key_when_wrong_then_its_time_tells_nothing() -> None:
    channel = Channel("127.0.0.1:1", caller="gateway", callee="audit", keys=InternalKeys({}))
    limits = Limits({"admin_key": Limit(10**9, 60)}, RateLimiter(None, ""), 1)
    admin_key = AdminKey(ADMIN_KEY, limits, AuditQueue(channel, SystemClock()))

    async def check(presented: str) -> None:
        await admin_key.check(presented, CALLER, "GET", "/api/admin/clients")

    await check(ADMIN_KEY)
    assert abs(slope(await measured(ADMIN_KEY, check, InvalidAdminKey))) < BOUND


async def test_api_key_when_wrong_then_its_time_tells_nothing(system: System, tenant: Tenant) -> None:
    bus = Bus(system.servers.nats_url("gateway"), process="gateway")
    async with system.channel("orgs", caller="gateway") as channel:
        directory = ClientDirectory(channel, bus)
        for key in (tenant.api_key, tenant.publishable_key):
            assert (await directory.resolve_key(key)).client.id == tenant.id
            assert abs(slope(await measured(key, directory.resolve_key, InvalidApiKey))) < BOUND


async def test_api_key_is_looked_up_by_its_digest_and_stored_as_such(system: System, tenant: Tenant) -> None:
    """Nothing that could be compared by prefix leaves the gateway, or lies in the database."""
    assert list(clients_pb2.ResolveApiKeyRequest.DESCRIPTOR.fields_by_name) == ["key_sha256"]
    rows = await system.sql("orgs", "SELECT * FROM api_keys WHERE client_id = $1", tenant.id)
    assert {len(row["key_sha256"]) for row in rows} == {32}
    stored = str([dict(row) for row in rows])
    for key in (tenant.api_key, tenant.publishable_key):
        assert key[:16] not in stored
