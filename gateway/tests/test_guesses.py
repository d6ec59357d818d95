"""Credentials and origins that are guessed: refused without a look-up once an address gave too many."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import REGISTRY

from chassis.ratelimit import Limit
from gateway.contract import Contract
from gateway.tests.echo import ECHO_CONTRACT, Echo
from gateway.tests.people import Person, sign_up
from gateway.tests.running import RunningGateway, running_gateway
from tests.harness import ORIGIN, System, Tenant

ADDRESS = "203.0.113.40"


@pytest.fixture
async def guarded(system: System, service_urls: dict[str, str], echo: Echo) -> AsyncIterator[RunningGateway]:
    """A gateway that lets an address be refused three times."""
    async with running_gateway(
        system,
        {**service_urls, "identity": echo.url},
        contract=Contract(ECHO_CONTRACT),
        rate_limit_refused=Limit(3, 3600),
        rate_limit_server_factor=2,
    ) as running:
        yield running


def _lookups(metric: str) -> float:
    """How many look-ups left the process so far."""
    return REGISTRY.get_sample_value(metric, {"result": "miss"}) or 0.0


async def _ask(gateway: RunningGateway, path: str, key: str, address: str = ADDRESS, token: str = "") -> int:
    sent = {"X-API-Key": key, "X-Forwarded-For": address}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    return (await gateway.client.get(path, headers=sent)).status_code


def _key() -> str:
    return "apk_" + secrets.token_hex(20)


async def test_guessed_keys_are_refused_without_a_lookup(guarded: RunningGateway, tenant: Tenant) -> None:
    assert [await _ask(guarded, "/echo/key", _key()) for _ in range(3)] == [401] * 3
    before = _lookups("client_cache_lookups_total")

    answer = await guarded.client.get("/echo/key", headers={"X-API-Key": _key(), "X-Forwarded-For": ADDRESS})

    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    for path in ("/echo/public", "/echo/user", "/_authz?require=api_key"):
        assert await _ask(guarded, path, _key()) == 429, path
    # A good key that is not known yet would need a look-up too.
    assert await _ask(guarded, "/echo/key", tenant.publishable_key) == 429
    assert _lookups("client_cache_lookups_total") == before
    assert await _ask(guarded, "/echo/key", tenant.publishable_key, "203.0.113.41") == 200


async def test_known_key_works_beside_guesses(guarded: RunningGateway, tenant: Tenant) -> None:
    assert await _ask(guarded, "/echo/key", tenant.publishable_key) == 200
    assert [await _ask(guarded, "/echo/key", _key()) for _ in range(4)] == [401] * 3 + [429]

    assert await _ask(guarded, "/echo/key", tenant.publishable_key) == 200


async def test_missing_key_is_no_guess(guarded: RunningGateway) -> None:
    answers = [await guarded.client.get("/echo/key", headers={"X-Forwarded-For": ADDRESS}) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [401] * 5


def _forged(person: Person) -> str:
    return person.access_token[:-20] + secrets.token_hex(10)


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_guessed_tokens_are_refused_without_a_lookup(
    system: System, gateway: RunningGateway, guarded: RunningGateway, mode: str
) -> None:
    tenant = await system.tenant(token_mode=mode)
    person, other = await sign_up(gateway, tenant), await sign_up(gateway, tenant)
    key = tenant.publishable_key
    assert await _ask(guarded, "/echo/user", key, token=person.access_token) == 200
    refused = [await _ask(guarded, "/echo/user", key, token=_forged(person)) for _ in range(4)]
    assert refused == [401] * 3 + [429]
    before = _lookups("gateway_token_lookups_total")

    assert await _ask(guarded, "/echo/user", key, token=_forged(person)) == 429
    assert await _ask(guarded, "/_authz", key, token=_forged(person)) == 429
    assert await _ask(guarded, "/echo/user", key, token=other.access_token) == 429
    assert await _ask(guarded, "/echo/user", key, token=person.access_token) == 200
    assert _lookups("gateway_token_lookups_total") == before
    assert await _ask(guarded, "/echo/user", key, "203.0.113.41", other.access_token) == 200


async def test_server_may_pass_more_bad_tokens_on(
    gateway: RunningGateway, guarded: RunningGateway, tenant: Tenant
) -> None:
    person = await sign_up(gateway, tenant)

    refused = [await _ask(guarded, "/echo/user", tenant.api_key, token=_forged(person)) for _ in range(7)]

    assert refused == [401] * 6 + [429]


async def test_token_that_was_good_once_is_no_guess(
    gateway: RunningGateway, guarded: RunningGateway, tenant: Tenant
) -> None:
    key = tenant.publishable_key
    for _ in range(4):
        person = await sign_up(gateway, tenant)
        await gateway.client.delete("/api/auth/sessions", headers=person.headers)
        async with asyncio.timeout(5):
            while await _ask(guarded, "/echo/user", key, token=person.access_token) != 401:
                await asyncio.sleep(0.02)

    fresh = await sign_up(gateway, tenant)

    assert await _ask(guarded, "/echo/user", key, token=fresh.access_token) == 200


async def _preflight(gateway: RunningGateway, origin: str, address: str = ADDRESS) -> httpx.Response:
    return await gateway.client.options(
        "/echo/key",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST", "X-Forwarded-For": address},
    )


def _origin() -> str:
    return f"https://{secrets.token_hex(6)}.example"


async def test_preflights_of_invented_origins_are_refused(guarded: RunningGateway, tenant: Tenant) -> None:
    assert (await _preflight(guarded, ORIGIN)).status_code == 204
    first = _origin()
    origins = [first, _origin(), _origin(), _origin()]

    answers = [await _preflight(guarded, origin) for origin in origins]

    assert [answer.status_code for answer in answers] == [204, 204, 204, 429]
    assert 0 < int(answers[3].headers["retry-after"]) <= 3600
    # What is known needs no look-up; another address is another's.
    assert (await _preflight(guarded, first)).status_code == 204
    assert (await _preflight(guarded, ORIGIN)).headers["access-control-allow-origin"] == ORIGIN
    assert (await _preflight(guarded, _origin(), "203.0.113.41")).status_code == 204
    assert await _ask(guarded, "/echo/key", tenant.publishable_key) == 200
