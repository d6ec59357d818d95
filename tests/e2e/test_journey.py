"""The first journey, whole: a client, its user, the user's sessions, and others that trust its tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from local.service_process import REPOSITORY
from tests.e2e.conftest import ProtectedApi
from tests.e2e.stack import ORIGIN, PASSWORD, TOKEN_MODES, Login, Stack, Tenant, eventually

NEW_PASSWORD = "amber-cathedral-91-otters"
REVOKED_WITHIN = 1.0
SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_0) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Safari/605.1.15"
)


async def test_client_when_created_then_both_keys_are_shown_once(stack: Stack) -> None:
    tenant = await stack.tenant()
    assert tenant.api_key.startswith("ask_")
    assert tenant.publishable_key.startswith("apk_")
    shown = await stack.call("GET", f"/api/admin/clients/{tenant.id}", stack.admin)
    assert shown.status_code == 200
    assert shown.json() == tenant.document
    assert tenant.api_key not in shown.text
    assert tenant.publishable_key not in shown.text


async def test_user_when_signed_up_then_lives_a_whole_session(stack: Stack, shop: Tenant) -> None:
    user = await stack.sign_up(shop, "Ada.Lovelace@Example.org")
    assert user.refresh_token.startswith("rt_")

    again = await stack.log_in(user)
    assert again.user_id == user.user_id
    assert again.session_id != user.session_id

    me = await stack.call("GET", "/api/auth/me", again)
    assert me.status_code == 200
    assert me.json()["id"] == user.user_id
    assert me.json()["client_id"] == shop.id
    assert me.json()["email"].lower() == "ada.lovelace@example.org"
    assert me.json()["last_login_at"].endswith("Z")

    change = {"display_name": "Countess", "metadata": {"seat": 7}, "locale": "fr", "role": "admin"}
    patched = await stack.call("PATCH", "/api/auth/me", again, json=change)
    assert patched.status_code == 200, patched.text
    assert (patched.json()["display_name"], patched.json()["metadata"]) == ("Countess", {"seat": 7})
    assert patched.json()["role"] == "user"

    renewed = await stack.refresh(shop, again.refresh_token)
    assert renewed.status_code == 200, renewed.text
    assert renewed.json()["user"]["display_name"] == "Countess"
    assert renewed.json()["session"]["id"] == again.session_id
    assert renewed.json()["refresh_token"] != again.refresh_token

    current = Login.of(shop, renewed)
    gone = await stack.call("POST", "/api/auth/logout", shop, json={"refresh_token": current.refresh_token})
    assert gone.status_code == 204
    assert (await stack.refresh(shop, current.refresh_token)).status_code == 401
    repeated = await stack.call(
        "POST", "/api/auth/logout", shop, json={"refresh_token": current.refresh_token}
    )
    assert repeated.status_code == 204


async def test_refresh_by_cookie_when_origin_is_allowed_then_rotates_the_cookie(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(shop)
    body = {"email": user.email, "password": PASSWORD}
    browser = {"origin": ORIGIN, "x-api-key": shop.publishable_key}
    opened = await stack.call("POST", "/api/auth/login", json=body, headers=browser)
    assert opened.status_code == 200, opened.text
    assert "refresh_token" not in opened.json()
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert "Path=/api/auth" in cookie
    assert "domain" not in cookie.lower()
    assert opened.headers["cache-control"] == "no-store"
    assert opened.headers["access-control-allow-origin"] == ORIGIN
    assert opened.headers["access-control-allow-credentials"] == "true"

    first = Login.of(shop, opened)
    sent = {**browser, "cookie": f"auth_refresh={first.refresh_token}"}
    renewed = await stack.call("POST", "/api/auth/refresh", headers=sent)
    assert renewed.status_code == 200, renewed.text
    second = Login.of(shop, renewed)
    assert second.refresh_token not in ("", first.refresh_token)
    sent["cookie"] = f"auth_refresh={second.refresh_token}"
    gone = await stack.call("POST", "/api/auth/logout", headers=sent)
    assert gone.status_code == 204
    assert 'auth_refresh=""' in gone.headers["set-cookie"]
    assert (await stack.call("POST", "/api/auth/refresh", headers=sent)).status_code == 401


async def test_change_password_when_done_then_other_sessions_end(stack: Stack, shop: Tenant) -> None:
    current = await stack.sign_up(shop)
    other = await stack.log_in(current)
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    changed = await stack.call("POST", "/api/auth/change-password", current, json=body)
    assert changed.status_code == 200, changed.text
    assert changed.json() == {"revoked_sessions": 1}

    assert (await stack.refresh(shop, other.refresh_token)).status_code == 401
    await refused_everywhere(stack, other)
    assert (await stack.call("GET", "/api/auth/me", current)).status_code == 200
    assert (await stack.refresh(shop, current.refresh_token)).status_code == 200
    old = {"email": current.email, "password": PASSWORD}
    refused = await stack.call("POST", "/api/auth/login", shop, json=old)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    await stack.log_in(current, NEW_PASSWORD)


async def test_sessions_when_listed_then_each_can_be_revoked(stack: Stack, shop: Tenant) -> None:
    current = await stack.sign_up(shop)
    other = await stack.log_in(current, headers={"user-agent": SAFARI})
    third = await stack.log_in(current)
    listed = await stack.call("GET", "/api/auth/sessions", current)
    assert listed.status_code == 200, listed.text
    sessions = {session["id"]: session for session in listed.json()["items"]}
    assert listed.json()["sessions"] == listed.json()["items"]
    assert set(sessions) == {current.session_id, other.session_id, third.session_id}
    assert [sessions[login.session_id]["current"] for login in (current, other)] == [True, False]
    assert sessions[other.session_id]["ip"] == "127.0.0.1"
    assert sessions[other.session_id]["user_agent"] == SAFARI
    assert "Safari" in sessions[other.session_id]["device_name"]

    revoked = await stack.call("DELETE", f"/api/auth/sessions/{other.session_id}", current)
    assert revoked.status_code == 204
    await refused_everywhere(stack, other)
    assert (await stack.call("GET", "/api/auth/me", third)).status_code == 200
    everything = await stack.call("DELETE", "/api/auth/sessions", current)
    assert everything.status_code == 204
    await refused_everywhere(stack, current)
    await refused_everywhere(stack, third)


async def refused_everywhere(stack: Stack, login: Login) -> None:
    """A revoked token: not valid over gRPC at once, refused by every gateway within a second."""
    for gateway in range(len(stack.gateways)):
        answer = await stack.validate(login.access_token, login.tenant.api_key, gateway=gateway)
        assert (answer.valid, answer.error, answer.user_id) == (False, "token_revoked", "")
    began = time.monotonic()
    for gateway in range(len(stack.gateways)):

        async def refused(gateway: int = gateway) -> bool:
            return (await stack.call("GET", "/api/auth/me", login, gateway=gateway)).status_code == 401

        left = REVOKED_WITHIN - (time.monotonic() - began)
        await eventually(refused, within=left, what=f"gateway {gateway} refuses a revoked token")
    assert (await stack.refresh(login.tenant, login.refresh_token)).status_code == 401


@pytest.mark.parametrize("mode", TOKEN_MODES)
async def test_token_of_each_mode_when_issued_then_is_accepted_by_all_who_should(
    stack: Stack, protected_api: ProtectedApi, mode: str
) -> None:
    tenant = await stack.tenant(token_mode=mode)
    user = await stack.log_in(await stack.sign_up(tenant))
    for gateway in range(len(stack.gateways)):
        me = await stack.call("GET", "/api/auth/me", user, gateway=gateway)
        assert (me.status_code, me.json()["id"]) == (200, user.user_id)
        answer = await stack.validate(user.access_token, tenant.api_key, gateway=gateway)
        assert (answer.valid, answer.error) == (True, "")
        assert (answer.user_id, answer.client_id, answer.token_use) == (user.user_id, tenant.id, "access")
        assert answer.email.lower() == user.email.lower()

    jwks = await stack.call("GET", "/.well-known/jwks.json", params={"client_id": tenant.id})
    assert jwks.status_code == 200
    if mode == "v1_hs256":
        assert jwks.json()["keys"] == await stack.issuer_keys()
        return
    api = await protected_api(tenant)
    allowed = await stack.call("GET", "/orders", user, base=api)
    assert (allowed.status_code, allowed.json()["user_id"]) == (200, user.user_id)
    assert (await stack.call("GET", "/orders", base=api)).status_code == 401
    stranger = await stack.sign_up(await stack.tenant(token_mode=mode))
    assert (await stack.call("GET", "/orders", stranger, base=api)).status_code == 401


async def test_grpc_example_when_session_is_revoked_then_says_so(stack: Stack, shop: Tenant) -> None:
    user = await stack.sign_up(shop)
    good = ask(stack, user)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["user_id"] == user.user_id
    assert (await stack.call("DELETE", "/api/auth/sessions", user)).status_code == 204
    bad = ask(stack, user)
    assert bad.returncode == 1, bad.stderr
    assert json.loads(bad.stdout)["valid"] is False
    assert json.loads(bad.stdout)["error"] == "token_revoked"


def ask(stack: Stack, user: Login) -> subprocess.CompletedProcess[str]:
    """Run the gRPC example on a user's token."""
    return subprocess.run(
        [sys.executable, "-m", "examples.grpc_caller.main"],
        cwd=REPOSITORY,
        env={
            "PATH": os.defpath,
            "GRPC_ADDRESS": stack.processes("gateway")[1].grpc,
            "API_KEY": user.tenant.api_key,
            "ACCESS_TOKEN": user.access_token,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
