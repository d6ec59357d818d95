"""Attacks on sign-up and login: enumeration, odd passwords and addresses, mass assignment (W, M-06)."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant

UNASKED = (
    "role",
    "is_admin",
    "email_verified",
    "tenant_id",
    "client_id",
    "id",
    "created_at",
    "status",
    "mfa_enabled",
)


async def attempt(stack: Stack, tenant: Tenant, email: str, password: str) -> httpx.Response:
    """Try to log in."""
    body = {"email": email, "password": password, "token_transport": "json"}
    return await stack.call("POST", "/api/auth/login", tenant, json=body)


async def test_password_when_over_72_bytes_then_is_refused_and_never_cut(stack: Stack, shop: Tenant) -> None:
    """W-01."""
    longest = "correct-horse-".ljust(71, "x") + "y"
    assert len(longest) == 72
    user = await sign_up(stack, shop, longest)
    assert (await attempt(stack, shop, user.email, longest)).status_code == 200
    for other in (longest + "a", longest + "b", longest[:-1], longest[:-1] + "z"):
        assert (await attempt(stack, shop, user.email, other)).status_code in (401, 422)
    for refused in (longest + "a", "\N{LOCK WITH INK PEN}\N{KEY}ab" * 10, "x1y2" * 4096):
        answer = await try_sign_up(stack, shop, password=refused)
        assert answer.status_code == 422, answer.text
        assert refused not in answer.text


async def test_password_when_it_holds_nul_then_is_refused(stack: Stack, shop: Tenant) -> None:
    """W-02."""
    user = await sign_up(stack, shop, "amber-otter-77")
    for nul in ("amber-otter-77\0", "amber-otter-77\0more", "\0amber-otter-77"):
        assert (await try_sign_up(stack, shop, password=nul)).status_code == 422
        assert (await attempt(stack, shop, user.email, nul)).status_code == 422
    assert (await attempt(stack, shop, user.email, "amber-otter-77")).status_code == 200


async def test_password_when_composed_differently_then_is_the_same(stack: Stack, shop: Tenant) -> None:
    """W-03: NFC and NFD of what the eye reads as one."""
    user = await sign_up(stack, shop, "caf\N{LATIN SMALL LETTER E WITH ACUTE}-lantern-42")
    decomposed = "cafe\N{COMBINING ACUTE ACCENT}-lantern-42"
    assert (await attempt(stack, shop, user.email, decomposed)).status_code == 200
    assert (await attempt(stack, shop, user.email, "cafe-lantern-42")).status_code == 401


@pytest.mark.parametrize(
    "password",
    [
        "short1A",
        "aaaaaaaaaaaa",
        "password123",
        "PASSWORD123",
        "ada-lovelace-9",
        "12345678",
        12345678,
        None,
        ["x"],
        {},
        "",
    ],
)
async def test_password_when_weak_or_no_text_then_is_422(
    stack: Stack, shop: Tenant, password: object
) -> None:
    """W-13, and the policy."""
    answer = await try_sign_up(stack, shop, email="ada-lovelace@example.org", password=password)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]
    for value in ("x" * 1_000_000, 7, None, ["x"], {"$ne": ""}):
        body = {"email": "ada-lovelace@example.org", "password": value}
        answer = await stack.call("POST", "/api/auth/login", shop, json=body)
        assert answer.status_code in (413, 422)


@pytest.mark.parametrize(
    "email",
    [
        "a@example.org,v@example.org",
        "a@example.org v@example.org",
        "a@example.org\r\nBcc: v@example.org",
        "a@b@example.org",
        '"a@example.org"@evil.example',
        "a@example.org\0",
        "a@",
        "@example.org",
        "a@example..org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 260 + ".org",
        ["a@example.org"],
        {"a": 1},
        7,
        None,
    ],
)
async def test_email_when_not_exactly_one_address_then_is_422(
    stack: Stack, shop: Tenant, email: object
) -> None:
    """M-06."""
    answer = await try_sign_up(stack, shop, email=email)
    assert answer.status_code == 422, answer.text


async def test_email_when_another_spelling_of_a_taken_one_then_is_taken(stack: Stack, shop: Tenant) -> None:
    """M-06, W-05: one address, whatever its case, width or surrounding spaces."""
    await stack.sign_up(shop, "Fire.Fly@example.org")
    for twin in (
        "fire.fly@EXAMPLE.org",
        " fire.fly@example.org ",
        "\N{LATIN SMALL LIGATURE FI}re.fly@example.org",
    ):
        answer = await try_sign_up(stack, shop, email=twin)
        assert (answer.status_code, answer.json()["code"]) == (409, "email_taken"), twin
        assert (await attempt(stack, shop, twin, PASSWORD)).status_code == 200


async def test_signup_when_it_names_more_than_it_may_then_the_rest_is_ignored(
    stack: Stack, shop: Tenant
) -> None:
    """W-10."""
    neighbour = await stack.tenant()
    wanted = dict.fromkeys(UNASKED, "admin") | {
        "client_id": neighbour.id,
        "tenant_id": neighbour.id,
        "email_verified": True,
    }
    answer = await try_sign_up(stack, shop, **wanted)
    assert answer.status_code == 201, answer.text
    user = answer.json()["user"]
    assert (user["role"], user["status"], user["client_id"]) == ("user", "active", shop.id)
    assert (user["email_verified"], user["mfa_enabled"]) == (False, False)
    assert user["id"] != "admin"
    login = Login.of(shop, answer)
    patched = await stack.call(
        "PATCH", "/api/auth/me", login, json={**wanted, "email": "x@example.org", "locale": "de"}
    )
    assert patched.status_code == 200, patched.text
    assert patched.json() == {
        **user,
        "locale": "de",
        "updated_at": patched.json()["updated_at"],
        **since_login(patched),
    }


def since_login(answer: httpx.Response) -> dict[str, Any]:
    """Members that a profile has and a fresh account may not have yet."""
    return {name: answer.json().get(name) for name in ("last_login_at", "phone")}


async def test_change_password_when_not_proven_or_weak_then_changes_nothing(
    stack: Stack, shop: Tenant
) -> None:
    """W-12."""
    user = await stack.sign_up(shop)
    other = await stack.log_in(user)
    for current, new, status in (
        ("wrong-" + PASSWORD, "granite-harbour-55", 403),
        (PASSWORD, PASSWORD, 422),
        (PASSWORD, "password123", 422),
        (PASSWORD, "short1A", 422),
        (PASSWORD, "granite" * 20, 422),
    ):
        body = {"current_password": current, "new_password": new}
        answer = await stack.call("POST", "/api/auth/change-password", user, json=body)
        assert answer.status_code == status, answer.text
    assert (await stack.call("GET", "/api/auth/me", other)).status_code == 200
    await stack.log_in(user)
    failed = await stack.event(shop.id, "password_change_failed")
    assert failed["actor"]["id"] == user.user_id


async def try_sign_up(stack: Stack, tenant: Tenant, **members: Any) -> httpx.Response:
    """Send a sign-up with these members."""
    body = {
        "email": f"user-{time.monotonic_ns()}@example.org",
        "password": PASSWORD,
        "token_transport": "json",
    }
    return await stack.call("POST", "/api/auth/signup", tenant, json={**body, **members})


async def sign_up(stack: Stack, tenant: Tenant, password: str) -> Login:
    """Make a user with this password."""
    answer = await try_sign_up(stack, tenant, password=password)
    assert answer.status_code == 201, answer.text
    return Login.of(tenant, answer)
