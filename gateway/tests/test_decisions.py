"""`/_authz`, asked directly and by a real nginx and a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from string import Template

import httpx
import pytest

from gateway.tests.echo import Echo
from gateway.tests.people import Person, sign_up
from gateway.tests.running import RunningGateway
from tests.harness import ORIGIN, System, Tenant

_START_SECONDS = 20.0
_TOLD = (
    *("x-auth-client-id", "x-auth-user-id", "x-auth-session-id", "x-auth-role", "x-auth-scope"),
    "x-auth-impersonator-id",
)
_FORGED = dict.fromkeys(_TOLD, "forged")

_NGINX = Template(
    """
daemon off; error_log stderr warn; pid $folder/nginx.pid; events {}
http {
  access_log off; client_body_temp_path $folder/b; proxy_temp_path $folder/p; fastcgi_temp_path $folder/f;
  uwsgi_temp_path $folder/u; scgi_temp_path $folder/s;
  server {
    listen 127.0.0.1:$port;
    location / {
      auth_request /_decision;
      auth_request_set $$client $$upstream_http_x_auth_client_id;
      auth_request_set $$user $$upstream_http_x_auth_user_id;
      auth_request_set $$session $$upstream_http_x_auth_session_id;
      auth_request_set $$role $$upstream_http_x_auth_role;
      proxy_set_header X-Auth-Client-Id $$client;
      proxy_set_header X-Auth-User-Id $$user;
      proxy_set_header X-Auth-Session-Id $$session;
      proxy_set_header X-Auth-Role $$role;
      proxy_set_header X-Auth-Scope "";
      proxy_pass http://127.0.0.1:$echo;
    }
    location = /_decision {
      internal;
      proxy_pass http://127.0.0.1:$gateway/_authz;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $$request_method;
      proxy_set_header X-Original-URI $$request_uri;
    }
  }
}
"""
)


def _envoy(port: int, echo: int, gateway: int) -> str:
    """Envoy's configuration: a listener with HTTP `ext_authz` before its router."""

    def cluster(name: str, to: int) -> dict[str, object]:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": to}}
        return {
            "name": name,
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }

    http = "type.googleapis.com/envoy.extensions.filters"
    told = {"patterns": [{"prefix": "x-auth-"}]}
    asked = {"patterns": [{"exact": name} for name in ("x-api-key", "authorization", "origin")]}
    authz = {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{http}.http.ext_authz.v3.ExtAuthz",
            "failure_mode_allow": False,
            "allowed_headers": asked,
            "http_service": {
                "server_uri": {"uri": f"http://127.0.0.1:{gateway}", "cluster": "gateway", "timeout": "2s"},
                "path_prefix": "/_authz",
                "authorization_response": {"allowed_upstream_headers": told},
            },
        },
    }
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{http}.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{http}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "early_header_mutation_extensions": [],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "echo"}}],
                }
            ]
        },
        "http_filters": [authz, router],
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return json.dumps(
        {
            "static_resources": {
                "listeners": [listener],
                "clusters": [cluster("echo", echo), cluster("gateway", gateway)],
            }
        }
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def _running(*command: str, port: int) -> AsyncIterator[httpx.AsyncClient]:
    """Run a proxy until the block ends; ready once its port accepts."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                assert process.returncode is None, f"{command[0]} ended with {process.returncode}"
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def _proxy(
    kind: str, folder: Path, echo: Echo, gateway: RunningGateway
) -> AsyncIterator[httpx.AsyncClient]:
    port = _free_port()
    echo_port = int(echo.url.rpartition(":")[2])
    if kind == "nginx":
        binary = shutil.which("nginx")
        if binary is None:
            pytest.skip("nginx is not installed")
        config = folder / "nginx.conf"
        values = {"folder": folder, "port": port, "echo": echo_port, "gateway": gateway.port}
        config.write_text(_NGINX.substitute(values))
        command = [binary, "-p", str(folder), "-c", str(config), "-e", "stderr"]
    else:
        binary = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
        if binary is None:
            pytest.skip("envoy is not installed")
        config = folder / "envoy.json"
        config.write_text(_envoy(port, echo_port, gateway.port))
        command = [binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    async with _running(*command, port=port) as client:
        yield client


@pytest.fixture
async def person(gateway: RunningGateway, tenant: Tenant) -> Person:
    """A user of the test's tenant."""
    return await sign_up(gateway, tenant)


async def test_decision_tells_who_is_calling(gateway: RunningGateway, tenant: Tenant, person: Person) -> None:
    answer = await gateway.client.get("/_authz", headers={**person.headers, **_FORGED})

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["x-auth-client-id"] == str(tenant.id)
    assert answer.headers["x-auth-user-id"] == person.id
    assert answer.headers["x-auth-session-id"] == person.session_id
    assert answer.headers["x-auth-role"] == "user"
    assert "x-auth-scope" not in answer.headers
    assert "x-auth-impersonator-id" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


async def test_decision_by_key_alone_when_that_is_asked_for(gateway: RunningGateway, tenant: Tenant) -> None:
    key = {"X-API-Key": tenant.api_key}

    assert (await gateway.client.get("/_authz", headers=key)).status_code == 401
    answer = await gateway.client.get("/_authz?require=api_key", headers=key)
    assert answer.status_code == 200
    assert answer.headers["x-auth-client-id"] == str(tenant.id)
    assert "x-auth-user-id" not in answer.headers


async def test_decision_refuses_as_the_routes_do(
    system: System, gateway: RunningGateway, tenant: Tenant, person: Person
) -> None:
    other = await system.tenant()
    publishable = {**person.headers, "X-API-Key": tenant.publishable_key}
    for headers, status in (
        ({}, 401),
        ({**person.headers, "X-API-Key": other.api_key}, 401),
        ({**person.headers, "Authorization": "Bearer x"}, 401),
        ({**publishable, "Origin": "https://evil.example"}, 403),
        ({**publishable, "Origin": ORIGIN}, 200),
    ):
        assert (await gateway.client.get("/_authz", headers=headers)).status_code == status, headers
    assert (await gateway.client.get("/_authz?require=admin", headers=person.headers)).status_code == 400


async def test_refusal_names_the_request_that_was_asked_about(
    system: System, gateway: RunningGateway
) -> None:
    answer = await gateway.client.get(
        "/_authz",
        headers={
            "X-API-Key": "ask_" + "z" * 43,
            "X-Original-Method": "DELETE",
            "X-Original-URI": "/orders/1?token=secret",
            "X-Forwarded-For": "198.51.100.33",
        },
    )
    assert answer.status_code == 401

    request_id = answer.headers["x-request-id"]
    async with asyncio.timeout(10):
        while not (found := [event for event in system.events if event.request_id == request_id]):
            await asyncio.sleep(0.05)
    assert found[0].data == {"reason": "invalid_api_key", "method": "DELETE", "path": "/orders/1"}


async def test_method_that_was_asked_about_is_no_label_of_the_metrics(gateway: RunningGateway) -> None:
    # Proxies pass on whatever method their clients invent: each would be a time series for ever.
    await gateway.client.get("/_authz", headers={"X-Original-Method": "INVENTED"})
    metrics = (await gateway.client.get("/metrics")).text
    assert 'route="/_authz"' in metrics
    assert "INVENTED" not in metrics


@pytest.mark.parametrize("kind", ["nginx", "envoy"])
async def test_real_proxy_forwards_only_what_the_gateway_allows(
    kind: str, tmp_path: Path, echo: Echo, gateway: RunningGateway, tenant: Tenant, person: Person
) -> None:
    async with _proxy(kind, tmp_path, echo, gateway) as proxy:
        before = len(echo.arrived)
        for headers in ({}, {"X-API-Key": tenant.api_key}, {**person.headers, "Authorization": "Bearer x"}):
            refused = await proxy.get("/orders/1", headers=headers)
            assert refused.status_code == 401, refused.text
        assert len(echo.arrived) == before

        allowed = await proxy.post("/orders/1?a=1", headers={**person.headers, **_FORGED}, content=b"body")

    assert allowed.status_code == 200, allowed.text
    arrived = echo.last()
    assert (arrived.method, arrived.target, arrived.size) == ("POST", "/orders/1?a=1", 4)
    assert arrived.header("x-auth-client-id") == str(tenant.id)
    assert arrived.header("x-auth-user-id") == person.id
    assert arrived.header("x-auth-role") == "user"
