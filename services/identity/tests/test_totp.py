"""The authenticator app: how it is set up and removed, and what each of that needs."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from services.identity.tests.conftest import PASSWORD, another_identity
from services.identity.tests.second_factors import (
    MFA_REQUIRED,
    Protected,
    call_as,
    new_enrolling,
    new_person,
    new_protected,
    protect,
    set_up,
)
from tests.authenticator_app import App
from tests.harness import Answer, System, Tenant


def now(system: System) -> int:
    """The time in Unix seconds."""
    return int(system.clock.now().timestamp())


async def test_user_sets_up_an_app_logs_in_with_it_and_removes_it(system: System, tenant: Tenant) -> None:
    user = await new_protected(system, tenant)

    opened = await user.show(await user.challenge(), user.app.code())
    removed = await call_as(user.person, "totp/disable", {"code": user.app.code()})

    assert opened.status == 200, opened.body
    assert opened.json["user"]["mfa_enabled"] is True
    assert opened.json["refresh_token"]
    assert removed.json == {"enabled": False}
    login = await system.event("login_succeeded", client_id=tenant.id, factor="totp")
    assert (login.actor_id, login.data["method"]) == (user.person.id, "password")
    opened_event = await system.event("session_opened", client_id=tenant.id, after=1)
    assert opened_event.data["amr"] == ["pwd", "otp", "mfa"]
    for event_type in ("totp_enabled", "totp_disabled"):
        event = await system.event(event_type, client_id=tenant.id)
        assert (event.actor_id, event.target_id) == (user.person.id, user.person.id)
    assert (await user.person.log_in()).json["user"]["mfa_enabled"] is False
    left = await call_as(user.person, "recovery-codes", method="GET")
    assert left.json == {"remaining": 0, "generated_at": None}
    again = await call_as(user.person, "totp/disable", {"code": user.app.code()})
    assert (again.status, again.code) == (409, "mfa_not_enabled")


async def test_setup_shows_a_strong_secret_once_in_forms_that_apps_read(system: System) -> None:
    """T-14."""
    brand = "Müller & Söhne: 100% <b>"
    tenant = await system.tenant(settings={"auth_ui": {"brand_name": brand}})
    person = await new_person(system, tenant)

    answer = await call_as(person, "totp/setup", {}, auth_time=now(system))

    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    secret, url = answer.json["secret"], urlsplit(answer.json["otpauth_url"])
    assert len(secret) * 5 >= 160
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    assert url.path.count(":") == 1
    assert unquote(url.path) == f"/{brand}:{person.email}"
    assert parse_qs(url.query) == {"secret": [secret], "issuer": [brand]}
    drawing = ET.fromstring(answer.json["qr_svg"])
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert {element.tag.rpartition("}")[2] for element in drawing.iter()} <= {"svg", "g", "path"}
    [row] = await system.sql("identity", "SELECT * FROM totp_secrets WHERE user_id = $1", person.id)
    assert secret.encode() not in row["pending"]
    assert row["active"] is None
    second = await call_as(person, "totp/setup", {}, auth_time=now(system))
    assert second.json["secret"] != secret


async def test_enable_answers_recovery_codes_and_tells_the_token_service(
    system: System, tenant: Tenant
) -> None:
    person = await new_person(system, tenant)
    app = await set_up(person)

    answer = await call_as(person, "totp/enable", {"code": app.code()})

    assert answer.status == 200, answer.body
    assert set(answer.json) == {"enabled", "recovery_codes"}
    assert len(set(answer.json["recovery_codes"])) == 10
    refreshed = await system.call(
        "token",
        "POST",
        "/api/auth/refresh",
        caller=tenant.caller(),
        json={"refresh_token": person.document["refresh_token"], "token_transport": "json"},
    )
    assert refreshed.json["user"]["mfa_enabled"] is True
    again = await call_as(person, "totp/enable", {"code": app.code()})
    assert (again.status, again.code) == (409, "no_pending_setup")


@pytest.mark.parametrize(
    ("is_protected", "body", "age", "expected"),
    [
        # Without a second factor: a login just now, or the password.
        (False, {}, timedelta(minutes=14), (200, None)),
        (False, {}, timedelta(minutes=16), (403, "step_up_required")),
        (False, {}, None, (403, "step_up_required")),
        (False, {"password": PASSWORD}, None, (200, None)),
        (False, {"password": "not the password"}, timedelta(0), (403, "wrong_password")),
        (False, {"code": "123456"}, None, (403, "step_up_required")),
        # With one: nothing but one of its codes.
        (True, {}, timedelta(0), (403, "step_up_required")),
        (True, {"password": PASSWORD}, timedelta(0), (403, "step_up_required")),
        (True, {"code": "wrong"}, timedelta(0), (403, "wrong_code")),
        (True, {"code": "recovery"}, None, (200, None)),
        (True, {"code": "app"}, None, (200, None)),
    ],
)
async def test_setup_needs_a_fresh_proof(
    system: System,
    tenant: Tenant,
    is_protected: bool,
    body: dict[str, Any],
    age: timedelta | None,
    expected: tuple[int, str | None],
) -> None:
    """T-08."""
    person = await new_person(system, tenant)
    if is_protected:
        user = await protect(person)
        shown = {"wrong": user.app.wrong(), "recovery": user.recovery_codes[0], "app": user.app.code()}
        body = {name: shown.get(value, value) for name, value in body.items()}
    auth_time = None if age is None else now(system) - int(age.total_seconds())

    answer = await call_as(person, "totp/setup", body, auth_time=auth_time)

    assert (answer.status, answer.json.get("code")) == expected


async def test_second_setup_leaves_the_active_app_active_until_it_is_enabled(
    system: System, tenant: Tenant
) -> None:
    """T-08."""
    user = await new_protected(system, tenant)
    answer = await call_as(user.person, "totp/setup", {"code": user.app.code()})
    other = App(system, answer.json["secret"])

    assert (await user.show(await user.challenge(), other.at(0))).status == 401
    assert (await user.show(await user.challenge(), user.app.code())).status == 200

    replaced = await call_as(user.person, "totp/enable", {"code": other.code()})
    assert replaced.status == 200, replaced.body
    assert (await user.show(await user.challenge(), user.app.code())).status == 401
    assert (await user.show(await user.challenge(), other.code())).status == 200
    # Its codes came anew, too.
    assert (await user.show(await user.challenge(), user.recovery_codes[0], "recovery-codes")).status == 401
    event = await system.event("totp_enabled", client_id=tenant.id, after=1)
    assert event.data == {"replaced": True}


async def test_pending_secret_is_void_once_it_is_old_or_the_factors_changed(
    system: System, tenant: Tenant
) -> None:
    person = await new_person(system, tenant)
    thief = await set_up(person)
    await system.sql(
        "identity",
        "UPDATE totp_secrets SET pending_since = pending_since - interval '16 minutes' WHERE user_id = $1",
        person.id,
    )
    late = await call_as(person, "totp/enable", {"code": thief.code()})
    thief = await set_up(person)
    # As a process that protects the user by another app meanwhile would leave it.
    await system.sql("identity", "UPDATE users SET mfa_enabled = true WHERE id = $1", person.id)
    overtaken = await call_as(person, "totp/enable", {"code": thief.code()})
    await system.sql("identity", "UPDATE users SET mfa_enabled = false WHERE id = $1", person.id)
    positive = await call_as(person, "totp/enable", {"code": thief.code()})

    assert [(answer.status, answer.code) for answer in (late, overtaken)] == [(409, "no_pending_setup")] * 2
    assert positive.status == 200


async def test_two_setups_enabled_at_once_leave_one_app_and_ten_codes(system: System, tenant: Tenant) -> None:
    """X-09; over two processes, and with the second set-up in the middle of it."""
    person = await new_person(system, tenant)
    first = await set_up(person)

    def tries(app: App, count: int) -> list[asyncio.Task[Answer]]:
        return [
            asyncio.create_task(call_as(person, "totp/enable", {"code": app.at(0)})) for _ in range(count)
        ]

    running = tries(first, 4)
    begun = asyncio.create_task(call_as(person, "totp/setup", {}, auth_time=now(system)))
    async with another_identity(system):
        running += tries(first, 4)
        again = await begun
        # Refused if the first app was active by then.
        second = App(system, again.json["secret"]) if again.status == 200 else first
        running += tries(second, 10)
        answers = await asyncio.gather(*running)

    enabled = [answer for answer in answers if answer.status == 200]
    assert len(enabled) == 1
    assert {answer.code for answer in answers if answer.status != 200} <= {"no_pending_setup", "wrong_code"}
    rows = await system.sql("identity", "SELECT 1 FROM recovery_codes WHERE user_id = $1", person.id)
    assert len(rows) == 10
    winner = first if enabled[0] in answers[:8] else second
    user = Protected(person, winner, enabled[0].json["recovery_codes"])
    assert (await user.show(await user.challenge(), user.app.at(1))).status == 200
    assert (await user.show(await user.challenge(), user.recovery_codes[0], "recovery-codes")).status == 200


async def test_disable_needs_a_code_and_is_refused_where_policy_demands_a_factor(system: System) -> None:
    free, strict = await system.tenant(), await system.tenant(settings=MFA_REQUIRED)
    user = await new_protected(system, free)
    refusals = [
        await call_as(user.person, "totp/disable", body)
        for body in ({}, {"code": user.app.wrong()}, {"code": "xxxxx-xxxxx-xxxxx-xxxxx"})
    ]
    waiting = await user.challenge()
    removed = await call_as(user.person, "totp/disable", {"code": user.recovery_codes[3]})

    assert [(answer.status, answer.code) for answer in refusals] == [
        (403, "step_up_required"),
        (403, "wrong_code"),
        (403, "wrong_code"),
    ]
    assert removed.status == 200
    assert (await user.show(waiting, user.app.code())).code == "invalid_mfa_token"
    still = await system.call("identity", "GET", "/api/auth/me", caller=user.person.caller())
    assert still.status == 200

    bound = await (await new_enrolling(system, strict)).finish()
    answer = await call_as(bound.person, "totp/disable", {"code": bound.recovery_codes[0]})
    assert (answer.status, answer.code) == (403, "mfa_required_by_policy")
    # The code was not used up for it.
    token = await bound.challenge()
    assert (await bound.show(token, bound.recovery_codes[0], "recovery-codes")).status == 200
