"""Rate limits by class and by who is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from pydantic import SecretStr

from chassis.ratelimit import Limit
from gateway.contract import Contract
from gateway.tests.echo import ECHO_CONTRACT, Echo
from gateway.tests.running import ADMIN_KEY, RunningGateway, running_gateway
from tests.harness import Answer, System, Tenant
from tests.oauth_errors import check_oauth_error


@pytest.fixture
async def limited(
    system: System, service_urls: dict[str, str], echo: Echo, tenant: Tenant
) -> AsyncIterator[RunningGateway]:
    """A gateway with narrow limits; the prefix keeps its counters apart from other tests'."""
    async with running_gateway(
        system,
        {**service_urls, "identity": echo.url},
        contract=Contract(ECHO_CONTRACT),
        rate_limit_login=Limit(3, 3600),
        rate_limit_public=Limit(5, 3600),
        rate_limit_default=Limit(5, 3600),
        rate_limit_admin_key=Limit(3, 3600),
        rate_limit_server_factor=2,
        redis_key_prefix=f"{tenant.id}:",
    ) as running:
        yield running


async def _login(gateway: RunningGateway, key: str, address: str) -> int:
    answer = await gateway.client.post(
        "/echo/login", headers={"X-API-Key": key, "X-Forwarded-For": address}, content=b"{}"
    )
    return answer.status_code


async def test_limit_is_told_and_then_refused(limited: RunningGateway, tenant: Tenant, echo: Echo) -> None:
    sent = {"X-API-Key": tenant.publishable_key}
    before = len(echo.arrived)

    answers = [await limited.client.post("/echo/login", headers=sent, content=b"{}") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert all(answer.headers["ratelimit-limit"] == "3" for answer in answers)
    assert answers[3].json()["code"] == "rate_limited"
    assert 0 < int(answers[3].headers["retry-after"]) <= 3600
    assert answers[3].headers["retry-after"] == answers[3].headers["ratelimit-reset"]
    assert len(echo.arrived) == before + 3


async def test_other_clients_and_addresses_are_counted_apart(
    system: System, limited: RunningGateway, tenant: Tenant
) -> None:
    other = await system.tenant()
    key = tenant.publishable_key
    assert [await _login(limited, key, "203.0.113.1") for _ in range(4)] == [200, 200, 200, 429]

    assert await _login(limited, key, "203.0.113.2") == 200
    assert await _login(limited, other.publishable_key, "203.0.113.1") == 200
    assert await _login(limited, key, "203.0.113.1") == 429


async def test_forged_hops_do_not_make_a_new_address(
    system: System, service_urls: dict[str, str], echo: Echo, tenant: Tenant
) -> None:
    async with running_gateway(
        system,
        {**service_urls, "identity": echo.url},
        contract=Contract(ECHO_CONTRACT),
        rate_limit_login=Limit(3, 3600),
        trusted_proxies=[ip_network("10.0.0.0/8")],
        redis_key_prefix=f"{tenant.id}:forged:",
    ) as gateway:
        statuses = []
        for number in range(6):
            forged = f"203.0.113.{number}"
            answer = await gateway.client.post(
                "/echo/login",
                headers={
                    "X-API-Key": tenant.publishable_key,
                    "X-Forwarded-For": forged,
                    "Forwarded": f"for={forged}",
                    "X-Real-IP": forged,
                    "True-Client-IP": forged,
                },
                content=b"{}",
            )
            statuses.append(answer.status_code)

    assert statuses == [200, 200, 200, 429, 429, 429]


async def test_server_may_do_more(limited: RunningGateway, tenant: Tenant) -> None:
    statuses = [await _login(limited, tenant.api_key, "203.0.113.7") for _ in range(7)]

    assert statuses == [200] * 6 + [429]


async def test_two_gateways_count_together(
    system: System, service_urls: dict[str, str], echo: Echo, limited: RunningGateway, tenant: Tenant
) -> None:
    async with running_gateway(
        system,
        {**service_urls, "identity": echo.url},
        contract=Contract(ECHO_CONTRACT),
        rate_limit_login=Limit(3, 3600),
        redis_key_prefix=f"{tenant.id}:",
    ) as second:
        key = tenant.publishable_key
        statuses = [
            await _login(gateway, key, "203.0.113.9") for gateway in (limited, second, limited, second)
        ]

    assert statuses == [200, 200, 200, 429]


async def test_limit_holds_without_redis(
    system: System, service_urls: dict[str, str], echo: Echo, tenant: Tenant
) -> None:
    async with running_gateway(
        system,
        {**service_urls, "identity": echo.url},
        contract=Contract(ECHO_CONTRACT),
        rate_limit_login=Limit(3, 3600),
        redis_url=SecretStr("redis://127.0.0.1:1/0"),
    ) as gateway:
        statuses = [await _login(gateway, tenant.publishable_key, "203.0.113.7") for _ in range(4)]

    assert statuses == [200, 200, 200, 429]


async def test_wrong_admin_keys_block_their_address(limited: RunningGateway) -> None:
    async def ask(key: str, address: str) -> int:
        answer = await limited.client.get(
            "/echo/admin", headers={"X-Admin-Key": key, "X-Forwarded-For": address}
        )
        return answer.status_code

    wrong = [await ask(f"wrong-{number}", "203.0.113.20") for number in range(5)]

    assert wrong == [401, 401, 401, 429, 429]
    assert await ask(ADMIN_KEY, "203.0.113.20") == 429
    assert await ask(ADMIN_KEY, "203.0.113.21") == 200


async def test_right_admin_key_is_not_counted_as_a_wrong_one(limited: RunningGateway) -> None:
    statuses = [
        (
            await limited.client.get(
                "/echo/admin", headers={"X-Admin-Key": ADMIN_KEY, "X-Forwarded-For": "203.0.113.30"}
            )
        ).status_code
        for _ in range(6)
    ]

    assert statuses == [200] * 6


async def test_admin_key_can_be_switched_off(
    system: System, service_urls: dict[str, str], echo: Echo
) -> None:
    async with running_gateway(
        system,
        {**service_urls, "identity": echo.url},
        contract=Contract(ECHO_CONTRACT),
        admin_key_enabled=False,
    ) as gateway:
        answer = await gateway.client.get("/echo/admin", headers={"X-Admin-Key": ADMIN_KEY})

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_admin_key")


async def test_introspection_when_asked_too_often_or_too_much_then_an_oauth_error(
    system: System, service_urls: dict[str, str], tenant: Tenant
) -> None:
    """O-25, O-35: also where the gateway refuses by itself; per address, whoever the client says to be."""
    async with running_gateway(
        system, service_urls, rate_limit_oauth=Limit(3, 3600), redis_key_prefix=f"{tenant.id}:oauth:"
    ) as gateway:

        async def ask(token: str, address: str, client_id: str) -> Answer:
            answer = await gateway.client.post(
                "/introspect",
                data={"token": token},
                auth=(client_id, tenant.api_key),
                headers={"X-Forwarded-For": address},
            )
            read = Answer(answer.status_code, answer.headers, answer.content)
            check_oauth_error(read)
            return read

        own, here, there = str(tenant.id), "203.0.113.1", "203.0.113.2"
        statuses = [(await ask("x", here, client_id)).status for client_id in (own, own, "x")]
        limited = await ask("x", here, own)
        assert (statuses, limited.status) == ([200, 200, 401], 429)
        assert int(limited.headers["retry-after"]) > 0
        assert (await ask("x", there, own)).status == 200
        assert (await ask("x" * 70_000, there, own)).status == 413
