"""Refresh tokens of grants: rotated, bound to their app, and never worth more than was granted."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from chassis.probes import Probes
from contracts.gen.internal.token.v1 import grants_pb2, sessions_pb2
from services.token.tests.conftest import changed, claims_of
from services.token.tests.oauth_flow import ORIGIN, Apps, TestApp
from tests.harness import System, Tenant

API, FILES = "https://api.example.com", "https://files.example.com"


@pytest.fixture
async def tenant(system: System) -> Tenant:
    """A client with two resources."""
    return await system.tenant(settings={"oidc_audiences": [API, FILES]})


@pytest.fixture
async def app(apps: Apps, tenant: Tenant) -> TestApp:
    """A confidential app."""
    return await apps.create(tenant)


async def test_refresh_when_it_comes_back_then_the_grant_is_over_and_no_other(
    app: TestApp, system: System
) -> None:
    """O-15, O-17."""
    login = await app.login()
    first, other = await app.tokens(login), await app.tokens(login)
    second = (await app.refresh(first["refresh_token"])).json
    assert second["refresh_token"] != first["refresh_token"]
    assert claims_of(second["id_token"])["auth_time"] == claims_of(first["id_token"])["auth_time"]
    assert "nonce" not in claims_of(second["id_token"])
    third = (await app.refresh(second["refresh_token"], process=1)).json
    await system.redis_flush()

    restarted = system.definitions["token"].build(system.settings("token"), system.clock)
    async with restarted.started():
        face = restarted.make_face(Probes(restarted.required, restarted.optional))
        reborn = replace(app, token=replace(app.token, second_face=face))
        again = await reborn.refresh(first["refresh_token"], process=1)

    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert (await app.refresh(third["refresh_token"])).json["error"] == "invalid_grant"
    assert not await app.is_good(third["access_token"])
    assert (await app.refresh(other["refresh_token"])).status == 200
    await system.event("refresh_token_reuse_detected", client_id=app.tenant.id, app_id=app.id)


async def test_refresh_when_fifty_at_once_then_one_lineage(app: TestApp) -> None:
    """O-16."""
    token = (await app.tokens())["refresh_token"]
    answers = await asyncio.gather(*(app.refresh(token, process=n % 2) for n in range(50)))
    assert len({answer.json["refresh_token"] for answer in answers if answer.status == 200}) == 1


async def test_refresh_when_anothers_then_refused_and_not_used(
    apps: Apps, app: TestApp, tenant: Tenant
) -> None:
    """O-18: nor is it one of a login, nor the reverse."""
    login = await app.login()
    token = (await app.tokens(login))["refresh_token"]
    others = [
        await apps.create(tenant),
        await apps.public(tenant),
        apps.tenant(tenant),
        apps.tenant(await app.system.tenant()),
    ]
    for other in others:
        answer = await other.refresh(token)
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
        answer = await other.refresh(login.refresh_token)
        assert answer.json["error"] == "invalid_grant"
    as_login = await app.token.refresh(tenant, token)
    assert (as_login.status, as_login.code) == (401, "invalid_refresh_token")
    logout = await app.token.post(tenant, "/api/auth/logout", json={"refresh_token": token})
    assert logout.status == 204
    renewed = await app.refresh(token)
    assert renewed.status == 200, "none of these has used it up"
    for other in others:
        await other.refresh(token)
    assert (await app.refresh(renewed.json["refresh_token"])).status == 200, "nor ended it"
    assert (await app.token.refresh(tenant, login.refresh_token)).status == 200


async def test_refresh_when_scope_or_resource_is_named_then_narrower_and_never_wider(app: TestApp) -> None:
    """O-20, RFC 8707 §2.2."""
    granted = await app.tokens(scope="openid email offline_access", resources=[API])
    assert claims_of(granted["access_token"])["aud"] == API
    token = granted["refresh_token"]
    for more, error in (
        ({"scope": "openid profile"}, "invalid_scope"),
        ({"scope": "*"}, "invalid_scope"),
        ({"scope": "openid  email"}, "invalid_scope"),
        ({"scope": "openid\u00a0email"}, "invalid_scope"),
        ({"resource": FILES}, "invalid_target"),
        ({"resource": "https://evil.example"}, "invalid_target"),
    ):
        answer = await app.refresh(token, **more)
        assert (answer.status, answer.json["error"]) == (400, error), more
    narrow = await app.refresh(token, scope="email email", resource=API)
    assert narrow.json["scope"] == "email"
    assert "id_token" not in narrow.json
    whole = await app.refresh(narrow.json["refresh_token"])
    assert whole.json["scope"] == "openid email offline_access", "the grant itself is as it was"


async def test_refresh_when_user_or_app_has_changed_then_claims_are_of_today(
    app: TestApp, system: System, tenant: Tenant
) -> None:
    """O-19."""
    login = await app.login()
    token = (await app.tokens(login))["refresh_token"]
    newer = changed(login.user, email="new@example.com", role="member", version=2)
    await app.token.sessions.PutUser(sessions_pb2.PutUserRequest(user=newer, origin=ORIGIN))
    renewed = (await app.refresh(token)).json
    assert claims_of(renewed["access_token"])["email"] == "new@example.com"
    assert claims_of(renewed["id_token"])["email"] == "new@example.com"

    narrowed = await app.admin("PATCH", json={"scopes": ["openid", "offline_access"]})
    assert narrowed.status == 200, narrowed.body
    renewed = (await app.refresh(renewed["refresh_token"])).json
    assert renewed["scope"] == "openid offline_access"
    assert "email" not in claims_of(renewed["access_token"])

    gone = changed(newer, status="suspended", version=3)
    await app.token.sessions.PutUser(sessions_pb2.PutUserRequest(user=gone, origin=ORIGIN))
    assert (await app.refresh(renewed["refresh_token"])).json["error"] == "invalid_grant"

    other = await app.tokens()
    path = f"/api/admin/clients/{tenant.id}"
    suspend = await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})
    assert suspend.status == 200
    assert (await app.refresh(other["refresh_token"])).status == 401
    assert not await app.is_good(other["access_token"])


async def test_grant_when_the_app_loses_resources_then_never_for_them_nor_for_the_tenant(
    app: TestApp,
) -> None:
    """RFC 8707 §2.2: an empty audience would be the whole tenant's."""
    login = await app.login()
    both = (await app.tokens(login, resources=[API, FILES]))["refresh_token"]
    only = (await app.tokens(login, resources=[API]))["refresh_token"]
    code = await app.code(login, resources=[API])
    wide = await app.code(login, resources=[API, FILES])
    assert (await app.admin("PATCH", json={"audiences": [FILES]})).status == 200

    narrowed = await app.refresh(both)
    assert claims_of(narrowed.json["access_token"])["aud"] == FILES
    named = await app.refresh(narrowed.json["refresh_token"], resource=API)
    for refused in (await app.refresh(only), await app.redeem(code), named):
        assert (refused.status, refused.json["error"]) == (400, "invalid_target")
    assert (await app.redeem(wide, resource=API)).json["error"] == "invalid_target"
    assert claims_of((await app.redeem(wide)).json["access_token"])["aud"] == FILES

    assert (await app.admin("PATCH", json={"audiences": [API, FILES]})).status == 200
    for granted in (await app.refresh(only), await app.redeem(code)):
        assert claims_of(granted.json["access_token"])["aud"] == API, "none of these was used up"


async def test_grant_when_the_app_loses_a_scope_then_no_claims_of_it_by_name_either(app: TestApp) -> None:
    """OpenID Connect Core §5.5: what is asked for by name needs the scope that it is of."""
    asked = '{"id_token": {"email": null, "name": null}, "userinfo": {"email": null, "name": null}}'
    tokens = await app.tokens(scope="openid offline_access", claims_json=asked)
    assert {"email", "name"} <= set(claims_of(tokens["id_token"]))
    verify = grants_pb2.VerifyOAuthTokenRequest(access_token=tokens["access_token"])
    told = (await app.grants.VerifyOAuthToken(verify)).requested_claims_json
    assert json.loads(told) == json.loads(asked)
    narrowed = await app.admin("PATCH", json={"scopes": ["openid", "profile", "offline_access"]})
    assert narrowed.status == 200, narrowed.body

    renewed = claims_of((await app.refresh(tokens["refresh_token"])).json["id_token"])

    assert ("email" in renewed, "name" in renewed) == (False, True)
    told = (await app.grants.VerifyOAuthToken(verify)).requested_claims_json
    assert json.loads(told) == {"id_token": {"name": None}, "userinfo": {"name": None}}


async def test_app_when_disabled_or_deleted_then_what_it_was_granted_is_over(
    app: TestApp, apps: Apps, system: System, tenant: Tenant
) -> None:
    """O-23 for apps: at once where tokens are looked at, and for good."""
    other, deleted = await apps.create(tenant), await apps.create(tenant)
    login = await app.login()
    tokens, untouched, gone = [await each.tokens(login) for each in (app, other, deleted)]

    assert (await app.admin("PATCH", json={"status": "disabled"})).status == 200

    assert not await app.is_good(tokens["access_token"])
    assert (await app.refresh(tokens["refresh_token"])).status == 401
    await system.event("session_revoked", client_id=tenant.id, reason="app_ended", app_id=app.id)
    assert (await app.admin("PATCH", json={"status": "active"})).status == 200
    assert not await app.is_good(tokens["access_token"])
    assert (await app.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"
    assert (await deleted.admin("DELETE")).status == 204
    assert not await app.is_good(gone["access_token"])
    await system.event("session_revoked", client_id=tenant.id, reason="app_ended", app_id=deleted.id)
    assert await other.is_good(untouched["access_token"])
    assert (await app.tokens(login))["access_token"]
