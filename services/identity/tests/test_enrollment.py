"""Clients that demand a second factor: a login without one opens nothing but its set-up."""

from __future__ import annotations

import asyncio

import pytest

from services.identity.tests.conftest import PASSWORD, another_identity, log_in
from services.identity.tests.second_factors import MFA_REQUIRED, claims_of, enrolling, new_enrolling
from tests.authenticator_app import App
from tests.harness import System, Tenant


@pytest.fixture
async def strict(system: System) -> Tenant:
    """A client that demands second factors."""
    return await system.tenant(settings=MFA_REQUIRED)


async def test_login_without_a_factor_opens_its_set_up_and_then_a_session(
    system: System, strict: Tenant
) -> None:
    """T-10."""
    await new_enrolling(system, strict)
    email = (await new_enrolling(system, strict)).person.email
    answer = await log_in(system, strict, email)

    user = await enrolling(system, strict, email, answer).finish()

    claims = claims_of(answer.json["enrollment_token"])
    assert (claims["token_use"], answer.json["factors"]) == ("enrollment", ["totp", "passkey"])
    session = user.person.document
    assert session["user"]["mfa_enabled"] is True
    assert session["refresh_token"]
    assert claims_of(session["access_token"])["amr"] == ["pwd", "otp", "mfa"]
    login = await system.event("login_succeeded", client_id=strict.id, method="enrollment")
    assert (login.target_id, login.data["factor"]) == (user.person.id, "totp")
    # From now on it is asked for the factor.
    assert (await user.show(await user.challenge(), user.app.code())).status == 200


async def test_enrollment_token_opens_nothing_else(system: System, strict: Tenant) -> None:
    """T-07, T-10: the service refuses by itself, whatever the gateway does."""
    user = await new_enrolling(system, strict)

    refused = {
        path: (await user.call(path, body, method)).status
        for method, path, body in [
            ("GET", "me", None),
            ("PATCH", "me", {"display_name": "Eve"}),
            ("POST", "change-password", {"current_password": PASSWORD, "new_password": "another fine one 4"}),
            ("POST", "totp/disable", {"code": "123456"}),
            ("GET", "recovery-codes", None),
            ("POST", "recovery-codes", {"code": "123456"}),
            ("GET", "devices", None),
        ]
    }

    assert set(refused.values()) == {401}, refused
    assert (await user.call("totp/setup", {})).status == 200


async def test_enrollment_token_replaces_no_factor(system: System, strict: Tenant) -> None:
    """Who knows the password only, and logged in before the user set up an app, gets nothing by it."""
    thief = await new_enrolling(system, strict)
    begun = await thief.call("totp/setup", {})
    stolen = App(system, begun.json["secret"])
    owner = enrolling(system, strict, thief.person.email, await log_in(system, strict, thief.person.email))

    user = await owner.finish()

    late = [
        await thief.call("totp/enable", {"code": stolen.code()}),
        await thief.call("totp/setup", {}),
        await thief.call("totp/setup", {"password": PASSWORD}),
        await owner.call("totp/enable", {"code": user.app.code()}),
    ]
    assert [(answer.status, answer.code) for answer in late] == [(409, "mfa_already_enabled")] * 4
    assert (await user.show(await user.challenge(), stolen.at(0))).status == 401
    assert (await user.show(await user.challenge(), user.app.code())).status == 200


async def test_enrollment_completed_many_times_at_once_opens_one_session(
    system: System, strict: Tenant
) -> None:
    user = await new_enrolling(system, strict)
    app = App(system, (await user.call("totp/setup", {})).json["secret"])

    answers = await asyncio.gather(
        *(user.call("totp/enable", {"code": app.at(0), "token_transport": "json"}) for _ in range(20))
    )

    opened = [answer for answer in answers if answer.status == 200]
    assert len(opened) == 1
    assert {answer.status for answer in answers} == {200, 409}
    live = await system.sql(
        "token", "SELECT id FROM sessions WHERE user_id = $1 AND ended_at IS NULL", user.person.id
    )
    assert [str(row["id"]) for row in live] == [opened[0].json["session"]["session"]["id"]]


async def test_session_that_could_not_be_opened_loses_no_recovery_codes(
    system: System, strict: Tenant
) -> None:
    user = await new_enrolling(system, strict)
    app = App(system, (await user.call("totp/setup", {})).json["secret"])
    async with another_identity(system, token_grpc="127.0.0.1:1"):
        answer = await user.call("totp/enable", {"code": app.code()})

    assert answer.status == 200
    assert set(answer.json) == {"enabled", "recovery_codes"}
    login = await user.person.log_in()
    assert "mfa_token" in login.json
