"""Revocation and introspection at the provider's endpoints (RFC 7009, RFC 7662, RFC 9701)."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import timedelta
from typing import Any

import jwt
import pytest
import structlog

from chassis.ids import new_id
from contracts.gen.internal.token.v1 import grants_pb2
from services.token.tests.conftest import AT_ANY_TIME, Token, claims_of, header_of
from services.token.tests.oauth_flow import Apps, TestApp, basic
from services.token.tests.test_service_accounts import Account, create
from tests.harness import BASE_URL, Answer, System, Tenant

API = "https://api.example.com"
SIGNED = {"accept": "application/token-introspection+jwt"}
INACTIVE = b'{"active":false}'

log = structlog.get_logger()


@pytest.fixture
async def app(apps: Apps, tenant: Tenant) -> TestApp:
    """A confidential app."""
    return await apps.create(tenant)


def as_client(apps: Apps, account: Account) -> TestApp:
    """A service account at the endpoints."""
    return TestApp(apps.system, apps.token, apps.grants, account.tenant, account.id, account.secret)


async def introspect(client: TestApp, token: str, **options: Any) -> Answer:
    """Ask what a token is worth."""
    return await client.post("/introspect", {"token": token}, **options)


async def revoke(client: TestApp, token: str) -> Answer:
    """Revoke a token, which always succeeds."""
    answer = await client.post("/revoke", {"token": token, "token_type_hint": "x"})
    assert (answer.status, answer.body) == (200, b""), answer.body
    assert answer.headers["cache-control"] == "no-store"
    return answer


async def test_introspect_when_asked_by_who_may_know_then_told(
    apps: Apps, app: TestApp, system: System, tenant: Tenant
) -> None:
    """O-24, O-25, J-13."""
    tokens = await app.tokens()
    account = await create(system, tenant)
    machine, owner = as_client(apps, account), apps.tenant(tenant)
    for client in (app, machine, owner):
        found = (await introspect(client, tokens["access_token"])).json
        assert (found["active"], found["azp"], found["token_use"]) == (True, app.id, "oauth")
        assert found["token_type"] == "Bearer"
    found = (await introspect(app, tokens["refresh_token"])).json
    assert (found["active"], found["azp"], found["scope"]) == (True, app.id, tokens["scope"])
    assert "token_type" not in found

    other, public = await apps.create(tenant), await apps.public(tenant)
    elsewhere = await system.tenant()
    strangers = [apps.tenant(elsewhere), as_client(apps, await create(system, elsewhere)), other]
    for stranger in strangers:
        for token in (tokens["access_token"], tokens["refresh_token"], tokens["id_token"], "garbage"):
            answer = await introspect(stranger, token)
            assert (answer.status, answer.body) == (200, INACTIVE)
    for client in (machine, owner):
        assert (await introspect(client, tokens["refresh_token"])).body == INACTIVE
    own = (await account.token()).json["access_token"]
    for client, token in (
        (app, own),
        (app, tokens["id_token"]),
        (owner, tokens["id_token"]),
        (owner, (await app.login()).refresh_token),
        (owner, tokens["access_token"][:-4]),
    ):
        assert (await introspect(client, token)).body == INACTIVE
    nobody: list[tuple[TestApp, dict[str, Any]]] = [
        (public, {}),
        (app, {"is_anonymous": True}),
        (app, {"headers": {"authorization": f"Bearer {tokens['access_token']}"}}),
    ]
    for client, options in nobody:
        answer = await introspect(client, tokens["access_token"], **options)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert (await app.post("/introspect", {})).json["error"] == "invalid_request"


async def test_introspect_when_a_signed_answer_is_wanted_then_a_jwt_for_the_asker(
    app: TestApp, tenant: Tenant
) -> None:
    """RFC 9701 §5; J-14: it is good for nothing else."""
    tokens = await app.tokens()
    answer = await introspect(app, tokens["access_token"], headers=SIGNED)
    assert answer.headers["content-type"] == "application/token-introspection+jwt"
    assert answer.headers["cache-control"] == "no-store"
    signed = answer.body.decode()
    assert header_of(signed)["typ"] == "token-introspection+jwt"
    keys = (await app.system.call("token", "GET", "/.well-known/jwks.json", caller=tenant.caller())).json
    key = next(key for key in keys["keys"] if key["kid"] == header_of(signed)["kid"])
    claims = jwt.decode(
        signed, jwt.PyJWK(key), ["RS256"], audience=app.id, issuer=BASE_URL, options=AT_ANY_TIME
    )
    assert "sub" not in claims
    assert "exp" not in claims
    assert claims["token_introspection"] == (await introspect(app, tokens["access_token"])).json
    inactive = claims_of((await introspect(app, "x", headers=SIGNED)).body.decode())
    assert inactive["token_introspection"] == {"active": False}
    assert (await introspect(app, "x", headers={"accept": "application/json"})).body == INACTIVE
    assert (await introspect(app, signed)).body == INACTIVE
    assert not await app.is_good(signed)


async def test_revoke_when_its_own_then_dead_and_when_anothers_then_nothing(
    apps: Apps, app: TestApp, system: System, tenant: Tenant, token: Token
) -> None:
    """O-26."""
    login = await app.login()
    first, second = await app.tokens(login), await app.tokens(login)
    other, elsewhere = await apps.create(tenant), await system.tenant()
    account = await create(system, tenant)
    machine_token = (await account.token()).json["access_token"]
    machine = as_client(apps, account)
    for client in (other, apps.tenant(tenant), apps.tenant(elsewhere), machine):
        for each in (first["access_token"], first["refresh_token"], first["id_token"], "garbage"):
            await revoke(client, each)
    for each in (login.access_token, login.refresh_token, machine_token):
        await revoke(app, each)
    assert await app.is_good(first["access_token"])
    assert (await token.validate(tenant, login.access_token)).valid
    assert (await token.refresh(tenant, login.refresh_token)).status == 200
    assert (await introspect(machine, machine_token)).json["active"] is True

    await revoke(app, first["access_token"])

    assert not await app.is_good(first["access_token"])
    assert (await introspect(app, first["access_token"])).body == INACTIVE
    assert (await token.validate(tenant, first["access_token"])).error == "token_revoked"
    renewed = (await app.refresh(first["refresh_token"])).json
    assert await app.is_good(renewed["access_token"]), "the grant goes on"
    await system.event("token_revoked", client_id=tenant.id, app_id=app.id)

    await revoke(app, renewed["refresh_token"])

    assert not await app.is_good(renewed["access_token"])
    assert (await app.refresh(renewed["refresh_token"])).json["error"] == "invalid_grant"
    assert await app.is_good(second["access_token"])
    await system.event("session_revoked", client_id=tenant.id, reason="token_revoked")
    await revoke(app, renewed["refresh_token"])
    await revoke(machine, machine_token)
    assert (await introspect(machine, machine_token)).body == INACTIVE
    public = await apps.public(tenant)
    tokens = await public.tokens()
    await revoke(public, tokens["refresh_token"])
    assert not await public.is_good(tokens["access_token"])
    for wrong in ({"is_anonymous": True}, {"headers": {"authorization": "Basic x"}}):
        answer = await app.post("/revoke", {"token": "x"}, **wrong)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert (await app.post("/revoke", {})).json["error"] == "invalid_request"


async def test_app_when_it_asks_for_itself_then_a_token_that_ends_with_it(apps: Apps, system: System) -> None:
    """O-23 for apps."""
    tenant = await system.tenant(
        settings={"oidc_allowed_scopes": ["openid", "jobs:run", "jobs:read"], "oidc_audiences": [API]}
    )
    app = await apps.create(tenant)

    async def ask(client: TestApp, path: str = "/token", **parameters: str) -> Answer:
        return await client.post(path, {"grant_type": "client_credentials", **parameters})

    answer = await ask(app)
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"access_token", "token_type", "expires_in", "scope"}
    claims = claims_of(answer.json["access_token"])
    assert (claims["token_use"], claims["sub"], claims["azp"]) == ("client_credentials", app.id, app.id)
    assert (claims["scope"], claims["aud"]) == ("jobs:run jobs:read", str(tenant.id))
    assert "service_account_id" not in claims
    narrow = await ask(app, "/oauth/token", scope="jobs:read")
    assert narrow.json["scope"] == "jobs:read"
    at_api = await ask(app, resource=API)
    assert claims_of(at_api.json["access_token"])["aud"] == API
    for more, error in (
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "jobs:run x"}, "invalid_scope"),
        ({"resource": "https://evil.example"}, "invalid_target"),
    ):
        assert (await ask(app, **more)).json["error"] == error
    good = [answer.json["access_token"], at_api.json["access_token"]]
    for access_token in good:
        assert (await introspect(app, access_token)).json["active"] is True
    assert (await app.admin("PATCH", json={"status": "disabled"})).status == 200
    for access_token in good:
        assert (await introspect(apps.tenant(tenant), access_token)).body == INACTIVE
    assert (await ask(app)).status == 401


async def test_login_of_an_id_token_when_it_comes_back_then_known_and_nothing_else_is(
    app: TestApp, token: Token
) -> None:
    """J-13, J-14."""
    tokens = await app.tokens(scope="openid")

    async def read(text: str) -> dict[str, Any] | None:
        answer = await app.grants.ReadIdToken(grants_pb2.ReadIdTokenRequest(id_token=text))
        return json.loads(answer.claims_json) if answer.valid else None

    found = await read(tokens["id_token"])
    assert found is not None
    assert found["aud"] == app.id
    logout = grants_pb2.SignTokenRequest(
        typ="logout+jwt", alg="RS256", claims_json=json.dumps({"sub": "x", "auth_time": 1})
    )
    userinfo = grants_pb2.SignTokenRequest(typ="JWT", alg="RS256", claims_json=json.dumps({"sub": "x"}))
    head, payload, signature = tokens["id_token"].split(".")
    unsigned = b64encode(b'{"alg":"none","typ":"JWT","kid":"x"}').rstrip(b"=").decode()
    for other in (
        tokens["access_token"],
        (await app.grants.SignToken(logout)).token,
        (await app.grants.SignToken(userinfo)).token,
        f"{head}.{payload}.{signature[::-1]}",
        f"{unsigned}.{payload}.",
        "x" * 20_000,
    ):
        assert await read(other) is None
    with app.system.clock.advanced(timedelta(days=1)):
        assert await read(tokens["id_token"]) == found, "a hint may have expired"
    assert not await app.is_good(tokens["id_token"])
    assert not (await token.validate(app.tenant, tokens["id_token"])).valid


async def test_token_when_its_audience_is_another_then_good_nowhere(
    apps: Apps, system: System, token: Token
) -> None:
    """J-10: also when the tenant, which knows its own secret, has signed it."""
    tenant = await system.tenant(token_mode="v1_hs256", settings={"oidc_audiences": [API]})
    path = f"/api/admin/clients/{tenant.id}/rotate-secret"
    secret = (await system.call("token", "POST", path, caller=system.admin())).json["jwt_secret"]
    owner = apps.tenant(tenant)
    good = (await owner.tokens())["access_token"]
    own = str(tenant.id)

    def signed(**claims: Any) -> str:
        members = {name: value for name, value in {**claims_of(good), **claims}.items() if value is not None}
        return jwt.encode(members, secret, "HS256", headers=header_of(good))

    for accepted in (good, signed(), signed(aud=[own])):
        assert (await introspect(owner, accepted)).json["active"] is True
        assert await owner.is_good(accepted)
    # For a resource of the tenant it is good there, and not at the issuer's own.
    at_api = signed(aud=API)
    assert (await introspect(owner, at_api)).json["active"] is True
    assert not await owner.is_good(at_api)
    forgeries: tuple[dict[str, Any], ...] = (
        {"aud": None},
        {"aud": []},
        {"aud": ""},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": [own, "https://evil.example"]},
        {"aud": {"x": own}},
        {"token_use": "access"},
        {"azp": None},
        {"azp": "x"},
        {"sub": str(new_id())},
    )
    for claims in forgeries:
        forged = signed(**claims)
        assert (await introspect(owner, forged)).body == INACTIVE, claims
        assert not await owner.is_good(forged), claims
        assert not (await token.validate(tenant, forged)).valid, claims


async def test_secrets_when_the_endpoints_are_used_then_in_no_log_and_no_event(
    app: TestApp, capsys: pytest.CaptureFixture[str]
) -> None:
    """O-38."""
    code = await app.code(await app.login())
    tokens = (await app.redeem(code)).json
    renewed = (await app.refresh(tokens["refresh_token"])).json
    wrong = "acs_" + "w" * 43
    await app.post("/token", {}, headers={"authorization": basic(app.id, wrong)}, is_anonymous=True)
    await introspect(app, renewed["access_token"])
    await revoke(app, renewed["refresh_token"])
    await app.redeem(code)
    await app.system.event("session_revoked", client_id=app.tenant.id, app_id=app.id)

    log.info("a positive control", app_id=app.id)
    out = capsys.readouterr()
    logged = out.out + out.err
    assert app.id in logged
    events = "".join(str(e.data) for e in app.system.events if e.client_id == app.tenant.id)
    issued = [*tokens.values(), *renewed.values()]
    for secret in (code, app.secret, wrong, *(text for text in issued if len(str(text)) > 40)):
        assert str(secret) not in logged
        assert str(secret) not in events
    assert app.id in events, "a positive control"
