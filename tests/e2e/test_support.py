"""Support through the gateways: a suspension that reaches everybody at once, a session in a user's name."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import bcrypt
import pytest

from contracts.gen.auth.v1 import auth_pb2
from contracts.gen.auth.v1.auth_pb2_grpc import AuthServiceStub
from tests.e2e.stack import PASSWORD, Login, Stack, Tenant, eventually


def users_of(tenant: Tenant) -> str:
    """The path of a client's users."""
    return f"/api/admin/clients/{tenant.id}/users"


async def is_dead(stack: Stack, user: Login) -> bool:
    """Whether an access token is refused at both gateways."""
    answers = [await stack.call("GET", "/api/auth/me", user, gateway=number) for number in (0, 1)]
    return {answer.status_code for answer in answers} == {401}


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_user_when_suspended_while_refreshing_then_no_token_of_it_lives(
    stack: Stack, mode: str
) -> None:
    """X-11: over two gateways, refreshes and logins under way."""
    tenant = await stack.tenant(token_mode=mode)
    user = await stack.sign_up(tenant)
    sessions = [user, *await asyncio.gather(*(stack.log_in(user) for _ in range(4)))]
    body = {"email": user.email, "password": PASSWORD, "token_transport": "json"}
    path = f"{users_of(tenant)}/{user.user_id}"

    suspended, *answers = await asyncio.gather(
        stack.call("PATCH", path, stack.admin, json={"status": "suspended"}, gateway=1),
        *(stack.refresh(tenant, login.refresh_token, gateway=0) for login in sessions),
        *(stack.call("POST", "/api/auth/login", tenant, json=body, gateway=0) for _ in range(4)),
    )

    assert suspended.status_code == 200, suspended.text
    opened = [Login.of(tenant, answer) for answer in answers if answer.status_code == 200]
    for login in (*sessions, *opened):
        assert (await stack.refresh(tenant, login.refresh_token)).status_code == 401
        await eventually(partial(is_dead, stack, login), within=1, what="the end of a token")
    await stack.event(tenant.id, "user_suspended", user_id=user.user_id)
    assert (await stack.call("PATCH", path, stack.admin, json={"status": "active"})).status_code == 200
    again = await stack.log_in(user)
    assert (await stack.call("GET", "/api/auth/me", again)).status_code == 200
    assert await is_dead(stack, user)


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_session_in_a_users_name_reads_and_is_told_of_and_does_no_more(stack: Stack, mode: str) -> None:
    tenant = await stack.tenant(token_mode=mode)
    user = await stack.sign_up(tenant)
    body = {"reason": "ticket 4711"}
    path = f"{users_of(tenant)}/{user.user_id}/impersonate"
    answer = await stack.call("POST", path, stack.admin, json=body)
    assert answer.status_code == 200, answer.text
    acted = answer.json()
    headers = {**tenant.headers, "authorization": f"Bearer {acted['access_token']}"}

    me = await stack.call("GET", "/api/auth/me", headers=headers)
    assert (me.status_code, me.json()["id"]) == (200, user.user_id)
    decided = await stack.call("GET", "/_authz", headers=headers)
    assert decided.headers["x-auth-impersonator-id"] == "admin_key"
    change = {"display_name": "Grace"}
    assert (await stack.call("PATCH", "/api/auth/me", headers=headers, json=change)).status_code == 200
    updated = await stack.event(tenant.id, "user_updated", user_id=user.user_id)
    assert updated["data"]["impersonator_id"] == "admin_key"
    password = {"current_password": PASSWORD, "new_password": "another-horse-7-battery"}
    for method, protected, sent in (
        ("POST", "/api/auth/change-password", password),
        ("DELETE", "/api/auth/sessions", None),
        ("POST", "/api/auth/totp/setup", {}),
        ("POST", "/api/auth/passkey/register/begin", {}),
    ):
        refused = await stack.call(method, protected, headers=headers, json=sent)
        assert (refused.status_code, refused.json()["code"]) == (403, "impersonation_refused"), protected
    rpc = AuthServiceStub(stack.channel(stack.processes("gateway")[0].grpc))
    request = auth_pb2.ChangePasswordRequest(
        api_key=tenant.api_key, access_token=acted["access_token"], **password
    )
    with pytest.raises(Exception, match="PERMISSION_DENIED"):
        await rpc.ChangePassword(request, timeout=10)
    # The user ends it, and it is over.
    path = f"/api/auth/sessions/{acted['session']['id']}"
    assert (await stack.call("DELETE", path, user)).status_code == 204
    spoken = Login(tenant, user.email, user.user_id, acted["session"]["id"], acted["access_token"], "")
    await eventually(partial(is_dead, stack, spoken), within=1, what="the end of the session")
    assert (await stack.call("POST", "/api/auth/change-password", user, json=password)).status_code == 200


async def test_import_when_sent_by_a_client_that_reads_later_then_is_reported_line_by_line(
    stack: Stack, shop: Tenant
) -> None:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    padding = {"pad": "x" * 2000}
    lines = [
        json.dumps({"email": f"import-{number}@example.org", "password_hash": stored, "metadata": padding})
        for number in range(1000)
    ]
    path = f"{users_of(shop)}/import"
    headers = {"content-type": "application/x-ndjson"}
    answer = await stack.call("POST", path, stack.admin, content="\n".join(lines).encode(), headers=headers)
    assert answer.status_code == 200, answer.text
    report = [json.loads(line) for line in answer.text.splitlines()]
    assert [item["line"] for item in report[:-1]] == list(range(1, 1001))
    assert report[-1] == {"status": "done", "created": 1000, "skipped": 0, "errors": 0}
    body = {"email": "import-999@example.org", "password": PASSWORD, "token_transport": "json"}
    assert (await stack.call("POST", "/api/auth/login", shop, json=body)).status_code == 200
    await stack.event(shop.id, "users_imported")
