"""How apps prove themselves: by keys of their own, at federation's endpoints, and as documents on the web."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import jwt
import pytest

from chassis.errors import AppError
from chassis.probes import Probes
from contracts.gen.internal.token.v1 import grants_pb2
from services.token.tests.conftest import claims_of
from services.token.tests.oauth_flow import ORIGIN, Apps, TestApp, basic
from services.token.tests.test_service_accounts import ASSERTION_TYPE, create, key_pair
from tests.fake_http import FakeHttp, certified
from tests.harness import BASE_URL, Answer, System, Tenant

RESOURCE = "https://mcp.example.com/tokens"


async def test_assertion_when_signed_by_the_apps_key_then_good_once(apps: Apps, tenant: Tenant) -> None:
    """O-22 for apps, at every endpoint."""
    private, jwk = key_pair()
    stranger, _ = key_pair()
    members = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [jwk]}}
    app = await apps.create(tenant, **members)
    assert app.secret == ""
    now = int(time.time())
    good = {"iss": app.id, "sub": app.id, "aud": BASE_URL, "exp": now + 60}

    async def ask(
        jti: str, key: Any = private, path: str = "/token", named: bool = True, **claims: Any
    ) -> Answer:
        assertion = jwt.encode({**good, "jti": jti, **claims}, key, "ES256", headers={"kid": "k1"})
        form = {
            "grant_type": "client_credentials",
            "token": "x",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
            **({"client_id": app.id} if named else {}),
        }
        return await app.post(path, form, is_anonymous=True)

    assert (await ask("1")).status == 200
    assert (await ask("1")).status == 401, "used before"
    assert (await ask("2", aud=f"{BASE_URL}/token", named=False)).status == 200
    assert (await ask("3", path="/introspect")).json == {"active": False}
    assert (await ask("4", path="/revoke")).status == 200
    other = await apps.create(tenant)
    refused: list[dict[str, Any]] = [
        {"key": stranger},
        {"aud": "https://evil.example"},
        {"aud": f"{BASE_URL}/introspect"},
        {"iss": other.id},
        {"sub": other.id, "iss": other.id, "named": False},
        {"exp": now - 120},
        {"exp": now + 86400},
    ]
    for number, options in enumerate(refused):
        answer = await ask(f"r{number}", **options)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client"), options
    assert (await app.redeem("x")).status == 401, "it is no public app"
    as_secret = await replace(app, secret="x").redeem("x")
    assert as_secret.status == 401


async def test_app_when_federation_asks_who_it_is_then_the_same_rules(
    apps: Apps, system: System, tenant: Tenant
) -> None:
    """What `/par` and `/device_authorization` are told."""
    app, public, owner = await apps.create(tenant), await apps.public(tenant), apps.tenant(tenant)

    async def who(**members: str) -> tuple[str, str, str]:
        request = grants_pb2.AuthenticateAppRequest(origin=ORIGIN, **members)
        answer = await app.grants.AuthenticateApp(request)
        return answer.client_id, answer.app_id, answer.method

    own = str(tenant.id)
    assert await who(authorization=basic(app.id, app.secret)) == (own, app.id, "client_secret_basic")
    assert await who(client_id=app.id, client_secret=app.secret) == (own, app.id, "client_secret_post")
    assert await who(client_id=public.id) == (own, public.id, "none")
    assert (await who(authorization=basic(owner.id, owner.secret)))[1] == own
    account = await create(system, tenant)
    wrong: list[dict[str, str]] = [
        {},
        {"client_id": app.id},
        {"authorization": basic(app.id, "x")},
        {"authorization": basic(app.id, app.secret), "client_secret": app.secret, "client_id": app.id},
        {"authorization": basic(account.id, account.secret)},
        {"authorization": basic(owner.id, tenant.publishable_key)},
        {"client_id": "https://client.example.com/client.json"},
    ]
    for members in wrong:
        with pytest.raises(AppError) as refused:
            await who(**members)
        assert (refused.value.code, str(refused.value.kind)) == ("invalid_client", "unauthenticated")


@pytest.fixture
async def document(system: System, apps: Apps, tmp_path: Any) -> AsyncIterator[TestApp]:
    """An app that describes itself on the web, at a token process whose orgs trusts its certificate."""
    serving, file = certified("localhost", tmp_path)
    fake = FakeHttp()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=serving)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/client.json"
    fake.answer = {
        "client_id": url,
        "client_name": "Helper",
        "redirect_uris": ["http://localhost/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
    }
    fake.headers = {"content-type": "application/json"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    orgs = system.definitions["orgs"].build(
        system.settings("orgs", client_id_document_ca_file=str(file)), system.clock
    )
    changed = system.settings("token", orgs_grpc=f"127.0.0.1:{port}")
    process = system.definitions["token"].build(changed, system.clock)
    tenant = await system.tenant(
        settings={"oidc_client_id_metadata_documents": True, "oidc_audiences": [RESOURCE]}
    )
    async with orgs.started(), process.started():
        assert orgs.make_rpc is not None
        rpc = orgs.make_rpc()
        await rpc.start(f"127.0.0.1:{port}")
        faces = {**system.faces, "token": process.make_face(Probes(process.required, process.optional))}
        yield TestApp(replace(system, faces=faces), apps.token, apps.grants, tenant, url)
        await rpc.stop(0)
    server.close()


async def test_document_when_it_redeems_and_refreshes_then_in_the_tenant_of_its_code(
    document: TestApp,
) -> None:
    login = await document.login()
    scope = "openid offline_access"
    code = await document.code(login, scope=scope, resources=[RESOURCE])
    answer = await document.redeem(code, resource=RESOURCE)
    assert answer.status == 200, answer.body
    claims = claims_of(answer.json["access_token"])
    assert (claims["azp"], claims["aud"]) == (document.id, RESOURCE)
    assert claims["client_id"] == str(document.tenant.id)
    renewed = await document.refresh(answer.json["refresh_token"], resource=RESOURCE)
    assert renewed.status == 200, renewed.body
    assert (await document.refresh("rt_" + "x" * 43)).status == 401, "of no tenant"
    assert json.dumps(claims["aud"]) not in renewed.json["id_token"]
    assert (await document.post("/revoke", {"token": renewed.json["refresh_token"]})).status == 200
    assert (await document.refresh(renewed.json["refresh_token"])).json["error"] == "invalid_grant"
