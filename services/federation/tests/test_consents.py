"""Consent: asked once per scope, again for more, by our own page only, and taken back by the user (O-32)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from chassis.service import Service
from contracts.gen.internal.token.v1 import sessions_pb2
from services.federation.consents.service import ConsentService
from services.federation.grants import Grants
from services.federation.tests.flow import Browser, RelyingParty, answer_of, fields_of, open_login, sign_up
from tests.harness import System, Tenant

RESOURCE = "https://api.example.com/v1"


@pytest.fixture
async def login(system: System, acme: Tenant) -> sessions_pb2.OpenedSession:
    """A user's login at the issuer."""
    return await open_login(system, acme)


@pytest.fixture
async def browser(system: System, login: sessions_pb2.OpenedSession) -> Browser:
    """That user's browser."""
    made = Browser(system)
    await made.know(login)
    return made


async def test_consent_when_given_then_remembered_per_scope_and_resource(
    system: System, asking: RelyingParty, browser: Browser, login: sessions_pb2.OpenedSession
) -> None:
    asked = await browser.get(asking.url(scope="openid email", state="s-1"))
    assert asked.headers["location"].startswith("/consent?request=")
    page = await browser.follow(asked)
    assert (page.status, page.headers["x-frame-options"], page.headers["cache-control"]) == (
        200,
        "DENY",
        "no-store",
    )
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert b"Notes &lt;b&gt;" in page.body
    assert login.user.email.encode() in page.body
    assert b"app.example.com" in page.body

    approved = await browser.post("/consent", {**fields_of(page), "decision": "approve"})
    got = answer_of(approved)
    assert got["state"] == "s-1"
    tokens = await asking.redeem(got["code"])
    assert tokens.json["scope"] == "openid email"
    event = await system.event("consent_granted", client_id=asking.tenant.id, app_id=asking.id)
    assert (event.actor_id, event.data["scopes"]) == (login.user.id, ["openid", "email"])

    # The same and less: not asked again. More, of scopes or of resources: asked.
    for scope in ("openid email", "openid", "email openid"):
        assert answer_of(await browser.get(asking.url(scope=scope, prompt="none")))["code"]
    for more in ({"scope": "openid profile"}, {"scope": "openid", "resource": RESOURCE}):
        assert answer_of(await browser.get(asking.url(prompt="none", **more)))["error"] == "consent_required"
    await browser.decide(await browser.get(asking.url(scope="openid profile")))
    # What was agreed to before stays.
    assert answer_of(await browser.get(asking.url(scope="openid email profile", prompt="none")))["code"]
    # prompt=consent asks all the same, and another user's consent is not this one's.
    assert (await browser.get(asking.url(prompt="consent"))).headers["location"].startswith("/consent")
    other = Browser(system)
    await other.know(await open_login(system, asking.tenant))
    assert answer_of(await other.get(asking.url(prompt="none")))["error"] == "consent_required"


async def test_consent_when_denied_then_app_is_told_and_asks_again(
    system: System, asking: RelyingParty, browser: Browser
) -> None:
    got = answer_of(await browser.decide(await browser.get(asking.url(state="s-2")), "deny"))
    assert (got["error"], got["state"]) == ("access_denied", "s-2")
    await system.event("consent_refused", client_id=asking.tenant.id, app_id=asking.id)
    assert answer_of(await browser.get(asking.url(prompt="none")))["error"] == "consent_required"


async def test_consent_when_form_is_not_ours_then_nothing_is_granted(
    asking: RelyingParty, browser: Browser, system: System
) -> None:
    """O-32: no token, a wrong one, another request's; by another site; in another browser; by others."""
    page = await browser.follow(await browser.get(asking.url()))
    another = await browser.follow(await browser.get(asking.url()))
    good = {**fields_of(page), "decision": "approve"}
    for form, status in (
        ({**good, "form_token": ""}, 403),
        ({name: value for name, value in good.items() if name != "form_token"}, 403),
        ({**good, "form_token": fields_of(another)["form_token"]}, 403),
        ({**good, "decision": ""}, 403),
        ({**good, "request": "authz_x"}, 400),
    ):
        answer = await browser.post("/consent", form)
        assert (answer.status, answer.headers.get("location")) == (status, None), form
    assert (await browser.post("/consent", good, sec_fetch_site="cross-site")).status == 403
    assert (await browser.post("/consent", good, sec_fetch_site="same-site")).status == 403
    assert (await browser.post("/consent", good, is_cross_site=True)).status == 403

    thief = Browser(system)
    await thief.know(await open_login(system, asking.tenant))
    assert (await thief.get(f"/consent?request={good['request']}")).status == 400
    assert (await thief.post("/consent", good)).status == 400
    assert (await thief.get(f"/authorize/resume?request={good['request']}")).status == 400
    # Another user in the same browser cannot answer for the one who was asked.
    swapped = Browser(system, {**browser.cookies})
    await swapped.know(await open_login(system, asking.tenant))
    assert (await swapped.post("/consent", good)).headers["location"].startswith("/login?")

    # The positive control, once under concurrency.
    answers = await asyncio.gather(*(browser.post("/consent", good) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [303] + [400] * 19


async def test_consent_when_always_required_or_trusted_then_as_the_tenant_says(
    system: System, acme: Tenant, browser: Browser, rp: RelyingParty
) -> None:
    members = {"require_consent": True, "trusted": True}
    strict = RelyingParty(system, acme, *await system.app(acme, **members))
    for _ in range(2):
        asked = await browser.get(strict.url())
        assert asked.headers["location"].startswith("/consent?")
        assert answer_of(await browser.decide(asked))["code"]
    assert answer_of(await browser.get(strict.url(prompt="none")))["error"] == "consent_required"
    # A trusted app's users are asked only when it wants them to be.
    assert answer_of(await browser.get(rp.url(scope="openid email offline_access")))["code"]
    assert (await browser.get(rp.url(prompt="consent"))).headers["location"].startswith("/consent?")


async def test_consents_when_listed_and_withdrawn_then_grants_end(
    system: System, acme: Tenant, asking: RelyingParty, browser: Browser, login: sessions_pb2.OpenedSession
) -> None:
    approved = await browser.decide(await browser.get(asking.url(scope="openid offline_access")))
    tokens = (await asking.redeem(answer_of(approved)["code"])).json
    pending = answer_of(await browser.get(asking.url()))["code"]
    caller = acme.user_caller(login.user.id, login.session_id)

    listed = await system.call("federation", "GET", "/api/auth/consents", caller=caller)
    assert listed.status == 200
    (mine,) = listed.json["items"]
    assert mine["app"] == {"id": asking.id, "name": "Notes <b>"}
    assert mine["scopes"] == ["offline_access", "openid"]

    stranger = acme.user_caller((await open_login(system, acme)).user.id, login.session_id)
    path = f"/api/auth/consents/{mine['id']}"
    refused = await system.call("federation", "DELETE", path, caller=stranger)
    assert (refused.status, refused.code) == (404, "consent_not_found")
    assert (await system.call("federation", "GET", "/api/auth/consents", caller=stranger)).json["items"] == []

    assert (await asking.userinfo(tokens["access_token"])).status == 200
    assert (await system.call("federation", "DELETE", path, caller=caller)).status == 204
    assert (await system.call("federation", "DELETE", path, caller=caller)).status == 404
    await system.event("consent_withdrawn", client_id=acme.id, app_id=asking.id)
    assert (await asking.redeem(pending)).json["error"] == "invalid_grant"
    assert (await asking.userinfo(tokens["access_token"])).status == 401
    assert answer_of(await browser.get(asking.url(prompt="none")))["error"] == "consent_required"


async def test_withdrawal_when_told_late_then_what_a_new_consent_gave_goes_on(
    system: System, acme: Tenant, asking: RelyingParty, browser: Browser, login: sessions_pb2.OpenedSession
) -> None:
    """And without a new consent everything ends, also what was redeemed after the withdrawal."""

    async def agree() -> str:
        approved = await browser.decide(await browser.get(asking.url(scope="openid offline_access")))
        return str((await asking.redeem(answer_of(approved)["code"])).json["access_token"])

    caller = acme.user_caller(login.user.id, login.session_id)
    old = await agree()
    [mine] = (await system.call("federation", "GET", "/api/auth/consents", caller=caller)).json["items"]
    path = f"/api/auth/consents/{mine['id']}"
    assert (await system.call("federation", "DELETE", path, caller=caller)).status == 204
    withdrawn = await system.event("consent_withdrawn", client_id=acme.id, app_id=asking.id)
    assert (await asking.userinfo(old)).status == 401
    with system.clock.advanced(timedelta(seconds=30)):
        new, pending = await agree(), answer_of(await browser.get(asking.url()))["code"]
        async with (
            system.db("federation") as db,
            system.channel("token", caller="federation") as channel,
        ):
            service = Service(system.settings("federation"), system.clock)
            consents = ConsentService(db, service.outbox, system.clock, Grants(channel))

            await consents.on_withdrawn([withdrawn])

            assert (await asking.userinfo(new)).status == 200
            assert (await asking.redeem(pending)).status == 200
            await system.sql("federation", "DELETE FROM consents WHERE client_id = $1", acme.id)
            await consents.on_withdrawn([withdrawn])
            assert (await asking.userinfo(new)).status == 401


async def test_consents_when_many_then_paged(
    system: System, acme: Tenant, browser: Browser, login: sessions_pb2.OpenedSession
) -> None:
    ids = []
    for _ in range(3):
        rp = RelyingParty(system, acme, *await system.app(acme))
        ids.append(rp.id)
        await browser.decide(await browser.get(rp.url()))
    caller = acme.user_caller(login.user.id, login.session_id)
    seen, cursor = [], ""
    while True:
        page = await system.call("federation", "GET", f"/api/auth/consents?limit=2{cursor}", caller=caller)
        seen += [item["app"]["id"] for item in page.json["items"]]
        if page.json["next_cursor"] is None:
            break
        cursor = f"&cursor={page.json['next_cursor']}"
    assert seen == ids[::-1]
    foreign = replace(caller, user_id=(await system.tenant()).id)
    stolen = await system.call("federation", "GET", f"/api/auth/consents?{cursor}", caller=foreign)
    assert (stolen.status, stolen.code) == (400, "invalid_cursor")


async def test_user_when_deleted_then_consents_are_gone(
    system: System, acme: Tenant, asking: RelyingParty
) -> None:
    browser, person = Browser(system), await sign_up(system, acme)
    await browser.decide(await browser.log_in(await browser.get(asking.url()), person))
    assert await system.sql("federation", "SELECT 1 FROM consents WHERE app_id = $1", asking.id)

    path = f"/api/admin/clients/{acme.id}/users/{person.id}"
    assert (await system.call("identity", "DELETE", path, caller=system.admin())).status == 204

    async with asyncio.timeout(10):
        for table in ("consents", "issuer_sessions"):
            statement = f"SELECT 1 FROM {table} WHERE user_id = $1"
            while await system.sql("federation", statement, UUID(person.id)):
                await asyncio.sleep(0.05)


async def test_app_when_deleted_then_its_consents_are_gone_and_no_others(
    system: System, acme: Tenant, asking: RelyingParty, browser: Browser, login: sessions_pb2.OpenedSession
) -> None:
    kept = RelyingParty(system, acme, *await system.app(acme, name="Kept"))
    for rp in (kept, asking):
        assert answer_of(await browser.decide(await browser.get(rp.url())))["code"]
    caller = acme.user_caller(login.user.id, login.session_id)

    async def listed() -> list[str]:
        found = await system.call("federation", "GET", "/api/auth/consents", caller=caller)
        return [item["app"]["id"] for item in found.json["items"]]

    assert await listed() == [asking.id, kept.id]
    path = f"/api/admin/clients/{acme.id}/apps/{asking.id}"
    assert (await system.call("orgs", "DELETE", path, caller=system.admin())).status == 204

    async with asyncio.timeout(10):
        while await listed() != [kept.id]:
            await asyncio.sleep(0.05)
