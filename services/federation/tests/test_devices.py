"""Devices that show a code, under attack (RFC 8628 §5); each attack beside the request that succeeds."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from chassis.probes import Probes
from contracts.apps import AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN
from services.federation.devices.service import OF_ADDRESS, OF_BROWSER
from services.federation.tests.flow import (
    REDIRECT,
    Browser,
    RelyingParty,
    answer_of,
    anybody,
    fields_of,
    open_login,
    user_of,
)
from services.federation.tests.test_userinfo import ask
from tests.harness import BASE_URL, Answer, System, Tenant

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


@pytest.fixture
async def tv(system: System, acme: Tenant) -> RelyingParty:
    """A public app on devices."""
    made = await system.app(
        acme,
        name="TV <b>",
        redirect_uris=[],
        token_endpoint_auth_method="none",
        grant_types=[DEVICE_CODE, REFRESH_TOKEN],
    )
    return RelyingParty(system, acme, *made)


async def shown(tv: RelyingParty, **form: Any) -> dict[str, Any]:
    """What a device shows."""
    answer = await tv.post("federation", "/device_authorization", {"scope": "openid email", **form})
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


async def poll(tv: RelyingParty, device_code: str, *, after: int = 6) -> Answer:
    """Let the device ask for its tokens, after some seconds: each time after more, by its interval."""
    with tv.system.clock.advanced(timedelta(seconds=after)):
        form = {"grant_type": DEVICE_CODE, "device_code": device_code}
        return await tv.post("token", "/token", form)


async def typed(browser: Browser, user_code: str) -> Answer:
    """Type a code on the page."""
    return await browser.post("/device", {**fields_of(await browser.get("/device")), "user_code": user_code})


async def question(browser: Browser, user_code: str) -> Answer:
    """Type a code, and come to the question."""
    return await browser.follow(await typed(browser, user_code))


async def test_device_gets_its_tokens_when_its_user_agrees(
    system: System, acme: Tenant, tv: RelyingParty
) -> None:
    """RFC 8628 §3: the whole way, with the code as people type it."""
    user = user_of(acme)
    browser = Browser(system)
    await browser.know(await open_login(system, acme, user))
    device = await shown(tv)
    assert set(device) == {
        *("device_code", "user_code", "verification_uri", "verification_uri_complete"),
        *("expires_in", "interval"),
    }
    code = device["user_code"]
    assert re.fullmatch(f"[{LETTERS}]{{4}}-[{LETTERS}]{{4}}", code)
    assert device["verification_uri"] == f"{BASE_URL}/device"
    assert device["verification_uri_complete"] == f"{BASE_URL}/device?user_code={code}"
    assert (await poll(tv, device["device_code"])).json["error"] == "authorization_pending"

    complete = urlsplit(device["verification_uri_complete"])
    entry = await browser.get(f"{complete.path}?{complete.query}")
    assert f'value="{code}"' in entry.body.decode()
    assert entry.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in entry.headers["content-security-policy"]
    for spelling in (
        code,
        code.replace("-", ""),
        code.lower(),
        f" {code.replace('-', ' ')} ",
        code.swapcase(),
    ):
        asked = await question(browser, spelling)
        page = unescape(asked.body.decode())
        # §5.4: the user must see what it is about to allow, to whom, and that this may be a trick.
        for part in (
            code,
            "TV <b>",
            user.email,
            "203.0.113.20",
            "see your email address",
            "Allow it only if",
        ):
            assert part in page, part
        assert b"<b>" not in asked.body
    approved = await browser.post("/device/confirm", {**fields_of(asked), "decision": "approve"})
    assert (approved.status, fields_of(approved)) == (200, {})
    answered = await system.event("device_answered", client_id=acme.id, target_id=tv.id, is_approved=True)
    assert answered.actor_id == user.id

    tokens = await poll(tv, device["device_code"], after=12)
    assert tokens.status == 200, tokens.body
    told = await ask(system, tokens.json["access_token"])
    assert told.json == {"sub": user.id, "email": user.email, "email_verified": True}
    assert (await poll(tv, device["device_code"], after=18)).json["error"] == "invalid_grant"
    assert (await typed(browser, code)).status == 422, "answered: nothing waits any more"


async def test_device_request_when_not_acceptable_then_as_oauth_says(
    system: System, acme: Tenant, tv: RelyingParty, rp: RelyingParty
) -> None:
    path = "/device_authorization"
    confidential = RelyingParty(
        system, acme, *await system.app(acme, redirect_uris=[], grant_types=[DEVICE_CODE])
    )
    assert (await confidential.post("federation", path, {})).status == 200
    wrong = replace(confidential, secret=f"acs_{secrets.token_urlsafe(32)}")
    unproven = replace(confidential, secret="")
    faults = [
        (await wrong.post("federation", path, {}), 401, "invalid_client"),
        (await unproven.post("federation", path, {}), 401, "invalid_client"),
        (
            await replace(tv, id="01890a5d-ac96-774b-bcce-b302099a8057").post("federation", path, {}),
            401,
            None,
        ),
        (await rp.post("federation", path, {}), 403, "unauthorized_client"),
        (await tv.post("federation", path, {"scope": "admin"}), 400, "invalid_scope"),
        (await tv.post("federation", path, {"scope": 'op"enid'}), 400, "invalid_scope"),
        (await tv.post("federation", path, {"resource": "https://evil.example"}), 400, "invalid_target"),
        (await tv.post("federation", f"{path}?client_id={tv.id}", {}), 400, "invalid_request"),
        (await tv.post("federation", path, {"scope": ["openid", "email"]}), 400, "invalid_request"),
    ]
    for answer, status, error in faults:
        assert (answer.status, answer.json["error"]) == (status, error or "invalid_client")
        assert answer.headers["cache-control"] == "no-store"


async def test_codes_are_guessed_a_few_times_by_browser_and_by_address(
    system: System, acme: Tenant, tv: RelyingParty
) -> None:
    """RFC 8628 §5.1: new browsers do not help an address, and a right code is refused then as well."""

    class Guesser(Browser):
        """A browser at an address of its own."""

        ip = f"198.51.100.{secrets.randbelow(200)}"

    async def guess(browser: Browser, user_code: str) -> Answer:
        form = {**fields_of(await browser.get("/device")), "user_code": user_code}
        body = "&".join(f"{name}={value}" for name, value in form.items()).encode()
        return await system.call(
            "federation",
            "POST",
            "/device",
            caller=replace(anybody(), ip=Guesser.ip),
            headers={"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"},
            content=body,
            cookies=browser.cookies,
        )

    right = (await shown(tv))["user_code"]
    browser = Browser(system)
    wrong = [f"BBBB-BBB{letter}" for letter in LETTERS[: OF_BROWSER.count]]
    statuses = [(await guess(browser, user_code)).status for user_code in wrong]
    assert statuses == [422] * OF_BROWSER.count
    locked = await guess(browser, right)
    assert (locked.status, int(locked.headers["retry-after"]) > 0) == (429, True)
    fresh = Browser(system)
    assert (await guess(fresh, right)).status == 303, "another browser at the address goes on, for a while"
    left = OF_ADDRESS.count - OF_BROWSER.count - 1
    burst = await asyncio.gather(*[guess(Browser(system), "BBBB-BBBB") for _ in range(left + 15)])
    assert sum(answer.status == 422 for answer in burst) <= left
    assert (await guess(Browser(system), right)).status == 429
    await system.event("device_codes_guessed", client_id=None)
    other = Browser(system)
    assert (await typed(other, right)).status == 303, "who types it somewhere else is not locked out"


async def test_answer_is_of_our_own_form_this_browser_and_this_tenants_user(
    system: System, acme: Tenant, tv: RelyingParty
) -> None:
    """O-32's siblings, RFC 8628 §5.4: nobody is made to allow what he has not seen."""
    device = await shown(tv)
    code = device["user_code"]
    browser, elsewhere = Browser(system), Browser(system)
    await browser.know(await open_login(system, acme))
    entry = fields_of(await browser.get("/device"))
    refused = [
        await browser.post("/device", {**entry, "user_code": code}, is_cross_site=True),
        await browser.post("/device", {"user_code": code}),
        await browser.post("/device", {**entry, "form_token": "x", "user_code": code}),
        await elsewhere.post("/device", {**entry, "user_code": code}),
    ]
    assert [answer.status for answer in refused] == [403] * 4

    # Another tenant's login, or none, is asked to log in here.
    foreign = await system.tenant()
    stranger = Browser(system)
    await stranger.know(await open_login(system, foreign))
    led = await stranger.follow(await typed(stranger, code))
    assert led.headers["location"].startswith("/login?request=device_")
    assert (await stranger.follow(led)).status == 200

    asked = await question(browser, code)
    form = {**fields_of(asked), "decision": "approve"}
    assert (await browser.post("/device/confirm", form, is_cross_site=True)).status == 403
    assert (await browser.post("/device/confirm", form, sec_fetch_site="cross-site")).status == 403
    assert (await browser.post("/device/confirm", {**form, "form_token": "ft_x"})).status == 403
    assert (await browser.post("/device/confirm", {**form, "decision": "x"})).status == 403
    elsewhere.cookies |= {name: value for name, value in browser.cookies.items() if "issuer" in name}
    assert (await elsewhere.post("/device/confirm", form)).status == 400, "another browser"
    assert (await elsewhere.get(f"/device/confirm?request={form['request']}")).status == 400
    # Somebody else logs in between question and answer: asked again, and nothing is allowed.
    await browser.know(await open_login(system, acme, user_of(acme)))
    again = await browser.post("/device/confirm", form)
    assert (again.status, again.headers["location"].partition("?")[0]) == (303, "/device/confirm")
    assert (await poll(tv, device["device_code"])).json["error"] == "authorization_pending"
    form = {**fields_of(await browser.follow(again)), "decision": "approve"}
    assert (await browser.post("/device/confirm", form)).status == 200
    assert (await poll(tv, device["device_code"], after=12)).status == 200


async def test_of_many_answers_one_counts(system: System, acme: Tenant, tv: RelyingParty) -> None:
    """Twenty at once, by two users in two browsers: one success."""
    device = await shown(tv)
    browsers = [Browser(system), Browser(system)]
    forms = []
    for browser in browsers:
        await browser.know(await open_login(system, acme))
        forms.append(fields_of(await question(browser, device["user_code"])))
    decided = await asyncio.gather(
        *[
            browsers[number % 2].post(
                "/device/confirm", {**forms[number % 2], "decision": ("approve", "deny")[number // 2 % 2]}
            )
            for number in range(20)
        ]
    )
    assert sorted(answer.status for answer in decided) == [200] + [400] * 19
    outcome = (await poll(tv, device["device_code"])).status
    winner = next(answer for answer in decided if answer.status == 200)
    assert outcome == (200 if b"connected" in winner.body and b"Nothing" not in winner.body else 400)


async def test_device_when_refused_expired_or_its_login_over_then_nothing(
    system: System, acme: Tenant, tv: RelyingParty
) -> None:
    browser = Browser(system)
    login = await open_login(system, acme)
    await browser.know(login)
    denied = await shown(tv)
    form = {**fields_of(await question(browser, denied["user_code"])), "decision": "deny"}
    assert (await browser.post("/device/confirm", form)).status == 200
    assert (await poll(tv, denied["device_code"])).json["error"] == "access_denied"
    refused = await system.event("device_answered", client_id=acme.id, target_id=tv.id, is_approved=False)
    assert refused.actor_id == login.user.id
    assert not await system.sql("federation", "SELECT 1 FROM consents WHERE app_id = $1", tv.id)

    late = await shown(tv)
    form = {**fields_of(await question(browser, late["user_code"])), "decision": "approve"}
    with system.clock.advanced(timedelta(minutes=10, seconds=1)):
        assert (await typed(browser, late["user_code"])).status == 422
        assert (await browser.post("/device/confirm", form)).status == 400
    assert (await poll(tv, late["device_code"])).json["error"] == "authorization_pending", "the control"

    over = await shown(tv)
    form = {**fields_of(await question(browser, over["user_code"])), "decision": "approve"}
    assert (await browser.post("/device/confirm", form)).status == 200
    page = await browser.get(f"/logout?client_id={tv.id}")
    confirm = {**fields_of(page), "decision": "logout"}
    assert (await browser.post("/logout/confirm", confirm)).status == 200
    assert (await poll(tv, over["device_code"])).json["error"] in ("access_denied", "invalid_grant")


async def test_approval_is_a_consent_that_the_user_finds_and_takes_back(system: System, acme: Tenant) -> None:
    """As of `/authorize`, which does not ask for the same again; on a device's page each time (§5.4)."""
    made = await system.app(
        acme,
        name="TV",
        redirect_uris=[REDIRECT],
        token_endpoint_auth_method="none",
        grant_types=[AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN],
    )
    tv, browser, login = RelyingParty(system, acme, *made), Browser(system), await open_login(system, acme)
    await browser.know(login)
    caller = acme.user_caller(login.user.id, login.session_id)

    async def approved(scope: str) -> str:
        device = await shown(tv, scope=scope)
        form = {**fields_of(await question(browser, device["user_code"])), "decision": "approve"}
        assert (await browser.post("/device/confirm", form)).status == 200
        return str(device["device_code"])

    async def listed() -> list[Any]:
        found = await system.call("federation", "GET", "/api/auth/consents", caller=caller)
        assert found.status == 200, found.body
        return [(item["app"], item["scopes"]) for item in found.json["items"]]

    async def silent(scope: str) -> dict[str, str]:
        return answer_of(await browser.get(tv.url(scope=scope, prompt="none")))

    assert (await listed(), (await silent("openid"))["error"]) == ([], "consent_required")
    tokens = (await poll(tv, await approved("openid email"))).json
    granted = await system.event("consent_granted", client_id=acme.id, app_id=tv.id)
    assert (granted.actor_id, granted.data["scopes"]) == (login.user.id, ["openid", "email"])
    assert await listed() == [({"id": tv.id, "name": "TV"}, ["email", "openid"])]
    assert (await silent("openid email"))["code"]
    assert (await silent("openid profile"))["error"] == "consent_required"
    # Asked on the device's page all the same, and the consent grows.
    pending = await approved("openid profile")
    assert await listed() == [({"id": tv.id, "name": "TV"}, ["email", "openid", "profile"])]

    assert (await ask(system, tokens["access_token"])).status == 200
    [(consent_id,)] = await system.sql("federation", "SELECT id FROM consents WHERE app_id = $1", tv.id)
    path = f"/api/auth/consents/{consent_id}"
    assert (await system.call("federation", "DELETE", path, caller=caller)).status == 204
    assert await listed() == []
    assert (await ask(system, tokens["access_token"])).status == 401
    assert (await poll(tv, pending)).json["error"] == "access_denied"
    assert (await silent("openid"))["error"] == "consent_required"


async def test_user_without_a_login_comes_back_to_the_question(
    system: System, acme: Tenant, tv: RelyingParty
) -> None:
    """The login page leads back to the question; giving up there refuses nothing."""
    person = f"dev-{secrets.token_hex(4)}@example.com"
    password = "correct horse battery staple"
    signed_up = await system.call(
        "identity",
        "POST",
        "/api/auth/signup",
        caller=acme.caller(),
        json={"email": person, "password": password},
    )
    assert signed_up.status == 201, signed_up.body
    device = await shown(tv)
    browser = Browser(system)
    login = await browser.follow(await question(browser, device["user_code"]))
    assert "TV" in login.body.decode()
    form = {**fields_of(login), "email": person, "password": password}
    asked = await browser.follow(await browser.post("/login", form))
    assert person in asked.body.decode()
    approved = await browser.post("/device/confirm", {**fields_of(asked), "decision": "approve"})
    assert approved.status == 200
    assert (await poll(tv, device["device_code"])).status == 200

    device = await shown(tv)
    tired = Browser(system)
    login = await tired.follow(await question(tired, device["user_code"]))
    gone = await tired.post("/login/cancel", fields_of(login))
    assert (gone.status, gone.headers["location"]) == (303, "/device")
    assert (await poll(tv, device["device_code"])).json["error"] == "authorization_pending"


async def test_question_names_the_place_where_it_is_known(
    system: System, acme: Tenant, tv: RelyingParty, tmp_path: Path
) -> None:
    """RFC 8628 §5.4: a code that somebody far away sent is told from one's own."""
    places = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-City", float_type="f64")
    sydney = {"country": {"iso_code": "AU"}, "city": {"names": {"en": "Sydney"}}}
    places.insert_network(IPSet(["203.0.113.0/24"]), sydney)
    places.to_db_file(str(tmp_path / "places.mmdb"))
    settings = system.settings("federation", geoip_db=tmp_path / "places.mmdb")
    app = system.definitions["federation"].build(settings, system.clock)
    async with app.started():
        face = app.make_face(Probes(app.required, app.optional))
        browser = Browser(replace(system, faces={**system.faces, "federation": face}))
        await browser.know(await open_login(system, acme))
        asked = await question(browser, (await shown(tv))["user_code"])
    assert "Sydney, AU (203.0.113.20)" in asked.body.decode()
