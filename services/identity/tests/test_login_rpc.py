"""The login of the hosted page over gRPC: the rules of the HTTP routes, and no token told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from chassis.errors import AppError, Kind
from services.identity.tests.conftest import PASSWORD, address
from services.identity.tests.hosted import Hosted
from services.identity.tests.mailed import PUBLIC
from services.identity.tests.pages import plant, register
from services.identity.tests.second_factors import (
    MFA_REQUIRED,
    Protected,
    new_enrolling,
    new_person,
    new_protected,
)
from services.identity.tests.test_rpc import refusal
from tests.authenticator_app import App
from tests.harness import System, Tenant
from tests.webauthn_device import Device


@pytest.fixture
async def page(system: System, tenant: Tenant) -> AsyncIterator[Hosted]:
    """A browser at the tenant's page."""
    async with system.channel("identity", caller="federation") as channel:
        yield Hosted.at(system, tenant, channel)


async def codes_of(calls: list[Any]) -> list[str]:
    """What calls made at once came to: "opened", or the code of a refusal."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, AppError):
            raise result
    return sorted(result.code if isinstance(result, AppError) else "opened" for result in results)


async def test_login_opens_a_session_of_usual_length_that_gives_out_no_token(page: Hosted) -> None:
    person = await new_person(page.system, page.tenant)

    outcome = await page.password(person.email)

    opened = outcome.opened
    assert (opened.user.id, opened.user.email) == (person.id, person.email)
    assert opened.device_token.startswith("dev_")
    assert "token" not in {field.name for field, _ in opened.ListFields()} - {"device_token"}
    [session] = await page.system.sql(
        "token",
        """
        SELECT s.ip, s.user_agent, s.amr, s.acr, s.expires_at - s.created_at AS length, r.token_hash
        FROM sessions AS s LEFT JOIN refresh_tokens AS r ON r.session_id = s.id WHERE s.id = $1
        """,
        UUID(opened.session_id),
    )
    [usual] = await page.system.sql(
        "token",
        "SELECT expires_at - created_at AS length FROM sessions WHERE id = $1",
        UUID(person.session_id),
    )
    assert (session["ip"], session["user_agent"]) == (page.ip, "pytest")
    assert (session["amr"], session["acr"]) == (["pwd"], "urn:authservice:acr:1fa")
    assert session["token_hash"] is None
    assert session["length"] == usual["length"]
    event = await page.system.event(
        "login_succeeded", client_id=page.tenant.id, opened_session_id=opened.session_id
    )
    assert (event.data["method"], event.actor_id) == ("password", person.id)
    # The device is known again, at this page too.
    again = await replace(page, device_token=opened.device_token).password(person.email)
    assert again.opened.device_token.split("_")[1] == opened.device_token.split("_")[1]


async def test_refusals_are_those_of_the_http_routes(page: Hosted) -> None:
    """W-04: an unknown address and a wrong password are one refusal."""
    person = await new_person(page.system, page.tenant)
    wrong = await refusal(page.password(person.email, "wrong " + PASSWORD))
    unknown = await refusal(page.password(address(), "wrong " + PASSWORD))
    assert (wrong.code, wrong.kind, wrong.detail) == (unknown.code, unknown.kind, unknown.detail)
    assert (wrong.code, wrong.kind) == ("invalid_credentials", Kind.UNAUTHENTICATED)
    assert (await refusal(page.password("nobody"))).code == "invalid_email"
    assert (await refusal(page.password(person.email, ""))).code == "validation_failed"
    assert (await refusal(page.password(person.email, "\x00"))).code == "validation_failed"
    assert (await refusal(page.code("mfa_nothing", "123456"))).code == "invalid_mfa_token"
    assert (await refusal(page.finish("x", "{}"))).code == "invalid_passkey_answer"
    assert (await refusal(page.finish("x", "["))).code == "invalid_passkey_answer"
    for _ in range(9):
        last = await refusal(page.password(person.email, "wrong"))
    assert last.code == "account_locked"
    assert (last.retry_after or 0) > 0


async def test_suspended_client_logs_nobody_in(system: System) -> None:
    tenant = await system.tenant()
    person = await new_person(system, tenant)
    async with system.channel("identity", caller="federation") as channel:
        page = Hosted.at(system, tenant, channel)
        assert (await page.password(person.email)).HasField("opened")
        suspended = await system.call(
            "orgs",
            "PATCH",
            f"/api/admin/clients/{tenant.id}",
            caller=system.admin(),
            json={"status": "suspended"},
        )
        assert suspended.status == 200
        async with asyncio.timeout(5):
            while (code := (await refusal(page.password(person.email))).code) != "client_not_found":
                assert code == "session_refused"
                await asyncio.sleep(0.05)
        unknown = replace(page, tenant=replace(tenant, id=UUID(int=7)))
        assert (await refusal(unknown.password(person.email))).code == "client_not_found"


async def second_leg(page: Hosted) -> tuple[Protected, str]:
    """A user with an app, and its login that waits."""
    user = await new_protected(page.system, page.tenant)
    outcome = await page.password(user.person.email)
    assert not outcome.HasField("opened")
    assert {"totp", "recovery_code"} <= set(outcome.mfa.factors)
    return user, outcome.mfa.mfa_token


async def test_second_factor_completes_the_login_once(page: Hosted) -> None:
    user, token = await second_leg(page)
    assert (await refusal(page.code(token, user.app.wrong()))).code == "invalid_mfa_code"
    code = user.app.code()

    found = await codes_of([page.code(token, code) for _ in range(4)])

    assert found.count("opened") == 1
    assert set(found) <= {"opened", "invalid_mfa_code", "invalid_mfa_token"}
    _, other = await second_leg(page)
    assert (await refusal(page.code(other, user.app.code()))).code == "invalid_mfa_code"

    again = (await page.password(user.person.email)).mfa.mfa_token
    recovered = await page.code(again, user.recovery_codes[0], "recovery_code", remember=True)
    [session] = await page.system.sql(
        "token", "SELECT amr, acr FROM sessions WHERE id = $1", UUID(recovered.opened.session_id)
    )
    assert session["acr"] == "urn:authservice:acr:2fa"
    assert {"pwd", "mfa"} <= set(session["amr"])
    last = (await page.password(user.person.email)).mfa.mfa_token
    assert (
        await refusal(page.code(last, user.recovery_codes[0], "recovery_code"))
    ).code == "invalid_mfa_code"


async def test_waiting_login_is_of_its_client_alone(page: Hosted) -> None:
    user, token = await second_leg(page)
    other = replace(page, tenant=await page.system.tenant())
    assert (await refusal(other.code(token, user.app.code()))).code == "invalid_mfa_token"
    assert (await page.code(token, user.app.code())).HasField("opened")


async def test_passkey_is_a_way_in_or_a_second_factor(page: Hosted) -> None:
    person = await new_person(page.system, page.tenant)
    device = Device()
    assert (await register(person, device)).status == 201
    assert (await page.passkey(device)).HasField("opened")
    assert (await page.passkey(device, email=person.email)).HasField("opened")

    user, token = await second_leg(page)
    key = Device()
    await plant(user.person, key)
    assert (await page.passkey(key, mfa_token=token)).HasField("opened")
    assert (await refusal(page.passkey(Device()))).code == "invalid_passkey"


async def test_policy_that_demands_a_second_factor_is_kept(system: System) -> None:
    """Who has none sets it up first, with a token that opens nothing else and is good for one session."""
    tenant = await system.tenant(settings=MFA_REQUIRED)
    async with system.channel("identity", caller="federation") as channel:
        page = Hosted.at(system, tenant, channel)
        bare = await new_enrolling(system, tenant)
        outcome = await page.password(bare.person.email)
        assert list(outcome.enrollment.factors) == ["totp", "passkey"]
        assert not outcome.HasField("opened")
        token = outcome.enrollment.enrollment_token
        other = replace(page, tenant=await system.tenant())
        plain = await new_person(system, other.tenant)
        for refused in (
            other.set_up(token),
            other.set_up(plain.document["access_token"]),
            page.set_up("eyJ.e.e"),
        ):
            assert (await refusal(refused)).code == "unauthenticated"
        app = App(system, (await page.set_up(token)).secret)
        assert (await refusal(page.enroll(token, app.wrong()))).code == "wrong_code"
        enabled = await page.enroll(token, app.code())
        assert len(enabled.recovery_codes) == 10
        assert (await refusal(page.enroll(token, app.code()))).code in (
            "mfa_already_enabled",
            "unauthenticated",
        )
        [session] = await system.sql(
            "token",
            """
            SELECT s.acr, r.token_hash
            FROM sessions AS s LEFT JOIN refresh_tokens AS r ON r.session_id = s.id WHERE s.id = $1
            """,
            UUID(enabled.opened.session_id),
        )
        assert (session["acr"], session["token_hash"]) == ("urn:authservice:acr:2fa", None)


async def test_options_are_the_clients(system: System) -> None:
    plain = await system.tenant()
    chosen = await system.tenant(
        settings={
            "auth_ui": {"methods": ["passkey"]},
            "webauthn_rp_id": "example.com",
            "webauthn_rp_origin": "https://login.example.com",
        }
    )
    async with system.channel("identity", caller="federation") as channel:
        options = await Hosted.at(system, plain, channel).options()
        assert (options.has_password, options.has_passkey, options.captcha_provider) == (True, True, "")
        assert (options.has_password_reset, options.has_sign_up, options.min_password_length) == (
            True,
            False,
            8,
        )
        assert (await refusal(Hosted.at(system, plain, channel).sign_up(address()))).code == "not_offered"
        assert "http://localhost:8080" in options.passkey_origins
        options = await Hosted.at(system, chosen, channel).options()
        assert (options.has_password, options.has_passkey) == (False, True)
        assert not options.has_password_reset
        assert not options.has_magic_link
        assert list(options.passkey_origins) == ["https://login.example.com"]


async def test_reset_that_the_page_asks_for_leads_back_to_it(page: Hosted) -> None:
    person = await new_person(page.system, page.tenant)
    for handle in ("", "authz_ä", "a&b=c", "//evil.example", "a" * 129):
        assert (await refusal(page.reset(person.email, handle))).code == "invalid_request"
    assert (await refusal(page.reset("nobody", "authz_1"))).code == "invalid_email"
    await page.reset(person.email, "authz_1")
    [mail] = await page.system.mails(person.email, "reset_password")
    form = urlencode({"token": mail.token, "password": "another long password 7"}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    path = "/api/auth/reset-password/confirm"
    answer = await page.system.call("identity", "POST", path, caller=PUBLIC, content=form, headers=headers)
    back = f"/login/password-changed?request=authz_1&client_id={page.tenant.id}"
    assert (answer.status, answer.headers["location"]) == (303, back)
    assert "set-cookie" not in answer.headers


async def test_nobody_but_federation_may_call(system: System, tenant: Tenant) -> None:
    async with system.channel("identity", caller="token") as channel:
        assert (await refusal(Hosted.at(system, tenant, channel).options())).kind is Kind.FORBIDDEN
