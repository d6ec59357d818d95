"""Attacks by way of the victim's browser: fixation, requests across sites, reading across origins (E)."""

from __future__ import annotations

import pytest

from tests.e2e.stack import ORIGIN, PASSWORD, Login, Stack, Tenant

HOSTILE_ORIGINS = (
    "https://evil.example",
    "null",
    "https://app.example.com.evil.example",
    "https://evilapp.example.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://APP.example.com",
    "https://app.example.com/",
    "https://app.example.com, https://evil.example",
    "file://",
    "",
)


async def browser_login(stack: Stack, tenant: Tenant, **headers: str) -> tuple[Login, dict[str, str]]:
    """Log a new user in by cookie; answers the login and the headers that its browser sends."""
    user = await stack.sign_up(tenant)
    sent = {"origin": ORIGIN, "x-api-key": tenant.publishable_key, **headers}
    body = {"email": user.email, "password": PASSWORD}
    answer = await stack.call("POST", "/api/auth/login", json=body, headers=sent)
    assert answer.status_code == 200, answer.text
    login = Login.of(tenant, answer)
    return login, {
        "origin": ORIGIN,
        "x-api-key": tenant.publishable_key,
        "cookie": f"auth_refresh={login.refresh_token}",
    }


async def test_login_when_a_cookie_was_planted_before_then_gets_a_new_one(stack: Stack, shop: Tenant) -> None:
    """E-01."""
    attacker = await stack.sign_up(shop)
    victim, _ = await browser_login(stack, shop, cookie=f"auth_refresh={attacker.refresh_token}")
    assert victim.refresh_token != attacker.refresh_token
    assert victim.session_id != attacker.session_id
    still = await stack.refresh(shop, attacker.refresh_token)
    assert still.json()["user"]["id"] == attacker.user_id
    planted = {"origin": ORIGIN, "cookie": "auth_refresh=rt_planted"}
    assert (await stack.call("POST", "/api/auth/refresh", shop, headers=planted)).status_code == 401


@pytest.mark.parametrize("origin", [*HOSTILE_ORIGINS, None])
@pytest.mark.parametrize("path", ["/api/auth/refresh", "/api/auth/logout"])
async def test_cookie_when_sent_from_another_site_then_does_nothing(
    stack: Stack, shop: Tenant, path: str, origin: str | None
) -> None:
    """E-03: also with a form's content type, and with the secret key that no browser should have."""
    _, headers = await browser_login(stack, shop)
    foreign = {name: value for name, value in headers.items() if name != "origin"}
    if origin is not None:
        foreign["origin"] = origin
    for key in (shop.publishable_key, shop.api_key):
        for content, media in ((b"{}", "application/json"), (b"a=b", "text/plain"), (b"", "text/plain")):
            sent = {**foreign, "x-api-key": key, "content-type": media}
            answer = await stack.call("POST", path, headers=sent, content=content)
            assert answer.status_code in (403, 422), answer.text
            assert "set-cookie" not in answer.headers
            assert answer.headers.get("access-control-allow-origin") in (None, "*")
            assert "access-control-allow-credentials" not in answer.headers
    assert (await stack.call("POST", "/api/auth/refresh", headers=headers)).status_code == 200


@pytest.mark.parametrize("origin", HOSTILE_ORIGINS)
async def test_answer_when_read_from_another_origin_then_is_not_shared(
    stack: Stack, shop: Tenant, origin: str
) -> None:
    """E-04."""
    user = await stack.sign_up(shop)
    for caller in (user, shop):
        read = await stack.call("GET", "/api/auth/me", caller, headers={"origin": origin})
        assert "access-control-allow-credentials" not in read.headers
        assert read.headers.get("access-control-allow-origin") in (None, "*")
        assert "origin" in read.headers["vary"].lower()
    asked = {"origin": origin, "access-control-request-method": "PATCH"}
    preflight = await stack.call("OPTIONS", "/api/auth/me", headers=asked)
    assert "access-control-allow-credentials" not in preflight.headers
    assert preflight.headers.get("access-control-allow-origin") in (None, "*")

    with_publishable = {"origin": origin, "x-api-key": shop.publishable_key}
    refused = await stack.call("GET", "/api/auth/me", user, headers=with_publishable)
    assert refused.status_code == 403, "a publishable key on a page of another origin"


async def test_answer_when_read_from_the_clients_origin_then_is_shared(stack: Stack, shop: Tenant) -> None:
    user = await stack.sign_up(shop)
    allowed = {"origin": ORIGIN, "x-api-key": shop.publishable_key}
    read = await stack.call("GET", "/api/auth/me", user, headers=allowed)
    assert read.status_code == 200
    assert read.headers["access-control-allow-origin"] == ORIGIN
    assert read.headers["access-control-allow-credentials"] == "true"
    asked = {"origin": ORIGIN, "access-control-request-method": "PATCH"}
    preflight = await stack.call("OPTIONS", "/api/auth/me", headers=asked)
    assert preflight.status_code == 204
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-origin"] in (ORIGIN, "*")


async def test_publishable_key_when_no_origin_is_sent_then_names_the_tenant(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(shop)
    mobile = {"x-api-key": shop.publishable_key}
    assert (await stack.call("GET", "/api/auth/me", user, headers=mobile)).status_code == 200
    assert (await stack.call("GET", "/api/admin/clients", headers=mobile)).status_code == 401


async def test_answer_when_it_holds_personal_data_then_is_not_stored(stack: Stack, shop: Tenant) -> None:
    """E-09."""
    user = await stack.sign_up(shop)
    answers = [
        await stack.call("GET", "/api/auth/me", user),
        await stack.call("GET", "/api/auth/sessions", user),
        await stack.refresh(shop, user.refresh_token),
        await stack.call("GET", "/api/admin/clients", stack.admin),
        await stack.call("GET", "/api/admin/audit-events", stack.admin),
        await stack.call("GET", "/api/auth/me"),
    ]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store", answer.url
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers


async def test_login_when_the_session_is_to_go_to_json_then_sets_no_cookie(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(shop)
    for body in ({"token_transport": "json"}, {"session_mode": "token"}):
        credentials = {"email": user.email, "password": PASSWORD}
        answer = await stack.call("POST", "/api/auth/login", shop, json={**credentials, **body})
        assert answer.status_code == 200
        assert answer.json()["refresh_token"].startswith("rt_")
        assert "set-cookie" not in answer.headers
        query = await stack.call("POST", "/api/auth/login", shop, json=credentials, params=body)
        assert "set-cookie" not in query.headers
