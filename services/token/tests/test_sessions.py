"""Opening, listing and ending sessions."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis.errors import AppError
from chassis.ids import new_id
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.gen.internal.token.v1 import sessions_pb2
from services.token.sessions.pruning import Pruning
from services.token.tests.conftest import MODES, Token, changed, claims_of, header_of, user_of
from tests.harness import BASE_URL, System, Tenant

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)


@pytest.mark.parametrize("mode", MODES)
async def test_open_when_user_is_active_then_claims_of_the_contract(
    system: System, token: Token, mode: str
) -> None:
    tenant = await system.tenant(token_mode=mode)
    user = user_of(tenant)
    opened = await token.open(tenant, user, amr=["pwd", "otp"], acr="urn:authservice:acr:2fa")
    claims = claims_of(opened.access_token)
    issued_at = claims["iat"]
    assert abs(issued_at - system.clock.now().timestamp()) < 10
    assert claims == {
        "iss": BASE_URL,
        "sub": user.id,
        "aud": str(tenant.id),
        "exp": issued_at + 900,
        "iat": issued_at,
        "nbf": issued_at - 90,
        "jti": claims["jti"],
        "sid": opened.session_id,
        "client_id": str(tenant.id),
        "token_use": "access",
        "email": user.email,
        "role": "user",
        "email_verified": True,
        "auth_time": issued_at,
        "amr": ["pwd", "otp"],
        "acr": "urn:authservice:acr:2fa",
        "status": claims["status"],  # test_status_lists.py
    }
    header = header_of(opened.access_token)
    alg = {"v1_hs256": "HS256", "v2_jwks": "RS256", "v3_es256": "ES256", "v3_eddsa": "EdDSA"}[mode]
    assert header == {"alg": alg, "typ": "at+jwt", "kid": header["kid"]}
    assert (opened.expires_in, opened.refresh_expires_in) == (900, 604800)
    assert opened.user == user
    event = await system.event("session_opened", client_id=tenant.id)
    assert (event.target_id, event.actor_type, event.actor_id) == (opened.session_id, "user", user.id)
    assert (event.ip, event.user_agent, event.request_id) == ("203.0.113.9", "pytest", "r-1")
    assert event.data == {"user_id": user.id, "amr": ["pwd", "otp"]}


async def test_open_when_an_older_copy_comes_then_the_newer_claims_win(token: Token, tenant: Tenant) -> None:
    user = user_of(tenant, version=7)
    await token.open(tenant, user)
    opened = await token.open(tenant, changed(user, version=6, role="older"))
    assert claims_of(opened.access_token)["role"] == "user"
    opened = await token.open(tenant, changed(user, version=8, role="newer"))
    assert claims_of(opened.access_token)["role"] == "newer"


async def test_open_when_user_is_known_to_be_suspended_then_refused(token: Token, tenant: Tenant) -> None:
    user = user_of(tenant)
    suspended = changed(user, status="suspended", version=2)
    await token.sessions.PutUser(sessions_pb2.PutUserRequest(user=suspended))
    for stale in (user, suspended):
        with pytest.raises(AppError) as refusal:
            await token.open(tenant, stale)
        assert refusal.value.code == "session_refused"
    assert await token.open(tenant, changed(user, version=3))


async def test_open_when_client_is_suspended_then_refused(
    system: System, token: Token, tenant: Tenant
) -> None:
    assert await token.open(tenant)
    path = f"/api/admin/clients/{tenant.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})
    with pytest.raises(AppError) as refusal:
        await token.open(tenant)
    assert refusal.value.code == "session_refused"


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"client_id": "x"}, "invalid_request"),
        ({"client_id": str(new_id())}, "invalid_request"),
        ({"user_id": "x"}, "invalid_request"),
        ({"both": str(new_id())}, "client_not_found"),
    ],
)
async def test_open_when_ids_do_not_fit_then_refused(
    token: Token, tenant: Tenant, members: dict[str, str], code: str
) -> None:
    user = user_of(tenant)
    client_id = members.get("client_id", str(tenant.id))
    if "user_id" in members:
        user.id = members["user_id"]
    if "both" in members:
        client_id = user.client_id = members["both"]
    with pytest.raises(AppError) as refusal:
        await token.sessions.OpenSession(sessions_pb2.OpenSessionRequest(client_id=client_id, user=user))
    assert refusal.value.code == code


async def test_suspension_when_it_races_with_logins_then_no_token_lives_after_it(
    token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    first = await token.open(tenant, user)
    suspended = changed(user, status="suspended", version=2)

    async def open_or_refresh(number: int) -> str | None:
        try:
            if number % 2:
                return (await token.open(tenant, user)).access_token
            answer = await token.refresh(tenant, first.refresh_token, process=number % 4 // 2)
        except AppError:
            return None
        return str(answer.json["access_token"]) if answer.status == 200 else None

    racing = [asyncio.create_task(open_or_refresh(number)) for number in range(20)]
    await asyncio.sleep(0)
    await token.sessions.PutUser(sessions_pb2.PutUserRequest(user=suspended))
    issued = [access for access in await asyncio.gather(*racing) if access]
    for access in [*issued, first.access_token]:
        assert (await token.validate(tenant, access)).error == "token_revoked"


@pytest.mark.parametrize("by", ["body", "cookie"])
async def test_logout_when_session_lives_then_it_ends_in_each_process(
    system: System, token: Token, tenant: Tenant, by: str
) -> None:
    opened = await token.open(tenant)
    sent: dict[str, Any] = (
        {"json": {"refresh_token": opened.refresh_token}}
        if by == "body"
        else {"cookies": {"auth_refresh": opened.refresh_token}}
    )
    assert (await token.validate(tenant, opened.access_token)).valid
    answer = await token.post(tenant, "/api/auth/logout", process=1, **sent)
    assert (answer.status, answer.body) == (204, b"")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await token.validate(tenant, opened.access_token)).error == "token_revoked"
    assert (await token.refresh(tenant, opened.refresh_token)).status == 401
    event = await system.event("session_revoked", client_id=tenant.id, reason="logout")
    assert (event.target_id, event.actor_id) == (opened.session_id, opened.user.id)
    # Again, it is gone already.
    assert (await token.post(tenant, "/api/auth/logout", **sent)).status == 204


@pytest.mark.parametrize(
    "body", [None, {}, {"refresh_token": "garbage"}, {"refresh_token": "rt_" + "A" * 43}]
)
async def test_logout_when_there_is_nothing_to_end_then_204(
    token: Token, tenant: Tenant, body: dict[str, str] | None
) -> None:
    assert (await token.post(tenant, "/api/auth/logout", json=body)).status == 204


async def test_logout_when_key_of_another_client_then_session_lives(
    system: System, token: Token, tenant: Tenant
) -> None:
    other = await system.tenant()
    opened = await token.open(tenant)
    body = {"refresh_token": opened.refresh_token}
    assert (await token.post(other, "/api/auth/logout", json=body)).status == 204
    assert (await token.refresh(tenant, opened.refresh_token)).status == 200


async def test_list_when_user_has_sessions_then_newest_first_with_devices(
    system: System, token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    opened = [
        await token.open(tenant, user, origin=origin_pb2.Origin(ip=ip, user_agent=agent))
        for ip, agent in (("198.51.100.1", FIREFOX), ("2001:db8::1", IPHONE), ("", "\x1b[31m"))
    ]
    await token.open(tenant)
    caller = tenant.user_caller(user.id, opened[0].session_id)
    answer = await system.call("token", "GET", "/api/auth/sessions", caller=caller)
    assert answer.status == 200
    body = answer.json
    assert body["items"] == body["sessions"]
    assert body["next_cursor"] is None
    assert [item["id"] for item in body["items"]] == [session.session_id for session in reversed(opened)]
    assert [item["device_name"] for item in body["items"]] == [
        "Unknown device",
        "Mobile Safari on iPhone",
        "Firefox on Linux",
    ]
    assert [item["current"] for item in body["items"]] == [False, False, True]
    assert set(body["items"][2]) == {
        "id",
        "created_at",
        "last_used_at",
        "expires_at",
        "ip",
        "place",
        "user_agent",
        "device_name",
        "current",
        "impersonated",
    }
    assert (body["items"][2]["ip"], body["items"][2]["user_agent"]) == ("198.51.100.1", FIREFOX)
    assert body["items"][2]["place"] is None, "no database"
    assert body["items"][2]["created_at"].endswith("Z")


async def test_list_when_paged_then_each_session_once_and_cursor_is_bound_to_its_user(
    system: System, token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    opened = [(await token.open(tenant, user)).session_id for _ in range(5)]
    caller = tenant.user_caller(user.id, opened[0])
    seen: list[str] = []
    cursor = ""
    for expected in (2, 2, 1):
        path = f"/api/auth/sessions?limit=2{cursor}"
        body = (await system.call("token", "GET", path, caller=caller)).json
        assert len(body["items"]) == expected
        seen += [item["id"] for item in body["items"]]
        cursor = f"&cursor={body['next_cursor']}"
        if expected == 2:
            stranger = tenant.user_caller(new_id(), new_id())
            stolen = await system.call("token", "GET", f"/api/auth/sessions?limit=2{cursor}", caller=stranger)
            assert (stolen.status, stolen.code) == (400, "invalid_cursor")
    assert body["next_cursor"] is None
    assert seen == list(reversed(opened))


async def test_end_one_when_own_then_dead_and_of_others_then_404(
    system: System, token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    mine, kept = await token.open(tenant, user), await token.open(tenant, user)
    path = f"/api/auth/sessions/{mine.session_id}"
    other_tenant = await system.tenant()
    for stranger in (
        tenant.user_caller(new_id(), new_id()),
        other_tenant.user_caller(user.id, kept.session_id),
    ):
        answer = await system.call("token", "DELETE", path, caller=stranger)
        assert (answer.status, answer.code) == (404, "session_not_found")
    assert (await token.validate(tenant, mine.access_token)).valid
    caller = tenant.user_caller(user.id, kept.session_id)
    assert (await system.call("token", "DELETE", path, caller=caller)).status == 204
    assert (await token.validate(tenant, mine.access_token)).error == "token_revoked"
    assert (await token.validate(tenant, kept.access_token)).valid
    assert (await system.call("token", "DELETE", path, caller=caller)).status == 404
    event = await system.event("session_revoked", client_id=tenant.id, reason="user_revoked")
    assert (event.target_id, event.actor_id) == (mine.session_id, user.id)
    assert event.session_id == UUID(kept.session_id)


async def test_end_all_when_asked_then_all_of_the_user_and_no_other(
    system: System, token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    opened = [await token.open(tenant, user) for _ in range(3)]
    stranger = await token.open(tenant)
    caller = tenant.user_caller(user.id, opened[0].session_id)
    answer = await system.call("token", "DELETE", "/api/auth/sessions", caller=caller)
    assert answer.status == 204
    for session in opened:
        assert (await token.validate(tenant, session.access_token)).error == "token_revoked"
        assert (await token.refresh(tenant, session.refresh_token)).status == 401
    assert (await token.validate(tenant, stranger.access_token)).valid


async def test_end_sessions_rpc_when_one_is_kept_then_only_it_lives(
    system: System, token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    opened = [await token.open(tenant, user) for _ in range(4)]
    request = sessions_pb2.EndSessionsRequest(
        client_id=str(tenant.id),
        user_id=user.id,
        except_session_id=opened[1].session_id,
        reason="password_changed",
    )
    assert (await token.sessions.EndSessions(request)).ended == 3
    alive = [(await token.validate(tenant, session.access_token)).valid for session in opened]
    assert alive == [False, True, False, False]
    await system.event("session_revoked", client_id=tenant.id, reason="password_changed", after=2)
    assert (await token.sessions.EndSessions(request)).ended == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/auth/refresh"),
        ("POST", "/api/auth/logout"),
        ("GET", "/api/auth/sessions"),
        ("DELETE", "/api/auth/sessions"),
        ("DELETE", f"/api/auth/sessions/{UUID(int=1)}"),
        ("GET", "/.well-known/jwks.json"),
        ("POST", f"/api/admin/clients/{UUID(int=1)}/rotate-secret"),
        ("POST", f"/api/admin/clients/{UUID(int=1)}/rotate-signing-key"),
    ],
)
async def test_port_when_reached_without_the_gateway_then_401(system: System, method: str, path: str) -> None:
    answer = await system.call("token", method, path)
    assert (answer.status, answer.code) == (401, "unauthenticated")


@pytest.mark.parametrize("action", ["rotate-secret", "rotate-jwt", "rotate-signing-key"])
async def test_rotation_when_caller_is_no_admin_then_403(system: System, tenant: Tenant, action: str) -> None:
    path = f"/api/admin/clients/{tenant.id}/{action}"
    for caller in (tenant.caller(), tenant.user_caller(new_id(), new_id())):
        assert (await system.call("token", "POST", path, caller=caller)).status == 403


async def test_pruning_when_sessions_are_long_over_then_gone_with_their_tokens(
    system: System, token: Token, tenant: Tenant
) -> None:
    over, alive = await token.open(tenant), await token.open(tenant)
    await token.post(tenant, "/api/auth/logout", json={"refresh_token": over.refresh_token})
    with system.clock.advanced(timedelta(days=2)):
        async with system.db("token") as db:
            pruning = Pruning(db, system.clock)
            after = await pruning.step()
            while after.int:
                after = await pruning.step(after)
        found = await system.sql(
            "token",
            "SELECT s.id, t.token_hash FROM sessions AS s LEFT JOIN refresh_tokens AS t "
            "ON t.session_id = s.id WHERE s.client_id = $1",
            tenant.id,
        )
        assert [str(row["id"]) for row in found] == [alive.session_id]
        assert (await token.refresh(tenant, alive.refresh_token)).status == 200


async def test_a_session_in_a_users_name_says_who_acts_and_is_over_with_its_token(
    system: System, token: Token, tenant: Tenant
) -> None:
    user, admin_id = user_of(tenant), new_id()
    own = await token.open(tenant, user)
    origin = origin_pb2.Origin(request_id="r-2", access="admin", admin_id=str(admin_id))
    opened = await token.open(
        tenant, user, amr=["impersonation"], only_for=3600, act_json=f'{{"sub":"{admin_id}"}}', origin=origin
    )

    claims = claims_of(opened.access_token)
    assert claims["act"] == {"sub": str(admin_id)}
    assert (opened.refresh_token, opened.refresh_expires_in) == ("", 0)
    event = await system.event("session_opened", client_id=tenant.id, impersonator_id=str(admin_id))
    assert (event.target_id, event.actor_type, event.actor_id) == (opened.session_id, "admin", str(admin_id))
    request = sessions_pb2.ListSessionsRequest(client_id=str(tenant.id), user_id=user.id, limit=10)
    listed = (await token.sessions.ListSessions(request)).sessions
    assert [(item.id, item.impersonator_id) for item in listed] == [
        (opened.session_id, str(admin_id)),
        (own.session_id, ""),
    ]
    assert listed[0].expires_at // 1_000_000 == claims["exp"] == claims["iat"] + 900
    seen = await system.call(
        "token", "GET", "/api/auth/sessions", caller=tenant.user_caller(user.id, own.session_id)
    )
    assert [item["impersonated"] for item in seen.json["items"]] == [True, False]
    request.limit = 0
    with pytest.raises(AppError):
        await token.sessions.ListSessions(request)
