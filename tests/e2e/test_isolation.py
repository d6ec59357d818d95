"""A second client sees and uses nothing of the first."""

from __future__ import annotations

import pytest

from tests.e2e.stack import PASSWORD, Stack, Tenant


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_token_of_one_client_when_used_with_anothers_key_then_is_401(
    stack: Stack, shop: Tenant, mode: str
) -> None:
    tenant = await stack.tenant(token_mode=mode)
    user = await stack.sign_up(tenant)
    assert (await stack.call("GET", "/api/auth/me", user)).status_code == 200
    for key in (shop.api_key, shop.publishable_key):
        crossed = {"x-api-key": key}
        for path in ("/api/auth/me", "/api/auth/sessions"):
            answer = await stack.call("GET", path, user, headers=crossed)
            assert answer.status_code == 401, answer.text
            assert user.user_id not in answer.text
        validated = await stack.validate(user.access_token, key)
        assert (validated.valid, validated.user_id, validated.email) == (False, "", "")
    assert (await stack.validate(user.access_token, tenant.api_key)).valid


async def test_refresh_token_when_presented_with_anothers_key_then_is_401_and_not_burned(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(await stack.tenant())
    stolen = await stack.refresh(shop, user.refresh_token)
    assert (stolen.status_code, stolen.json()["code"]) == (401, "invalid_refresh_token")
    body = {"refresh_token": user.refresh_token}
    assert (await stack.call("POST", "/api/auth/logout", shop, json=body)).status_code == 204
    assert (await stack.refresh(user.tenant, user.refresh_token)).status_code == 200


async def test_account_when_known_at_one_client_then_means_nothing_at_another(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(await stack.tenant())
    body = {"email": user.email, "password": PASSWORD}
    assert (await stack.call("POST", "/api/auth/login", shop, json=body)).status_code == 401
    twin = await stack.sign_up(shop, user.email)
    assert twin.user_id != user.user_id
    assert (await stack.call("GET", "/api/auth/me", twin)).json()["client_id"] == shop.id


async def test_session_of_another_client_when_deleted_then_is_404_and_lives(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(await stack.tenant())
    stranger = await stack.sign_up(shop)
    neighbour = await stack.sign_up(user.tenant)
    for attacker in (stranger, neighbour):
        answer = await stack.call("DELETE", f"/api/auth/sessions/{user.session_id}", attacker)
        assert answer.status_code == 404, answer.text
        listed = await stack.call("GET", "/api/auth/sessions", attacker)
        assert [session["id"] for session in listed.json()["items"]] == [attacker.session_id]
    assert (await stack.call("GET", "/api/auth/me", user)).status_code == 200


async def test_events_when_filtered_by_client_then_hold_nothing_of_another(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(await stack.tenant())
    stranger = await stack.sign_up(shop)
    await stack.event(user.tenant.id, "user_created")
    await stack.event(shop.id, "user_created")
    events = await stack.events(shop.id)
    assert {event["client_id"] for event in events} == {shop.id}
    assert user.user_id not in repr(events)
    assert stranger.user_id in repr(events)
    assert await stack.events(shop.id, user_id=user.user_id) == []
    for caller in (shop, stranger):
        refused = await stack.call("GET", "/api/admin/audit-events", caller)
        assert refused.status_code == 401, refused.text


async def test_client_when_suspended_then_its_keys_and_tokens_open_nothing(stack: Stack) -> None:
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    assert (await stack.call("GET", "/api/auth/me", user, gateway=1)).status_code == 200
    path = f"/api/admin/clients/{tenant.id}"
    suspended = await stack.call("PATCH", path, stack.admin, json={"status": "suspended"})
    assert suspended.status_code == 200, suspended.text
    for gateway in (0, 1):
        assert (await stack.call("GET", "/api/auth/me", user, gateway=gateway)).status_code == 401
        body = {"email": user.email, "password": PASSWORD}
        answer = await stack.call("POST", "/api/auth/login", tenant, gateway=gateway, json=body)
        assert answer.status_code == 401
        assert (await stack.refresh(tenant, user.refresh_token, gateway=gateway)).status_code == 401
    assert not (await stack.validate(user.access_token, tenant.api_key)).valid
    assert (await stack.call("PATCH", path, stack.admin, json={"status": "active"})).status_code == 200
    assert (await stack.refresh(tenant, user.refresh_token)).status_code == 200
