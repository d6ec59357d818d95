"""Admins through the gateways: from the break-glass key to a token with a second factor, and its end."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

import pyotp

from tests.e2e.stack import Stack, Tenant, eventually

USERS = "/api/admin/users"
AUTH = "/api/admin/auth"
CLIENTS = "/api/admin/clients"
PHRASE = "a-long-admin-phrase-7"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whoever holds a token of an admin."""

    id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """The token."""
        return {"authorization": f"Bearer {self.token}"}


async def enrolled(stack: Stack, **members: Any) -> Bearer:
    """Add an admin with the break-glass key; it sets up its app at one gateway, and uses it at the other."""
    email = f"admin-{secrets.token_hex(6)}@example.org"
    body = {"email": email, "password": PHRASE, "roles": ["owner"], "scopes": ["all"], **members}
    made = await stack.call("POST", USERS, stack.admin, json=body)
    assert made.status_code == 201, made.text
    password = {"email": email, "password": PHRASE}
    first = await stack.call("POST", f"{AUTH}/login", json=password)
    waiting = {"mfa_token": first.json()["mfa_token"]}
    setup = await stack.call("POST", f"{AUTH}/totp/setup", json=waiting, gateway=1)
    app = pyotp.TOTP(setup.json()["secret"])
    step = int(time.time()) // app.interval
    on = await stack.call("POST", f"{AUTH}/totp/enable", json={**waiting, "code": app.generate_otp(step - 1)})
    assert on.status_code == 200, on.text
    second = await stack.call("POST", f"{AUTH}/login", json=password, gateway=1)
    assert second.json()["mfa_required"] is True
    shown = {"mfa_token": second.json()["mfa_token"], "code": app.generate_otp(step)}
    granted = await stack.call("POST", f"{AUTH}/mfa/verify", json=shown)
    assert granted.status_code == 200, granted.text
    assert granted.json()["admin"]["last_login_at"]
    return Bearer(made.json()["id"], granted.json()["access_token"])


async def test_owner_logs_in_with_two_factors_and_suspends_a_user(stack: Stack, shop: Tenant) -> None:
    owner = await enrolled(stack)
    user = await stack.sign_up(shop)
    assert (await stack.call("GET", "/api/auth/me", user, gateway=1)).status_code == 200
    path = f"{CLIENTS}/{shop.id}/users/{user.user_id}"
    suspended = await stack.call("PATCH", path, owner, json={"status": "suspended"})
    assert suspended.status_code == 200, suspended.text

    async def is_dead() -> bool:
        answers = [await stack.call("GET", "/api/auth/me", user, gateway=number) for number in (0, 1)]
        return {answer.status_code for answer in answers} == {401}

    await eventually(is_dead, within=1, what="the end of the user's token")
    event = await stack.event(shop.id, "user_suspended", target_id=user.user_id)
    assert event["actor"] == {"type": "admin", "id": owner.id}

    for number in (0, 1):
        assert (await stack.call("GET", USERS, owner, gateway=number)).status_code == 200
    ended = await stack.call("PATCH", f"{USERS}/{owner.id}", stack.admin, json={"display_name": "Ada"})
    assert ended.status_code == 200
    assert (await stack.call("GET", USERS, owner)).status_code == 200
    peer = await enrolled(stack)
    ended = await stack.call("PATCH", f"{USERS}/{owner.id}", peer, json={"status": "suspended"})
    assert ended.status_code == 200, ended.text
    for number in (0, 1):
        refused = await stack.call("GET", USERS, owner, gateway=number)
        assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")


async def test_admin_of_one_client_when_it_asks_for_anothers_then_finds_nothing(stack: Stack) -> None:
    """A-01: path, query, list and body, at both gateways; and J-05 by the way."""
    mine, other = await stack.tenant(), await stack.tenant()
    theirs = await stack.sign_up(other)
    local = await enrolled(stack, scopes=[f"client:{mine.id}"])
    for number in (0, 1):
        listed = await stack.call("GET", CLIENTS, local, gateway=number)
        assert [client["id"] for client in listed.json()["items"]] == [mine.id]
        for method, path, body, status in (
            ("GET", f"{CLIENTS}/{mine.id}", None, 200),
            ("GET", f"{CLIENTS}/{other.id}", None, 404),
            ("PATCH", f"{CLIENTS}/{other.id}", {"name": "Taken"}, 404),
            ("GET", f"{CLIENTS}/{other.id}/users/{theirs.user_id}", None, 404),
            ("GET", f"{CLIENTS}/{mine.id}/users/{theirs.user_id}", None, 404),
            ("POST", f"{CLIENTS}/{other.id}/rotate-api-key", {}, 404),
            ("POST", f"{CLIENTS}/{other.id}/rotate-secret", None, 404),
            ("GET", f"/api/admin/audit-events?client_id={other.id}", None, 404),
            ("GET", f"/api/admin/audit-events?client_id={mine.id}", None, 200),
            ("GET", f"/api/admin/audit-events/chain/verify?client_id={other.id}", None, 404),
            ("GET", "/api/admin/audit-events/chain/verify", None, 403),
            ("POST", CLIENTS, {"name": "Mine", "client_id": mine.id}, 403),
            ("GET", "/api/auth/me", None, 401),
        ):
            answer = await stack.call(method, path, local, json=body, gateway=number)
            assert answer.status_code == status, (method, path, answer.text)
            assert other.id not in answer.text
    assert (await stack.call("GET", "/api/auth/me", theirs)).status_code == 200
