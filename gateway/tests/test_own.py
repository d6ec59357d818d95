"""Probes, metrics, documentation, settings."""

from __future__ import annotations

import asyncio
import hashlib
import re
from base64 import b64encode
from pathlib import Path

import pytest
import yaml

from chassis.ratelimit import Limit
from chassis.settings import Environment
from contracts.topology import SERVICES
from gateway.config import GatewaySettings
from gateway.tests.people import sign_up
from gateway.tests.running import ADMIN_KEY, RunningGateway, running_gateway
from tests.harness import System, Tenant

_SECRET = "b64-Qm9yZWQtcmFuZG9tLWJ5dGVzLW5vYm9keS1ndWVzc2Vz"
_ENVIRONMENT = {
    "ENVIRONMENT": "production",
    "BASE_URL": "https://auth.example.net",
    "ALLOW_ORIGIN": "https://app.example.net",
    "ADMIN_API_KEY": _SECRET,
    "INTERNAL_AUTH_KEY": _SECRET,
    "NATS_URL": f"nats://gateway:{_SECRET}@nats:4222",
    **{
        f"{name}_{kind}": f"{name}:1".lower() for name in map(str.upper, SERVICES) for kind in ("URL", "GRPC")
    },
}


async def test_health_is_open_and_says_nothing_more(gateway: RunningGateway) -> None:
    answer = await gateway.client.get("/healthz", headers={"X-API-Key": "ask_wrong"})

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "ratelimit-limit" not in answer.headers


async def test_metrics_name_no_tenant_user_or_path(gateway: RunningGateway, tenant: Tenant) -> None:
    person = await sign_up(gateway, tenant)
    await gateway.client.get("/api/auth/me", headers=person.headers)
    await gateway.client.get(f"/unknown/{person.id}")

    text = (await gateway.client.get("/metrics")).text

    assert 'http_requests_total{method="GET",route="/api/auth/me",status="200"}' in text
    for secret in (str(tenant.id), person.id, person.email, person.session_id, tenant.api_key, "/unknown"):
        assert secret not in text


async def test_metrics_for_admins_need_the_key_and_are_audited(
    system: System, gateway: RunningGateway
) -> None:
    assert (await gateway.client.get("/api/admin/metrics")).status_code == 401

    answer = await gateway.client.get("/api/admin/metrics", headers={"X-Admin-Key": ADMIN_KEY})

    assert answer.status_code == 200
    assert "http_requests_total" in answer.text
    event = await system.event("admin_key_used", client_id=None, path="/api/admin/metrics")
    assert (event.service, event.actor_type) == ("gateway", "admin_key")


async def test_every_use_of_the_admin_key_on_metrics_is_recorded(
    system: System, gateway: RunningGateway
) -> None:
    uses, address = 125, "203.0.113.60"
    for _ in range(uses):
        answer = await gateway.client.get(
            "/api/admin/metrics", headers={"X-Admin-Key": ADMIN_KEY, "X-Forwarded-For": address}
        )
        assert answer.status_code == 200

    async with asyncio.timeout(10):
        while len([e for e in system.events if (e.type, e.ip) == ("admin_key_used", address)]) < uses:
            await asyncio.sleep(0.05)


async def test_metrics_for_admins_are_not_shown_when_the_use_cannot_be_recorded(
    system: System, service_urls: dict[str, str]
) -> None:
    async with running_gateway(system, service_urls, audit_grpc="127.0.0.1:1") as unheard:
        answer = await unheard.client.get("/api/admin/metrics", headers={"X-Admin-Key": ADMIN_KEY})

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("changes", "exposed"),
    [
        ({}, False),
        ({"EXPOSE_METRICS": "true"}, True),
        ({"ENVIRONMENT": "development"}, True),
        ({"ENVIRONMENT": "development", "EXPOSE_METRICS": "false"}, False),
    ],
)
def test_metrics_are_public_in_production_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], exposed: bool
) -> None:
    assert _load(monkeypatch, **changes).exposes_metrics is exposed


async def test_production_hides_metrics(system: System, service_urls: dict[str, str]) -> None:
    async with running_gateway(
        system,
        service_urls,
        environment=Environment.PRODUCTION,
        base_url="https://auth.example.com",
        allow_origin=["https://app.example.com"],
    ) as production:
        assert (await production.client.get("/metrics")).status_code == 404


async def test_metrics_can_be_hidden(system: System, service_urls: dict[str, str]) -> None:
    async with running_gateway(system, service_urls, expose_metrics=False) as hidden:
        assert (await hidden.client.get("/metrics")).status_code == 404
        answer = await hidden.client.get("/api/admin/metrics", headers={"X-Admin-Key": ADMIN_KEY})
        assert answer.status_code == 200


async def test_docs_show_every_operation_and_run_no_script(gateway: RunningGateway) -> None:
    page = await gateway.client.get("/docs")
    document = (await gateway.client.get("/docs/openapi.json")).json()

    assert page.status_code == 200
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert not re.search(r"<script|\son\w+=|javascript:|https?://", page.text)
    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)
    assert style is not None
    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


async def test_yaml_and_json_are_the_same_document(gateway: RunningGateway) -> None:
    as_json = await gateway.client.get("/docs/openapi.json")
    as_yaml = await gateway.client.get("/docs/openapi.yaml")

    assert as_json.headers["content-type"] == "application/json"
    assert as_yaml.headers["content-type"] == "application/yaml"
    assert yaml.safe_load(as_yaml.text) == as_json.json()
    assert as_json.json()["openapi"] == "3.1.0"


def _load(monkeypatch: pytest.MonkeyPatch, **changes: str) -> GatewaySettings:
    with monkeypatch.context() as patch:
        for name, value in {**_ENVIRONMENT, **changes}.items():
            patch.setenv(name, value)
        return GatewaySettings.load()


def test_good_production_settings_load(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _load(
        monkeypatch,
        TRUSTED_PROXIES="10.0.0.0/8, fd00::/8",
        RATE_LIMIT_LOGIN="5/30",
        GATEWAY_PORT="8081",
        PORT="9999",
    )

    assert (settings.port, settings.grpc_port) == (8081, 9090)
    assert settings.limits()["login"] == Limit(5, 30)
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
    assert settings.addresses("orgs") == ("orgs:1", "orgs:1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ALLOW_ORIGIN": "*"}, "ALLOW_ORIGIN"),
        ({"ALLOW_ORIGIN": "https://app.example.net/path"}, "ALLOW_ORIGIN"),
        ({"BASE_URL": "http://auth.example.net"}, "BASE_URL"),
        ({"BASE_URL": "auth.example.net"}, "BASE_URL"),
        ({"COOKIE_SECURE": "false"}, "COOKIE_SECURE"),
        ({"ADMIN_API_KEY": "change-me-change-me-change-me-change-me"}, "ADMIN_API_KEY"),
        ({"ADMIN_API_KEY": "short"}, "ADMIN_API_KEY"),
        ({"INTERNAL_AUTH_KEY": "x" * 40}, "INTERNAL_AUTH_KEY"),
        ({"ADMIN_API_KEY": ""}, "ADMIN_API_KEY"),
        ({"RATE_LIMIT_LOGIN": "many"}, "RATE_LIMIT_LOGIN"),
        ({"RATE_LIMIT_LOGIN": "0/60"}, "RATE_LIMIT_LOGIN"),
        ({"TRUSTED_PROXIES": "everybody"}, "TRUSTED_PROXIES"),
        ({"FORWARDED_HEADER": "x-real-ip"}, "FORWARDED_HEADER"),
        ({"PORT": "http"}, "PORT"),
        ({"ORGS_URL": ""}, "ORGS_URL"),
    ],
)
def test_unsafe_or_wrong_settings_refuse_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: dict[str, str], told: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        _load(monkeypatch, **changes)

    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert _SECRET not in error


def test_secret_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "admin-key"
    file.write_text(_SECRET + "\n")

    settings = _load(monkeypatch, ADMIN_API_KEY="", ADMIN_API_KEY_FILE=str(file))

    assert settings.admin_api_key.get_secret_value() == _SECRET


@pytest.mark.parametrize("given", ["short", "x" * 31, ""])
def test_admin_token_secret_when_weak_or_missing_then_no_start_or_another_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    """J-03: no token is ever signed with an empty key, nor with the break-glass key."""
    file = tmp_path / "admin-tokens"
    file.write_text(given)
    with pytest.raises(SystemExit):
        _load(monkeypatch, ADMIN_TOKEN_SECRET_FILE=str(file))
    if given:
        with pytest.raises(SystemExit):
            _load(monkeypatch, ADMIN_TOKEN_SECRET=given)
    settings = _load(monkeypatch, ADMIN_TOKEN_SECRET="")
    key = settings.admin_token_key(settings.admin_api_key)
    assert key is not None
    assert len(key) >= 32
    assert key != _SECRET.encode()
    good = _load(monkeypatch, ADMIN_TOKEN_SECRET=_SECRET[::-1])
    assert good.admin_token_key(good.admin_api_key) == _SECRET[::-1].encode()


async def test_every_refusal_links_to_its_meaning(gateway: RunningGateway) -> None:
    page = await gateway.client.get("/docs/errors")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/nowhere", "/api/auth/me"):
        refused = (await gateway.client.get(path)).json()
        link, _, anchor = refused["type"].partition("#")
        assert (link, anchor) == ("/docs/errors", refused["code"])
        assert f'<h2 id="{anchor}">' in page.text
