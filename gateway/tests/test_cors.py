"""Cross-origin rules."""

from __future__ import annotations

import pytest

from gateway.tests.echo import Echo
from gateway.tests.running import RunningGateway, running_gateway
from tests.harness import BASE_URL, ORIGIN, System, Tenant

FOREIGN = [
    "https://evil.example",
    "null",
    f"{ORIGIN}.evil.example",
    "https://evil" + ORIGIN.removeprefix("https://"),
    ORIGIN.replace("https", "http"),
    f"{ORIGIN}:8443",
    ORIGIN.upper(),
]
_ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, x-api-key"}


async def test_allowed_origin_gets_credentials(echo_gateway: RunningGateway, tenant: Tenant) -> None:
    answer = await echo_gateway.client.get(
        "/echo/key", headers={"X-API-Key": tenant.publishable_key, "Origin": ORIGIN}
    )

    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_foreign_origin_gets_nothing(echo_gateway: RunningGateway, tenant: Tenant, origin: str) -> None:
    for key in (tenant.api_key, tenant.publishable_key):
        answer = await echo_gateway.client.get("/echo/key", headers={"X-API-Key": key, "Origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_star_never_goes_with_credentials_or_the_origin(
    echo_gateway: RunningGateway, origin: str
) -> None:
    answer = await echo_gateway.client.get("/echo/public", headers={"Origin": origin})

    assert answer.headers.get("access-control-allow-origin") in (None, "*")
    assert "access-control-allow-credentials" not in answer.headers
    if origin == "null":
        assert "access-control-allow-origin" not in answer.headers


async def test_client_without_origins_takes_the_default(
    system: System, service_urls: dict[str, str], echo: Echo, echo_gateway: RunningGateway
) -> None:
    tenant = await system.tenant(allowed_origins=[])

    answer = await echo_gateway.client.get(
        "/echo/key", headers={"X-API-Key": tenant.publishable_key, "Origin": "https://any.example"}
    )

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


async def test_own_pages_are_allowed(echo_gateway: RunningGateway, tenant: Tenant) -> None:
    answer = await echo_gateway.client.get(
        "/echo/key", headers={"X-API-Key": tenant.publishable_key, "Origin": BASE_URL}
    )

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, BASE_URL)


async def test_refusals_can_be_read_by_allowed_pages(echo_gateway: RunningGateway, tenant: Tenant) -> None:
    answer = await echo_gateway.client.get(
        "/echo/user", headers={"X-API-Key": tenant.publishable_key, "Origin": ORIGIN}
    )

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ORIGIN)


async def test_preflight_of_a_listed_origin_allows_credentials(
    echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.client.options("/echo/key", headers={"Origin": ORIGIN, **_ASKS})

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "X-API-Key" in answer.headers["access-control-allow-headers"]
    assert len(echo.arrived) == before


@pytest.mark.parametrize("origin", [*FOREIGN, "https://" + "a" * 5000, "https://a'; DROP TABLE clients"])
async def test_preflight_of_a_foreign_origin_allows_no_credentials(
    echo_gateway: RunningGateway, tenant: Tenant, origin: str
) -> None:
    answer = await echo_gateway.client.options("/echo/key", headers={"Origin": origin, **_ASKS})

    assert answer.status_code == 204
    assert answer.headers.get("access-control-allow-origin") in (None, "*")
    assert "access-control-allow-credentials" not in answer.headers


async def test_preflight_of_an_unknown_path_is_404(echo_gateway: RunningGateway) -> None:
    answer = await echo_gateway.client.options("/nowhere", headers={"Origin": ORIGIN, **_ASKS})

    assert answer.status_code == 404


async def test_listed_default_is_exact_and_others_get_nothing(
    system: System, service_urls: dict[str, str]
) -> None:
    path = "/api/auth/ui/config"
    async with running_gateway(system, service_urls, allow_origin=["https://home.example"]) as strict:
        good = await strict.client.get(path, headers={"Origin": "https://home.example"})
        bad = await strict.client.get(path, headers={"Origin": "https://evil.example"})

    assert good.headers["access-control-allow-origin"] == "https://home.example"
    assert "access-control-allow-origin" not in bad.headers


@pytest.mark.parametrize("path", ["/oauth/token", "/.well-known/jwks.json"])
async def test_what_goes_by_no_cookie_is_open_to_every_page_without_credentials(
    system: System, service_urls: dict[str, str], path: str
) -> None:
    async with running_gateway(system, service_urls, allow_origin=["https://home.example"]) as strict:
        method = "GET" if path.endswith("json") else "POST"
        for origin, allowed in (("https://any.example", "*"), ("null", None)):
            answers = [
                await strict.client.request(method, path, headers={"Origin": origin}),
                await strict.client.options(path, headers={"Origin": origin, **_ASKS}),
            ]
            for answer in answers:
                assert answer.headers.get("access-control-allow-origin") == allowed
                assert "access-control-allow-credentials" not in answer.headers
        assert "DPoP" in answers[1].headers.get("access-control-allow-headers", "DPoP")
