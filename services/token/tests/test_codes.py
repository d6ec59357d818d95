"""Authorization codes at the token endpoint: bound, used once, and what they give."""

from __future__ import annotations

import asyncio
import hashlib
import time
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest

from chassis.errors import AppError
from contracts.gen.internal.token.v1 import grants_pb2, sessions_pb2
from services.token.tests.conftest import AT_ANY_TIME, changed, claims_of, header_of, user_of
from services.token.tests.oauth_flow import (
    ORIGIN,
    REDIRECT,
    TOKEN_EXCHANGE,
    VERIFIER,
    Apps,
    TestApp,
    basic,
)
from tests.harness import BASE_URL, Answer, System, Tenant

SETTINGS = {"oidc_audiences": ["https://api.example.com", "https://files.example.com"]}


@pytest.fixture
async def tenant(system: System) -> Tenant:
    """A client with two resources."""
    return await system.tenant(settings=SETTINGS)


@pytest.fixture
def app(apps: Apps, tenant: Tenant) -> TestApp:
    """The tenant itself as an app, with its API key."""
    return apps.tenant(tenant)


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
async def test_code_when_redeemed_then_tokens_of_the_grant(apps: Apps, tenant: Tenant, alg: str) -> None:
    app = await apps.create(tenant, id_token_signed_response_alg=alg)
    login = await app.login()
    answer = await app.redeem(await app.code(login, nonce="n-1"))

    assert answer.status == 200, answer.body
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    document = answer.json
    assert set(document) == {
        "access_token",
        "token_type",
        "expires_in",
        "scope",
        "refresh_token",
        "id_token",
    }
    assert (document["token_type"], document["expires_in"]) == ("Bearer", 900)
    assert document["scope"] == "openid email profile offline_access"
    access = claims_of(document["access_token"])
    assert header_of(document["access_token"])["typ"] == "at+jwt"
    expected = {
        "iss": BASE_URL,
        "sub": login.user.id,
        "aud": str(tenant.id),
        "client_id": str(tenant.id),
        "azp": app.id,
        "token_use": "oauth",
        "scope": document["scope"],
        "email": login.user.email,
        "email_verified": True,
        "role": "user",
        "amr": ["pwd"],
        "acr": "urn:authservice:acr:1fa",
        "auth_time": claims_of(login.access_token)["auth_time"],
    }
    assert {name: access[name] for name in expected} == expected
    assert access["sid"] != login.session_id
    keys = (await app.system.call("token", "GET", "/.well-known/jwks.json", caller=tenant.caller())).json
    id_token, header = document["id_token"], header_of(document["id_token"])
    assert (header["typ"], header["alg"]) == ("JWT", alg)
    key = next(key for key in keys["keys"] if key["kid"] == header["kid"])
    identity = jwt.decode(
        id_token, jwt.PyJWK(key), [alg], audience=app.id, issuer=BASE_URL, options=AT_ANY_TIME
    )
    digest = (hashlib.sha512 if alg == "EdDSA" else hashlib.sha256)(
        document["access_token"].encode()
    ).digest()
    expected = {
        "sub": login.user.id,
        "azp": app.id,
        "nonce": "n-1",
        "sid": login.session_id,
        "auth_time": expected["auth_time"],
        "acr": expected["acr"],
        "amr": ["pwd"],
        "at_hash": urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode(),
        "email": login.user.email,
        "name": "Ada",
    }
    assert {name: identity[name] for name in expected} == expected
    opened = await app.system.event("session_opened", client_id=tenant.id, app_id=app.id)
    assert opened.data["parent_id"] == login.session_id
    assert opened.actor_id == login.user.id


async def test_tokens_when_scopes_are_few_then_say_little(app: TestApp) -> None:
    answer = await app.tokens(scope="openid")
    assert set(answer) == {"access_token", "token_type", "expires_in", "scope", "id_token"}
    for claims in (claims_of(answer["access_token"]), claims_of(answer["id_token"])):
        assert not {"email", "email_verified", "role", "name"} & set(claims)
    asked = await app.tokens(
        scope="openid", claims_json='{"id_token": {"email": null}, "userinfo": {"x": null}}'
    )
    assert "email" in claims_of(asked["id_token"])
    assert "email" not in claims_of(asked["access_token"])
    assert "id_token" not in await app.tokens(scope="email")
    more = await app.tokens(scope="openid admin:everything")
    assert more["scope"] == "openid", "what the app may not have it does not get"


async def test_code_when_used_again_then_refused_and_its_tokens_dead(app: TestApp) -> None:
    """O-04."""
    login = await app.login()
    other = await app.tokens(login)
    code = await app.code(login)
    first = await app.redeem(code)
    assert await app.is_good(first.json["access_token"])

    again = await app.redeem(code)

    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert not await app.is_good(first.json["access_token"])
    assert (await app.refresh(first.json["refresh_token"])).json["error"] == "invalid_grant"
    assert await app.is_good(other["access_token"]), "others live on"
    await app.system.event("code_reuse_detected", client_id=app.tenant.id, app_id=app.id)
    ended = await app.system.event("session_revoked", client_id=app.tenant.id, reason="code_reused")
    assert (ended.data["app_id"], ended.data["parent_id"]) == (app.id, login.session_id)

    code = await app.code(login)
    answers = await asyncio.gather(*(app.redeem(code, process=n % 2) for n in range(20)))
    good = [answer for answer in answers if answer.status == 200]
    assert len(good) == 1
    assert {answer.json["error"] for answer in answers if answer.status != 200} == {"invalid_grant"}
    assert not await app.is_good(good[0].json["access_token"])


async def test_code_when_redeemed_otherwise_than_it_was_asked_for_then_refused_and_not_used(
    apps: Apps, app: TestApp
) -> None:
    """O-03, O-05, O-07: each with the same code, which is good in the end."""
    confidential, public = await apps.create(app.tenant), await apps.public(app.tenant)
    stranger = apps.tenant(await app.system.tenant())
    login = await app.login()
    code = await app.code(login)

    async def refused(answer: Answer, error: str = "invalid_grant") -> None:
        assert (answer.status, answer.json["error"]) == (400, error), answer.body
        assert answer.headers["cache-control"] == "no-store"

    for redirect_uri in (None, REDIRECT + "/", REDIRECT.upper(), "https://evil.example/callback", "\udcff"):
        if redirect_uri != "\udcff":
            await refused(await app.redeem(code, redirect_uri=redirect_uri))
    for other in (confidential, public, stranger):
        await refused(await other.redeem(code))
    for verifier, error in (
        (None, "invalid_grant"),
        ("w" * 43, "invalid_grant"),
        ("v" * 42, "invalid_request"),
        ("v" * 129, "invalid_request"),
        ("v" * 42 + "!", "invalid_request"),
    ):
        await refused(await app.redeem(code, code_verifier=verifier), error)
    await refused(await app.redeem(code, resource="https://api.example.com"), "invalid_target")
    await refused(await app.redeem("ac_unknown"))
    await refused(await app.redeem("x" * 5000))
    await refused(await app.redeem(None), "invalid_request")
    assert (await app.redeem(code)).status == 200

    without = await app.code(login, code_challenge="")
    await refused(await app.redeem(without))
    assert (await app.redeem(without, code_verifier=None)).status == 200
    public_without = await public.code(login, code_challenge="")
    await refused(await public.redeem(public_without, code_verifier=None))


async def test_code_when_its_login_or_time_is_over_then_refused(app: TestApp, apps: Apps) -> None:
    """O-06."""
    with app.system.clock.advanced(timedelta(seconds=61)):
        pass
    late = await app.code(await app.login())
    with app.system.clock.advanced(timedelta(seconds=61)):
        assert (await app.redeem(late)).json["error"] == "invalid_grant"

    async def login_and_code() -> tuple[sessions_pb2.OpenedSession, str]:
        login = await app.login()
        return login, await app.code(login)

    suspended, code = await login_and_code()
    await app.token.sessions.PutUser(
        sessions_pb2.PutUserRequest(
            user=changed(suspended.user, status="suspended", version=2), origin=ORIGIN
        )
    )
    assert (await app.redeem(code)).json["error"] == "invalid_grant"
    for kept in (False, True):
        login, code = await login_and_code()
        await app.token.sessions.EndSessions(
            sessions_pb2.EndSessionsRequest(
                client_id=str(app.tenant.id),
                user_id=login.user.id,
                except_session_id=login.session_id if kept else "",
                reason="password_changed",
                origin=ORIGIN,
            )
        )
        assert (await app.redeem(code)).json["error"] == "invalid_grant"
    login, code = await login_and_code()
    end = grants_pb2.EndGrantsRequest(
        client_id=str(app.tenant.id), user_id=login.user.id, app_id=app.id, origin=ORIGIN
    )
    earlier = grants_pb2.EndGrantsRequest(granted_until=int(time.time()) - 60)
    earlier.MergeFrom(end)
    await app.grants.EndGrants(earlier)
    assert (await app.redeem(code)).status == 200, "it was granted later"
    code = await app.code(login)
    await app.grants.EndGrants(end)
    assert (await app.redeem(code)).json["error"] == "invalid_grant"
    assert (await app.redeem(await app.code(login))).status == 200
    stranger = await apps.tenant(await app.system.tenant()).login()
    for of in (stranger, replace_user(login, stranger.user.id)):
        with pytest.raises(AppError):
            await app.code(of)
    grant = claims_of((await app.tokens(login))["access_token"])["sid"]
    with pytest.raises(AppError):
        await app.code(replace_session(login, grant))


def replace_user(login: sessions_pb2.OpenedSession, user_id: str) -> sessions_pb2.OpenedSession:
    """The same login, said to be another user's."""
    copy = sessions_pb2.OpenedSession()
    copy.CopyFrom(login)
    copy.user.id = user_id
    return copy


def replace_session(login: sessions_pb2.OpenedSession, session_id: str) -> sessions_pb2.OpenedSession:
    """The same user, said to be logged in with another session."""
    copy = sessions_pb2.OpenedSession()
    copy.CopyFrom(login)
    copy.session_id = session_id
    return copy


async def test_login_when_it_ends_then_its_grants_but_those_for_offline(app: TestApp) -> None:
    login = await app.login()
    online, offline = await app.tokens(login, scope="openid"), await app.tokens(login)
    end = grants_pb2.EndLoginSessionRequest(
        client_id=str(app.tenant.id), session_id=login.session_id, origin=ORIGIN
    )
    assert (await app.grants.EndLoginSession(end)).ended
    assert not await app.is_good(online["access_token"])
    assert await app.is_good(offline["access_token"])
    sid = claims_of(online["access_token"])["sid"]
    ended = await app.system.event("session_revoked", client_id=app.tenant.id, app_id=app.id)
    assert (ended.target_id, ended.data["parent_id"]) == (sid, login.session_id)
    everywhere = sessions_pb2.EndSessionsRequest(
        client_id=str(app.tenant.id), user_id=login.user.id, reason="x", origin=ORIGIN
    )
    await app.token.sessions.EndSessions(everywhere)
    assert not await app.is_good(offline["access_token"])
    assert (await app.refresh(offline["refresh_token"])).json["error"] == "invalid_grant"


async def test_login_when_it_ends_while_codes_are_redeemed_then_no_grant_outlives_it(app: TestApp) -> None:
    """X-03, X-11."""
    user = user_of(app.tenant)
    for by_user in (False, True):
        login = await app.login(user)
        codes = [await app.code(login, scope="openid") for _ in range(10)]
        end: Any
        if by_user:
            end = app.token.sessions.EndSessions(
                sessions_pb2.EndSessionsRequest(
                    client_id=str(app.tenant.id), user_id=user.id, reason="x", origin=ORIGIN
                )
            )
        else:
            end = app.grants.EndLoginSession(
                grants_pb2.EndLoginSessionRequest(
                    client_id=str(app.tenant.id), session_id=login.session_id, origin=ORIGIN
                )
            )
        answers, _ = await asyncio.gather(
            asyncio.gather(*(app.redeem(code, process=n % 2) for n, code in enumerate(codes))), end
        )
        for answer in answers:
            assert answer.status == 400 or not await app.is_good(answer.json["access_token"])


async def test_client_when_it_does_not_prove_itself_then_401(apps: Apps, app: TestApp) -> None:
    """O-21, O-35."""
    confidential, public = await apps.create(app.tenant), await apps.public(app.tenant)
    stranger = await app.system.tenant()
    code = await app.code(await app.login())
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    secrets = [
        basic(app.id, app.tenant.publishable_key),
        basic(app.id, stranger.api_key),
        basic(app.id, ""),
        basic(app.id, "x"),
        basic(app.id, confidential.secret),
        basic(confidential.id, app.tenant.api_key),
        basic(public.id, ""),
        basic(public.id, confidential.secret),
        "Basic x",
        f"Bearer {app.tenant.api_key}",
    ]
    for authorization in secrets:
        answer = await app.post("/token", form, headers={"authorization": authorization}, is_anonymous=True)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client"), authorization
        assert answer.headers["www-authenticate"].startswith("Basic")
    right = basic(app.id, app.secret)
    for extra in (
        {"client_id": confidential.id},
        {"client_secret": app.secret, "client_id": app.id},
    ):
        answer = await app.post("/token", {**form, **extra}, headers={"authorization": right})
        assert answer.status == 401, extra
    for own in ({}, {"client_id": app.id}, {"client_id": confidential.id}, {"client_id": "x"}):
        answer = await app.post("/token", {**form, **own}, is_anonymous=True)
        assert answer.status == 401, own
    in_query = await app.post(f"/token?client_id={app.id}&client_secret={app.secret}", form)
    assert (in_query.status, in_query.json["error"]) == (400, "invalid_request")
    await app.system.event("app_refused", client_id=app.tenant.id, reason="invalid_client")
    body = {"client_id": app.id, "client_secret": app.secret}
    good = await app.post("/token", {**form, **body}, content_type="application/json", is_anonymous=True)
    assert good.status == 200, good.body


async def test_grant_type_when_not_the_clients_then_named_so(apps: Apps, app: TestApp) -> None:
    public = await apps.public(app.tenant)
    only_codes = await apps.create(app.tenant, grant_types=["authorization_code"])
    asked: list[tuple[TestApp, dict[str, Any], str]] = [
        (app, {}, "invalid_request"),
        (app, {"grant_type": "password"}, "unsupported_grant_type"),
        (app, {"grant_type": ["authorization_code"] * 2}, "unsupported_grant_type"),
        (public, {"grant_type": "client_credentials"}, "invalid_client"),
        (only_codes, {"grant_type": "client_credentials"}, "unauthorized_client"),
        (only_codes, {"grant_type": "refresh_token", "refresh_token": "x"}, "unauthorized_client"),
        (only_codes, {"grant_type": TOKEN_EXCHANGE}, "unauthorized_client"),
        (public, {"grant_type": TOKEN_EXCHANGE}, "unauthorized_client"),
    ]
    for client, form, error in asked:
        answer = await client.post("/token", form)
        status = 401 if error == "invalid_client" else 400
        assert (answer.status, answer.json["error"]) == (status, error), form
    assert "refresh_token" not in await only_codes.tokens()


async def test_tenant_when_in_hs256_mode_then_its_jwt_secret_proves_it(system: System, apps: Apps) -> None:
    """O-27: the old secret proves nothing, and what it signed is dead."""
    tenant = await system.tenant(token_mode="v1_hs256")

    async def rotated() -> TestApp:
        path = f"/api/admin/clients/{tenant.id}/rotate-secret"
        secret = (await system.call("token", "POST", path, caller=system.admin())).json["jwt_secret"]
        return replace(apps.tenant(tenant), secret=secret)

    first = await rotated()
    tokens = await first.tokens()
    assert header_of(tokens["access_token"])["alg"] == "HS256"
    assert header_of(tokens["id_token"])["alg"] == "RS256"
    assert await first.is_good(tokens["access_token"])
    second = await rotated()
    assert (await first.refresh(tokens["refresh_token"])).status == 401
    assert not await first.is_good(tokens["access_token"])
    assert (await second.refresh(tokens["refresh_token"])).status == 200
    other = await system.tenant(token_mode="v1_hs256")
    assert (await replace(apps.tenant(other), secret=second.secret).refresh("x")).status == 401
