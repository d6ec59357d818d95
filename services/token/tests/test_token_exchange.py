"""Token exchange (RFC 8693): narrower, delegated, and never longer than what it came from."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.gen.internal.token.v1 import grants_pb2
from services.token.tests.conftest import Token, claims_of
from services.token.tests.oauth_flow import ORIGIN, TOKEN_EXCHANGE, Apps, TestApp
from services.token.tests.test_service_accounts import create
from tests.harness import Answer, System, Tenant

API, FILES = "https://api.example.com", "https://files.example.com"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


@pytest.fixture
async def tenant(system: System) -> Tenant:
    """A client with two resources."""
    return await system.tenant(settings={"oidc_audiences": [API, FILES]})


@pytest.fixture
async def app(apps: Apps, tenant: Tenant) -> TestApp:
    """A server in the middle, which calls others for its users."""
    return await apps.create(tenant)


async def exchange(app: TestApp, subject: str, **parameters: Any) -> Answer:
    """Exchange a token."""
    form = {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": subject,
        "subject_token_type": ACCESS_TOKEN,
        **parameters,
    }
    return await app.post("/token", {name: value for name, value in form.items() if value is not None})


async def test_exchange_when_of_a_users_token_then_narrower_and_delegated(
    apps: Apps, app: TestApp, tenant: Tenant
) -> None:
    frontend = await apps.public(tenant)
    login = await app.login()
    subject = (await frontend.tokens(login))["access_token"]

    answer = await exchange(app, subject, audience=API, scope="email")

    assert answer.status == 200, answer.body
    assert set(answer.json) == {"access_token", "token_type", "expires_in", "scope", "issued_token_type"}
    assert answer.json["issued_token_type"] == ACCESS_TOKEN
    claims, was = claims_of(answer.json["access_token"]), claims_of(subject)
    assert (claims["sub"], claims["azp"], claims["act"]) == (login.user.id, app.id, {"sub": app.id})
    assert (claims["aud"], claims["scope"], claims["token_use"]) == (API, "email", "oauth")
    assert claims["sid"] == was["sid"]
    assert claims["exp"] <= was["exp"]
    whole = await exchange(app, subject)
    assert whole.json["scope"] == "openid email profile", "a grant to be offline is not handed on"
    assert claims_of(whole.json["access_token"])["aud"] == str(tenant.id)
    for more, error in (
        ({"scope": "email admin"}, "invalid_scope"),
        ({"scope": "offline_access"}, "invalid_scope"),
        ({"audience": "https://evil.example"}, "invalid_target"),
        ({"resource": "https://evil.example"}, "invalid_target"),
        ({"resource": API, "audience": str(tenant.id)}, "invalid_target"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"),
        ({"subject_token_type": None}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"),
        ({"actor_token_type": ACCESS_TOKEN}, "invalid_request"),
    ):
        refused = await exchange(app, subject, **more)
        assert (refused.status, refused.json["error"]) == (400, error), more
    narrow = answer.json["access_token"]
    for more, error in (
        ({"scope": "openid"}, "invalid_scope"),
        ({"audience": FILES}, "invalid_target"),
        ({"audience": str(tenant.id)}, "invalid_target"),
    ):
        assert (await exchange(app, narrow, **more)).json["error"] == error, "never wider again"
    exchanged = await app.system.event("token_exchanged", client_id=tenant.id, subject=login.user.id)
    assert (exchanged.target_id, exchanged.data["actor"]) == (app.id, app.id)


async def test_exchange_when_the_token_is_not_good_then_invalid_request(
    apps: Apps, app: TestApp, system: System, tenant: Tenant, token: Token
) -> None:
    login = await app.login()
    elsewhere = await system.tenant()
    mine = await app.tokens(login)
    enrolling = await token.open(tenant, only_for=600, token_use="enrollment")
    bad = {
        "another tenant's": (await token.open(elsewhere)).access_token,
        "an ID token": mine["id_token"],
        "a refresh token": mine["refresh_token"],
        "for the set-up only": enrolling.access_token,
        "garbage": "x",
    }
    for name, subject in bad.items():
        answer = await exchange(app, subject)
        assert (answer.status, answer.json["error"]) == (400, "invalid_request"), name
        acting = await exchange(app, login.access_token, actor_token=subject, actor_token_type=ACCESS_TOKEN)
        assert acting.json["error"] == "invalid_request", name
    public = await apps.public(tenant)
    without = await apps.create(tenant, grant_types=["authorization_code"])
    for client in (public, without):
        assert (await exchange(client, login.access_token)).json["error"] == "unauthorized_client"
    assert (await exchange(app, login.access_token, scope="email")).status == 200


async def test_exchange_when_it_goes_on_then_the_chain_of_actors_is_kept_and_bounded(
    app: TestApp, apps: Apps, system: System, tenant: Tenant
) -> None:
    worker = await create(system, tenant)
    actor = (await worker.token()).json["access_token"]
    login = await app.login()
    second = await apps.create(tenant)
    once = await exchange(app, login.access_token, scope="email")
    twice = await exchange(
        second,
        once.json["access_token"],
        actor_token=actor,
        actor_token_type=ACCESS_TOKEN,
    )
    assert claims_of(twice.json["access_token"])["act"] == {"sub": worker.id, "act": {"sub": app.id}}
    acted = await exchange(
        app, login.access_token, actor_token=once.json["access_token"], actor_token_type=ACCESS_TOKEN
    )
    assert acted.json["error"] == "invalid_request", "who acts for another does not act for a third"
    current, hops = twice.json["access_token"], 2
    while (answer := await exchange(app, current)).status == 200:
        current, hops = answer.json["access_token"], hops + 1
    assert (hops, answer.json["error"]) == (4, "invalid_request")


async def test_exchange_when_the_session_ends_then_what_came_of_it_too(
    app: TestApp, system: System, tenant: Tenant, token: Token
) -> None:
    login = await app.login()
    of_user = (await exchange(app, login.access_token, scope="openid")).json["access_token"]
    worker = await create(system, tenant)
    machine = (await worker.token()).json["access_token"]
    allowed = await exchange(app, machine)
    assert allowed.status == 200, allowed.body
    claims = claims_of(allowed.json["access_token"])
    assert (claims["sub"], claims["azp"], claims["scope"]) == (worker.id, app.id, "")
    assert (claims["token_use"], claims["act"]) == ("client_credentials", {"sub": app.id})
    assert await app.is_good(of_user)
    assert await app.is_good(allowed.json["access_token"])
    end = grants_pb2.EndLoginSessionRequest(
        client_id=str(tenant.id), session_id=login.session_id, origin=ORIGIN
    )
    assert (await app.grants.EndLoginSession(end)).ended
    assert not await app.is_good(of_user)
    assert (await exchange(app, login.access_token)).json["error"] == "invalid_request"
    assert (await worker.admin("DELETE", f"/keys/{worker.key_id}")).status == 204
    assert not await app.is_good(allowed.json["access_token"])


async def test_exchange_when_the_app_may_not_have_the_audience_then_refused_or_left_out(
    apps: Apps, app: TestApp, tenant: Tenant
) -> None:
    """RFC 8693 §2.2.2: what the token is for does not widen what the app may ask for."""
    files = await apps.create(tenant, audiences=[FILES])
    login = await app.login()
    api_only = (await app.tokens(login, resources=[API]))["access_token"]
    both = (await app.tokens(login, resources=[API, FILES]))["access_token"]

    for subject, asked in ((api_only, {}), (api_only, {"audience": API}), (both, {"resource": API})):
        refused = await exchange(files, subject, **asked)
        assert (refused.status, refused.json["error"]) == (400, "invalid_target"), asked
    assert (await exchange(files, login.access_token, audience=API)).json["error"] == "invalid_target"

    assert claims_of((await exchange(files, both)).json["access_token"])["aud"] == FILES
    assert claims_of((await exchange(app, api_only)).json["access_token"])["aud"] == API
    whole = await exchange(files, login.access_token)
    assert claims_of(whole.json["access_token"])["aud"] == str(tenant.id)


async def test_exchange_when_the_grant_asked_for_claims_by_name_then_only_its_own_app_is_told(
    apps: Apps, app: TestApp, tenant: Tenant
) -> None:
    asked = '{"userinfo": {"email": null}}'
    subject = (await app.tokens(scope="openid", claims_json=asked))["access_token"]
    exchanged = (await exchange(await apps.create(tenant), subject)).json["access_token"]

    for token, told in ((subject, asked), (exchanged, "")):
        verify = grants_pb2.VerifyOAuthTokenRequest(access_token=token)
        verified = await app.grants.VerifyOAuthToken(verify)
        assert (verified.valid, verified.requested_claims_json) == (True, told)
