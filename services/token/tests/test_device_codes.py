"""The device authorization grant (RFC 8628): what federation asks, and what a device is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import AppError
from chassis.ids import new_id
from contracts.gen.internal.token.v1 import grants_pb2, sessions_pb2
from services.token.tests.oauth_flow import DEVICE_CODE, ORIGIN, Apps, TestApp
from tests.harness import Answer, Tenant

SCOPES = ("openid", "email", "offline_access")


@pytest.fixture
async def app(apps: Apps, tenant: Tenant) -> TestApp:
    """The app of a television."""
    return await apps.public(tenant)


async def begin(app: TestApp) -> grants_pb2.CreateDeviceCodeResponse:
    """Let a device ask."""
    request = grants_pb2.CreateDeviceCodeRequest(
        client_id=str(app.tenant.id), app_id=app.id, scopes=SCOPES, origin=ORIGIN
    )
    return await app.grants.CreateDeviceCode(request)


async def decide(
    app: TestApp, user_code: str, login: sessions_pb2.OpenedSession | None, **members: Any
) -> None:
    """Let a user answer; without a login somebody refuses."""
    authorization, user_id = None, str(new_id()) if login is None else ""
    if login is not None:
        authorization = grants_pb2.Authorization(
            **{
                "client_id": str(app.tenant.id),
                "app_id": app.id,
                "user_id": login.user.id,
                "session_id": login.session_id,
                "scopes": SCOPES,
                **members,
            }
        )
    request = grants_pb2.DecideDeviceCodeRequest(
        user_code=user_code, authorization=authorization, user_id=user_id, origin=ORIGIN
    )
    await app.grants.DecideDeviceCode(request)


async def ask(app: TestApp, device_code: str, process: int = 0) -> Answer:
    """Let the device ask for its tokens."""
    return await app.post("/token", {"grant_type": DEVICE_CODE, "device_code": device_code}, process=process)


@contextmanager
def later(app: TestApp, seconds: float) -> Iterator[None]:
    """Some seconds later."""
    with app.system.clock.advanced(timedelta(seconds=seconds)):
        yield


async def test_device_when_its_user_agrees_then_tokens_once(app: TestApp, apps: Apps) -> None:
    begun = await begin(app)
    assert (begun.expires_in, begun.interval) == (600, 5)
    found = await app.grants.FindDeviceCode(
        grants_pb2.FindDeviceCodeRequest(user_code=begun.user_code.lower().replace("-", " "))
    )
    assert (found.app_id, tuple(found.scopes), found.ip) == (app.id, SCOPES, ORIGIN.ip)

    assert (await ask(app, begun.device_code)).json["error"] == "authorization_pending"
    assert (await ask(app, begun.device_code, process=1)).json["error"] == "slow_down"
    with later(app, 6):
        assert (await ask(app, begun.device_code)).json["error"] == "slow_down", "it is ten seconds now"
    login = await app.login()
    await decide(app, begun.user_code, login)
    with pytest.raises(AppError) as refused:
        await decide(app, begun.user_code, login)
    assert refused.value.code == "device_request_not_found"
    other = await apps.public(app.tenant)
    with later(app, 60):
        assert (await ask(other, begun.device_code)).json["error"] == "invalid_grant", "another app's"
        answers = await asyncio.gather(*(ask(app, begun.device_code, n % 2) for n in range(20)))
        good = [answer for answer in answers if answer.status == 200]
        assert len(good) == 1, [answer.body for answer in answers]
        assert {a.json["error"] for a in answers if a.status != 200} == {"invalid_grant"}
    document = good[0].json
    assert document["scope"] == " ".join(SCOPES)
    assert await app.is_good(document["access_token"])
    assert (await app.refresh(document["refresh_token"])).status == 200


async def test_device_when_refused_or_late_or_logged_out_then_told_so(app: TestApp, apps: Apps) -> None:
    refused, late, logged_out = await begin(app), await begin(app), await begin(app)
    await decide(app, refused.user_code, None)
    assert (await ask(app, refused.device_code)).json["error"] == "access_denied"
    with later(app, 601):
        assert (await ask(app, late.device_code)).json["error"] == "expired_token"
        with pytest.raises(AppError):
            await decide(app, late.user_code, await app.login())
    login = await app.login()
    stranger = await apps.tenant(await app.system.tenant()).login()
    for code, who, members in (
        (logged_out.user_code, login, {"scopes": (*SCOPES, "profile")}),
        (logged_out.user_code, login, {"app_id": str(app.tenant.id)}),
        (logged_out.user_code, stranger, {}),
        (logged_out.user_code, login, {"user_id": stranger.user.id}),
        ("BCDF-GHJK", login, {}),
        ("BCDF-GHJK", None, {}),
        ("' OR true --", login, {}),
        ("x" * 5000, login, {}),
    ):
        with pytest.raises(AppError):
            await decide(app, code, who, **members)
    await decide(app, logged_out.user_code, login)
    end = grants_pb2.EndLoginSessionRequest(
        client_id=str(app.tenant.id), session_id=login.session_id, origin=ORIGIN
    )
    assert (await app.grants.EndLoginSession(end)).ended
    assert (await ask(app, logged_out.device_code)).json["error"] == "access_denied"
    assert (await ask(app, "dc_unknown")).json["error"] == "invalid_grant"
    assert (await ask(app, "")).json["error"] == "invalid_request"


async def test_device_when_grants_or_sessions_end_then_an_approval_is_void(app: TestApp, apps: Apps) -> None:
    """Also where the login that it was given in lives on."""
    login, other = await app.login(), await apps.public(app.tenant)
    user: Any = {"client_id": str(app.tenant.id), "user_id": login.user.id}
    withdrawn, kept = await begin(app), await begin(other)
    await decide(app, withdrawn.user_code, login)
    await decide(other, kept.user_code, login)
    await app.grants.EndGrants(grants_pb2.EndGrantsRequest(app_id=app.id, **user))
    assert (await ask(app, withdrawn.device_code)).json["error"] == "access_denied"
    assert (await ask(other, kept.device_code)).status == 200, "what another app was granted goes on"

    of_others, ended = await begin(app), await begin(app)
    await decide(app, ended.user_code, login)
    await decide(app, of_others.user_code, await app.login())
    end = sessions_pb2.EndSessionsRequest(
        except_session_id=login.session_id, reason="password_changed", **user
    )
    await app.token.sessions.EndSessions(end)
    assert (await ask(app, ended.device_code)).json["error"] == "access_denied"
    assert (await ask(app, of_others.device_code)).status == 200
    again = await begin(app)
    await decide(app, again.user_code, login)
    assert (await ask(app, again.device_code)).status == 200, "the login itself was kept"


async def test_tokens_when_a_key_cannot_be_opened_then_500_and_nothing_is_used_up(app: TestApp) -> None:
    """Neither a device's code, nor an authorization code, nor a refresh token."""
    login, tenant, system = await app.login(), app.tenant, app.system
    begun = await begin(app)
    await decide(app, begun.user_code, login)
    refresh_token = (await app.tokens(login))["refresh_token"]
    code = await app.code(login)
    # Another kind of token from now on, whose key no process has loaded yet, and which is then broken.
    path = f"/api/admin/clients/{tenant.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"token_mode": "v3_eddsa"})
    await system.call("token", "GET", f"/.well-known/jwks.json?client_id={tenant.id}", caller=system.admin())
    broken = (
        "UPDATE signing_keys SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) "
        "WHERE client_id = $1 AND alg = 'EdDSA'"
    )

    async def statuses() -> list[int]:
        return [
            (await ask(app, begun.device_code, process=1)).status,
            (await app.redeem(code, process=1)).status,
            (await app.refresh(refresh_token, process=1)).status,
        ]

    await system.sql("token", broken, tenant.id)
    assert await statuses() == [500, 500, 500]
    await system.sql("token", broken, tenant.id)
    assert await statuses() == [200, 200, 200]
