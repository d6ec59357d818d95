"""A token for the set-up of a second factor opens that, and nothing else, at the gateway as well."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any, cast

import grpc
import pyotp
import pytest

from chassis.ids import new_id
from contracts.gen.auth.v1 import auth_pb2, token_pb2
from contracts.gen.auth.v1.auth_pb2_grpc import AuthServiceStub
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceStub
from gateway.contract import DOCUMENT, METHODS
from gateway.tests.people import PASSWORD, sign_up
from gateway.tests.running import RunningGateway
from tests.harness import System

SET_UP = {
    "POST /api/auth/totp/setup",
    "POST /api/auth/totp/enable",
    "POST /api/auth/passkey/register/begin",
    "POST /api/auth/passkey/register/finish",
}
REQUIRED = {"adaptive_security": {"mfa": {"mode": "required"}}}


def operations_of_users() -> dict[str, bool]:
    """Every operation for users, and whether it takes an enrollment token."""
    paths = json.loads(DOCUMENT.read_text())["paths"]
    return {
        f"{method.upper()} {path}": bool(item[method]["x-enrollment"])
        for path, item in paths.items()
        for method in item
        if method.upper() in METHODS and item[method]["x-access"] == "user"
    }


async def _call(gateway: RunningGateway, operation: str, key: str, token: str) -> tuple[int, str]:
    method, _, path = operation.partition(" ")
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + str(new_id()) + rest.partition("}")[2]
    headers = {"X-API-Key": key, "Authorization": f"Bearer {token}"}
    body: dict[str, Any] | None = {} if method in ("POST", "PUT", "PATCH") else None
    answer = await gateway.client.request(method, path, headers=headers, json=body)
    return answer.status_code, "" if answer.is_success else answer.json()["code"]


@pytest.mark.parametrize("token_mode", ["v1_hs256", "v3_es256"])
async def test_enrollment_token_opens_the_set_up_and_nothing_else(
    system: System, gateway: RunningGateway, token_mode: str
) -> None:
    """T-07, T-10."""
    tenant = await system.tenant(token_mode, settings=REQUIRED)
    key = tenant.api_key
    headers = {"X-API-Key": key}
    credentials = {"email": f"{secrets.token_hex(6)}@example.com", "password": PASSWORD}
    answer = await gateway.client.post("/api/auth/signup", headers=headers, json=credentials)
    assert answer.is_success, answer.text
    assert "set-cookie" not in answer.headers
    token = answer.json()["enrollment_token"]

    operations = operations_of_users()
    refused = {
        operation: await _call(gateway, operation, key, token)
        for operation, is_for_enrollment in operations.items()
        if not is_for_enrollment
    }
    assert {operation for operation, is_for_enrollment in operations.items() if is_for_enrollment} <= SET_UP
    assert len(refused) > 5
    assert set(refused.values()) == {(401, "invalid_token")}, refused
    decided = await gateway.client.get("/_authz", headers={**headers, "Authorization": f"Bearer {token}"})
    assert decided.status_code == 401
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as made:
        channel = cast("Any", made)
        validation = token_pb2.ValidateTokenRequest(access_token=token, api_key=key)
        verdict = await TokenServiceStub(channel).ValidateToken(validation)
        assert (verdict.valid, verdict.user_id, verdict.email) == (False, "", "")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await AuthServiceStub(channel).GetProfile(
                auth_pb2.GetProfileRequest(api_key=key, access_token=token)
            )
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

        enabled = await _enroll(gateway, key, token)
        session = enabled["session"]
        own = {**headers, "Authorization": f"Bearer {session['access_token']}"}
        me = await gateway.client.get("/api/auth/me", headers=own)
        assert (me.status_code, me.json()["mfa_enabled"]) == (200, True)
        assert (await gateway.client.get("/_authz", headers=own)).is_success
        validation.access_token = session["access_token"]
        assert (await TokenServiceStub(channel).ValidateToken(validation)).valid

    async with asyncio.timeout(5):
        while (spent := await _call(gateway, "POST /api/auth/totp/setup", key, token))[0] != 401:
            assert spent == (409, "mfa_already_enabled")
            await asyncio.sleep(0.05)


async def _enroll(gateway: RunningGateway, key: str, token: str) -> dict[str, Any]:
    headers = {"X-API-Key": key, "Authorization": f"Bearer {token}"}
    setup = await gateway.client.post("/api/auth/totp/setup", headers=headers, json={})
    assert setup.status_code == 200, setup.text
    body = {"code": pyotp.TOTP(setup.json()["secret"]).now(), "token_transport": "json"}
    enabled = await gateway.client.post("/api/auth/totp/enable", headers=headers, json=body)
    assert enabled.status_code == 200, enabled.text
    found: dict[str, Any] = enabled.json()
    return found


async def test_token_of_a_login_that_waits_is_no_credential(system: System, gateway: RunningGateway) -> None:
    """T-07, J-13."""
    tenant = await system.tenant()
    person = await sign_up(gateway, tenant)
    setup = await gateway.client.post("/api/auth/totp/setup", headers=person.headers, json={})
    app = pyotp.TOTP(setup.json()["secret"])
    enabled = await gateway.client.post(
        "/api/auth/totp/enable", headers=person.headers, json={"code": app.now()}
    )
    assert enabled.status_code == 200, enabled.text
    headers = {"X-API-Key": tenant.api_key}
    credentials = {"email": person.email, "password": PASSWORD}
    waiting = await gateway.client.post("/api/auth/login", headers=headers, json=credentials)
    assert "set-cookie" not in waiting.headers
    token = waiting.json()["mfa_token"]

    answers = {
        operation: await _call(gateway, operation, tenant.api_key, token)
        for operation in operations_of_users()
    }
    cookie = await gateway.client.post("/api/auth/refresh", headers=headers, json={"refresh_token": token})

    assert set(answers.values()) == {(401, "invalid_token")}, answers
    assert cookie.status_code == 401
    code = enabled.json()["recovery_codes"][0]
    opened = await gateway.client.post(
        "/api/auth/recovery-codes/verify", headers=headers, json={"mfa_token": token, "code": code}
    )
    assert opened.status_code == 200
    assert "auth_refresh=" in opened.headers["set-cookie"]
