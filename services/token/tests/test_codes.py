"""Authorization codes at the token endpoint: bound, used once, and what they give."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from services.token.tests.conftest import Token, claims_of, header_of
from services.token.tests.oauth_flow import TestApp
from tests.harness import BASE_URL, System, Tenant

if TYPE_CHECKING:
    from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceAsyncStub


@pytest.fixture
async def app(system: System, token: Token, grants: GrantServiceAsyncStub, tenant: Tenant) -> TestApp:
    """The tenant itself as an app, with its API key."""
    return TestApp(system, token, grants, tenant, str(tenant.id), tenant.api_key)


async def test_code_when_redeemed_then_tokens_of_the_grant(app: TestApp) -> None:
    login = await app.login()
    answer = await app.redeem(await app.code(login, nonce="n-1"))

    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json
    assert document["scope"] == "openid email profile offline_access"
    access = claims_of(document["access_token"])
    assert (access["token_use"], access["azp"], access["sub"]) == ("oauth", app.id, login.user.id)
    assert await app.is_good(document["access_token"])
    identity = claims_of(document["id_token"])
    assert header_of(document["id_token"])["typ"] == "JWT"
    assert (identity["iss"], identity["aud"], identity["nonce"]) == (BASE_URL, app.id, "n-1")
    assert identity["sid"] == login.session_id


async def test_code_when_used_again_then_refused_and_its_tokens_dead(app: TestApp) -> None:
    """O-04."""
    code = await app.code(await app.login())
    first = await app.redeem(code)
    assert await app.is_good(first.json["access_token"])

    again = await app.redeem(code)

    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert not await app.is_good(first.json["access_token"])

    login = await app.login()
    code = await app.code(login)
    answers = await asyncio.gather(*(app.redeem(code, process=n % 2) for n in range(20)))
    good: list[Any] = [answer for answer in answers if answer.status == 200]
    assert len(good) == 1
    assert {answer.json["error"] for answer in answers if answer.status != 200} == {"invalid_grant"}
    assert not await app.is_good(good[0].json["access_token"])
