"""Refresh: rotation, grace, reuse, races, and everything that must be refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chassis.probes import Probes
from contracts.gen.internal.token.v1 import sessions_pb2
from services.token.tests.conftest import Token, changed, claims_of, user_of
from tests.harness import System, Tenant

COOKIE = "auth_refresh"


async def outlive_grace(system: System, session: sessions_pb2.OpenedSession) -> None:
    """Let the used tokens of a session be eleven seconds older; the grace goes by PostgreSQL's clock."""
    statement = (
        "UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds' WHERE session_id = $1::uuid"
    )
    await system.sql("token", statement, session.session_id)


async def test_refresh_when_token_is_good_then_session_shape_with_a_new_token(
    system: System, token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    opened = await token.open(tenant, user)
    answer = await token.refresh(tenant, opened.refresh_token)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    body = answer.json
    assert set(body) == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh",
        "refresh_token",
        "user",
        "session",
    }
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 900
    assert body["refresh"] == {"transport": "json", "cookie_name": COOKIE, "expires_in": 604800}
    assert body["session"] == {"id": opened.session_id}
    assert body["user"]["id"] == user.id
    assert body["user"]["email"] == user.email
    assert body["refresh_token"] != opened.refresh_token
    claims = claims_of(body["access_token"])
    assert claims["sid"] == opened.session_id
    assert claims["auth_time"] == claims_of(opened.access_token)["auth_time"]
    assert claims["jti"] != claims_of(opened.access_token)["jti"]
    event = await system.event("session_refreshed", client_id=tenant.id, user_id=user.id)
    assert (event.target_id, event.actor_id, event.ip) == (opened.session_id, user.id, "203.0.113.7")


async def test_refresh_when_by_cookie_then_cookie_and_no_token_in_the_body(
    token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    answer = await token.post(tenant, "/api/auth/refresh", cookies={COOKIE: opened.refresh_token})
    assert answer.status == 200
    assert "refresh_token" not in answer.json
    assert answer.json["refresh"]["transport"] == "cookie"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=rt_")
    assert opened.refresh_token not in cookie
    assert all(part in cookie for part in ("HttpOnly", "Path=/api/auth", "Max-Age=604800", "SameSite=lax"))
    assert "Domain" not in cookie


async def test_refresh_when_cookie_without_allowed_origin_then_403_and_not_used(
    token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    cookies = {COOKIE: opened.refresh_token}
    foreign = tenant.caller(origin=None)
    for path in ("/api/auth/refresh", "/api/auth/logout"):
        answer = await token.post(tenant, path, caller=foreign, cookies=cookies)
        assert (answer.status, answer.code) == (403, "origin_not_allowed")
    # The control: the same cookie with an allowed origin.
    assert (await token.post(tenant, "/api/auth/refresh", cookies=cookies)).status == 200


async def test_refresh_when_cookie_is_exchanged_for_json_then_cookie_is_cleared(
    token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    path = "/api/auth/refresh?token_transport=json"
    answer = await token.post(tenant, path, cookies={COOKIE: opened.refresh_token})
    assert answer.status == 200
    assert answer.json["refresh_token"].startswith("rt_")
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("query", "body", "transport"),
    [
        ("", {"token_transport": "json"}, "json"),
        ("", {"session_mode": "token"}, "json"),
        ("?session_mode=token", {}, "json"),
        ("?token_transport=json", {}, "json"),
        ("?token_transport=json", {"token_transport": "cookie"}, "cookie"),
        ("", {"session_mode": "cookie"}, "cookie"),
        ("", {}, "cookie"),
    ],
)
async def test_refresh_when_transport_is_asked_for_then_it_is_used(
    token: Token, tenant: Tenant, query: str, body: dict[str, str], transport: str
) -> None:
    opened = await token.open(tenant)
    sent = {"refresh_token": opened.refresh_token, **body}
    answer = await token.post(tenant, f"/api/auth/refresh{query}", json=sent)
    assert answer.json["refresh"]["transport"] == transport
    assert ("refresh_token" in answer.json) is (transport == "json")
    assert ("set-cookie" in answer.headers) is (transport == "cookie")


async def test_refresh_when_presented_twice_within_grace_then_same_successor_and_session_lives(
    token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    first = await token.refresh(tenant, opened.refresh_token)
    second = await token.refresh(tenant, opened.refresh_token, process=1)
    assert (first.status, second.status) == (200, 200)
    assert first.json["refresh_token"] == second.json["refresh_token"]
    assert first.json["access_token"] != second.json["access_token"]
    assert (await token.refresh(tenant, first.json["refresh_token"])).status == 200


async def test_refresh_when_processes_clocks_differ_then_the_grace_is_what_it_is(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened, stolen = await token.open(tenant), await token.open(tenant)
    first = await token.refresh(tenant, opened.refresh_token)
    with system.clock.advanced(timedelta(minutes=1)):
        second = await token.refresh(tenant, opened.refresh_token, process=1)
        await token.refresh(tenant, stolen.refresh_token, process=1)
    assert (first.status, second.status) == (200, 200)
    assert first.json["refresh_token"] == second.json["refresh_token"]
    # Nor is it longer for a token that was used where the clock is ahead.
    await outlive_grace(system, stolen)
    assert (await token.refresh(tenant, stolen.refresh_token)).status == 401


async def test_refresh_when_presented_again_after_grace_then_family_dies_and_others_live(
    system: System, token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    stolen, other = await token.open(tenant, user), await token.open(tenant, user)
    successor = (await token.refresh(tenant, stolen.refresh_token)).json
    assert (await token.validate(tenant, successor["access_token"])).valid
    await outlive_grace(system, stolen)
    reused = await token.refresh(tenant, stolen.refresh_token)
    assert (reused.status, reused.code) == (401, "invalid_refresh_token")
    # All that came of it is dead: the descendants and the access tokens, at once and in each process.
    for process in (0, 1):
        refused = await token.refresh(tenant, successor["refresh_token"], process=process)
        assert (refused.status, refused.code) == (401, "invalid_refresh_token")
    answer = await token.validate(tenant, successor["access_token"])
    assert (answer.valid, answer.error) == (False, "token_revoked")
    event = await system.event("refresh_token_reuse_detected", client_id=tenant.id)
    assert (event.target_id, event.data["user_id"]) == (stolen.session_id, user.id)
    await system.event("session_revoked", client_id=tenant.id, reason="refresh_token_reused")
    assert (await token.refresh(tenant, other.refresh_token)).status == 200


async def test_refresh_when_successor_was_used_then_reuse_even_within_grace(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    second = (await token.refresh(tenant, opened.refresh_token)).json["refresh_token"]
    third = (await token.refresh(tenant, second)).json["refresh_token"]
    assert (await token.refresh(tenant, opened.refresh_token)).status == 401
    assert (await token.refresh(tenant, third)).status == 401
    await system.event("refresh_token_reuse_detected", client_id=tenant.id)


async def test_refresh_when_fifty_at_once_over_two_processes_then_one_lineage(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    answers = await asyncio.gather(
        *(token.refresh(tenant, opened.refresh_token, process=number % 2) for number in range(50))
    )
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    rows = await system.sql(
        "token",
        "SELECT used_at FROM refresh_tokens WHERE session_id = $1::uuid ORDER BY created_at",
        opened.session_id,
    )
    assert [row["used_at"] is None for row in rows] == [False, True]
    assert (await token.refresh(tenant, answers[0].json["refresh_token"])).status == 200


async def test_refresh_when_many_sessions_at_once_then_each_gets_its_own_and_bad_tokens_harm_nobody(
    system: System, token: Token, tenant: Tenant
) -> None:
    users = [user_of(tenant) for _ in range(12)]
    opened = [await token.open(tenant, user) for user in users]
    good = [token.refresh(tenant, one.refresh_token, process=n % 2) for n, one in enumerate(opened)]
    bad = [token.refresh(tenant, "rt_" + letter * 43) for letter in "ABCDEF"]
    answers = await asyncio.gather(*good, *bad)
    assert [answer.status for answer in answers] == [200] * 12 + [401] * 6
    for user, session, answer in zip(users, opened, answers, strict=False):
        assert answer.json["user"]["id"] == user.id
        assert answer.json["session"]["id"] == session.session_id
        claims = claims_of(answer.json["access_token"])
        assert (claims["sub"], claims["sid"]) == (user.id, session.session_id)
        event = await system.event("session_refreshed", client_id=tenant.id, user_id=user.id)
        assert (event.target_id, event.actor_id) == (session.session_id, user.id)
    again = [await token.refresh(tenant, answer.json["refresh_token"]) for answer in answers[:12]]
    assert [answer.json["session"]["id"] for answer in again] == [one.session_id for one in opened]


async def test_refresh_when_reused_by_many_at_once_then_one_detection(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    await token.refresh(tenant, opened.refresh_token)
    await outlive_grace(system, opened)
    answers = await asyncio.gather(
        *(token.refresh(tenant, opened.refresh_token, process=number % 2) for number in range(20))
    )
    assert {answer.status for answer in answers} == {401}
    await system.event("refresh_token_reuse_detected", client_id=tenant.id)
    await system.event("session_revoked", client_id=tenant.id)
    found = [event.type for event in system.events if event.client_id == tenant.id]
    assert found.count("refresh_token_reuse_detected") == 1
    assert found.count("session_revoked") == 1


async def test_refresh_when_key_of_another_client_then_401_and_not_burned(
    system: System, token: Token, tenant: Tenant
) -> None:
    other = await system.tenant()
    opened = await token.open(tenant)
    refused = await token.refresh(other, opened.refresh_token)
    assert (refused.status, refused.code) == (401, "invalid_refresh_token")
    assert (await token.refresh(tenant, opened.refresh_token)).status == 200


@pytest.mark.parametrize(
    "presented",
    [None, "", "x", "rt_", "rt_" + "A" * 43, "rt_" + "é" * 43, "rt_" + "A" * 44, "ask_" + "A" * 43],
)
async def test_refresh_when_garbage_then_one_and_the_same_401(
    token: Token, tenant: Tenant, presented: str | None
) -> None:
    answer = await token.refresh(tenant, presented)
    assert (answer.status, answer.code) == (401, "invalid_refresh_token")
    assert answer.json["detail"] == "The refresh token is not valid."


@pytest.mark.parametrize("body", ["rt_text", ["rt_list"], {"refresh_token": 1}, {"refresh_token": "x" * 200}])
async def test_refresh_when_body_is_malformed_then_422(token: Token, tenant: Tenant, body: object) -> None:
    answer = await token.refresh(tenant, None, json=body)
    assert (answer.status, answer.code) == (422, "validation_failed")


async def test_refresh_when_token_expired_then_401(system: System, token: Token, tenant: Tenant) -> None:
    opened = await token.open(tenant)
    with system.clock.advanced(timedelta(hours=168, seconds=1)):
        assert (await token.refresh(tenant, opened.refresh_token)).status == 401
    with system.clock.advanced(timedelta(hours=167)):
        assert (await token.refresh(tenant, opened.refresh_token)).status == 200


async def test_refresh_when_session_reaches_its_absolute_age_then_401_and_tokens_never_outlive_it(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    presented = opened.refresh_token
    for days in range(6, 90, 6):
        with system.clock.advanced(timedelta(days=days)):
            presented = (await token.refresh(tenant, presented)).json["refresh_token"]
    with system.clock.advanced(timedelta(days=90) - timedelta(minutes=5)):
        last = (await token.refresh(tenant, presented)).json
        assert 0 < last["expires_in"] <= 300
        assert 0 < last["refresh"]["expires_in"] <= 300
    with system.clock.advanced(timedelta(days=90, seconds=1)):
        assert (await token.refresh(tenant, last["refresh_token"])).status == 401


async def test_refresh_when_user_is_suspended_then_401_and_again_a_login_works(
    token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    opened = await token.open(tenant, user)
    suspended = changed(user, status="suspended", version=2)
    await token.sessions.PutUser(sessions_pb2.PutUserRequest(user=suspended))
    assert (await token.refresh(tenant, opened.refresh_token)).status == 401
    await token.sessions.PutUser(sessions_pb2.PutUserRequest(user=changed(user, version=3)))
    assert (await token.refresh(tenant, opened.refresh_token)).status == 401
    again = await token.open(tenant, changed(user, version=3))
    assert (await token.validate(tenant, again.access_token)).valid


async def test_refresh_when_client_is_suspended_then_401_and_works_again_after(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    path = f"/api/admin/clients/{tenant.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})
    answer = await token.refresh(tenant, opened.refresh_token)
    assert (answer.status, answer.code) == (401, "invalid_refresh_token")
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "active"})
    assert (await token.refresh(tenant, opened.refresh_token)).status == 200


async def test_refresh_when_claims_changed_then_next_token_carries_them(token: Token, tenant: Tenant) -> None:
    user = user_of(tenant)
    opened = await token.open(tenant, user)
    newer = changed(user, role="admin", email="new@example.com", version=5)
    await token.sessions.PutUser(sessions_pb2.PutUserRequest(user=newer))
    await token.sessions.PutUser(sessions_pb2.PutUserRequest(user=changed(user, role="late", version=4)))
    body = (await token.refresh(tenant, opened.refresh_token)).json
    claims = claims_of(body["access_token"])
    assert (claims["role"], claims["email"]) == ("admin", "new@example.com")
    assert body["user"]["email"] == "new@example.com"


async def test_refresh_when_key_cannot_be_opened_then_500_and_token_is_good_still(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    # Another kind of token from now on, whose key no process has loaded yet, and which is then broken.
    path = f"/api/admin/clients/{tenant.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"token_mode": "v3_eddsa"})
    await system.call("token", "GET", f"/.well-known/jwks.json?client_id={tenant.id}", caller=system.admin())
    broken = (
        "UPDATE signing_keys SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE client_id = $1"
    )
    await system.sql("token", broken + " AND alg = 'EdDSA'", tenant.id)
    answer = await token.refresh(tenant, opened.refresh_token, process=1)
    assert (answer.status, answer.code) == (500, "internal_error")
    await system.sql("token", broken + " AND alg = 'EdDSA'", tenant.id)
    assert (await token.refresh(tenant, opened.refresh_token, process=1)).status == 200


async def test_refresh_when_answer_was_lost_then_the_same_token_works_again(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    # The caller goes away while the answer is made: whatever was committed, the token is not lost.
    call = asyncio.create_task(token.refresh(tenant, opened.refresh_token))
    while not await system.sql(
        "token",
        "SELECT FROM refresh_tokens WHERE session_id = $1::uuid AND used_at IS NOT NULL",
        opened.session_id,
    ):
        await asyncio.sleep(0)
    call.cancel()
    assert (await token.refresh(tenant, opened.refresh_token, process=1)).status == 200


async def test_idle_session_when_unused_for_the_idle_ttl_then_ended(
    system: System, token: Token, tenant: Tenant
) -> None:
    settings = system.settings("token", session_idle_ttl="1h")
    app = system.definitions["token"].build(settings, system.clock)
    async with app.started():
        idle = replace(token, second_face=app.make_face(Probes(app.required, app.optional)))
        opened = await token.open(tenant)
        first = (await idle.refresh(tenant, opened.refresh_token, process=1)).json
        assert first["refresh"]["expires_in"] == 3600
        with system.clock.advanced(timedelta(minutes=59)):
            second = (await idle.refresh(tenant, first["refresh_token"], process=1)).json
        with system.clock.advanced(timedelta(minutes=120)):
            refused = await idle.refresh(tenant, second["refresh_token"], process=1)
            assert (refused.status, refused.code) == (401, "invalid_refresh_token")


async def test_successor_when_table_is_known_then_not_among_what_is_stored(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    successor = (await token.refresh(tenant, opened.refresh_token)).json["refresh_token"]
    rows = await system.sql(
        "token", "SELECT t::text AS row FROM refresh_tokens AS t WHERE client_id = $1", tenant.id
    )
    stored = " ".join(row["row"] for row in rows)
    for secret in (opened.refresh_token, successor):
        assert secret not in stored
        assert secret.encode().hex() not in stored


async def test_refresh_when_the_clock_jumps_back_then_what_is_over_stays_over(
    system: System, token: Token, tenant: Tenant
) -> None:
    """F-11: an hour back, used tokens stay used and ended sessions ended."""
    used, ended, living = [await token.open(tenant) for _ in range(3)]
    first = (await token.refresh(tenant, used.refresh_token)).json["refresh_token"]
    second = (await token.refresh(tenant, first)).json["refresh_token"]
    body = {"refresh_token": ended.refresh_token}
    assert (await token.post(tenant, "/api/auth/logout", json=body)).status == 204

    with system.clock.advanced(-timedelta(hours=1)):
        assert (await token.refresh(tenant, ended.refresh_token)).code == "invalid_refresh_token"
        assert not (await token.validate(tenant, ended.access_token)).valid
        assert (await token.refresh(tenant, living.refresh_token)).status == 200
        assert (await token.refresh(tenant, used.refresh_token)).code == "invalid_refresh_token"
        assert (await token.refresh(tenant, second)).code == "invalid_refresh_token", "reuse was noticed"
