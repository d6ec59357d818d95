"""Logout that an app asks for, under attack; each attack beside the request that succeeds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from services.federation.tests.flow import (
    Browser,
    RelyingParty,
    answer_of,
    fields_of,
    open_login,
    user_of,
)
from services.federation.tests.test_userinfo import ask
from tests.harness import Answer, System, Tenant

GOODBYE = "https://app.example.com/goodbye"


@pytest.fixture
async def shop(system: System, acme: Tenant) -> RelyingParty:
    """An app with an address to come back to."""
    made = await system.app(acme, name="Shop", trusted=True, post_logout_redirect_uris=[GOODBYE])
    return RelyingParty(system, acme, *made)


async def hint_of(rp: RelyingParty, browser: Browser) -> str:
    """Log in at an app, and return its ID token."""
    tokens = await rp.redeem(answer_of(await browser.get(rp.url()))["code"])
    return str(tokens.json["id_token"])


def url(**parameters: Any) -> str:
    """Where an app sends its user."""
    return f"/logout?{urlencode(parameters)}"


async def is_logged_in(rp: RelyingParty, browser: Browser) -> bool:
    """Whether the browser's user need not log in."""
    answer = await browser.get(rp.url(prompt="none"))
    return "code" in answer_of(answer)


def is_question(answer: Answer) -> bool:
    """Whether an answer is the page that asks, and leads nowhere."""
    asks = answer.status == 200 and 'action="/logout/confirm"' in answer.body.decode()
    framed = answer.headers["x-frame-options"] == "DENY"
    return asks and framed and "location" not in answer.headers


async def test_logout_with_the_logins_own_token_then_led_back(
    system: System, shop: RelyingParty, acme: Tenant
) -> None:
    """RP-Initiated Logout 1.0 §2, §3; by GET and by another site's form; the token may have expired."""
    for is_form, age in ((False, timedelta(0)), (True, timedelta(0)), (False, timedelta(hours=2))):
        browser = Browser(system)
        await browser.know(await open_login(system, acme))
        hint = await hint_of(shop, browser)
        asked = {"id_token_hint": hint, "post_logout_redirect_uri": GOODBYE, "state": "a&b=ü"}
        with system.clock.advanced(age):
            if is_form:
                posted = await browser.post("/logout", asked, is_cross_site=True)
                assert hint not in posted.headers["location"]
                answer = await browser.follow(posted)
            else:
                answer = await browser.get(url(**asked))
        assert (answer.status, answer.headers["location"]) == (303, f"{GOODBYE}?state=a%26b%3D%C3%BC")
        assert answer.headers["cache-control"] == "no-store"
        assert not any(name.startswith("auth_issuer") for name in browser.cookies)
        assert not await is_logged_in(shop, browser)
        again = await browser.get(url(**asked))
        assert again.headers["location"].startswith(GOODBYE), "twice is as once"


async def test_logout_when_not_certain_then_asked_and_led_nowhere_else(
    system: System, acme: Tenant, shop: RelyingParty, rp: RelyingParty
) -> None:
    """O-31: unregistered addresses, hints that are changed, foreign or none at all."""
    browser = Browser(system)
    await browser.know(await open_login(system, acme))
    hint = await hint_of(shop, browser)
    stranger = Browser(system)
    await stranger.know(await open_login(system, acme))
    foreign = await hint_of(shop, stranger)
    elsewhere = await system.tenant()
    other = RelyingParty(system, elsewhere, *await system.app(elsewhere, trusted=True))
    visitor = Browser(system)
    await visitor.know(await open_login(system, elsewhere))
    other_tenant = await hint_of(other, visitor)
    head, payload, signature = hint.split(".")
    tokens = (await shop.redeem(answer_of(await browser.get(shop.url()))["code"])).json

    registered = {"post_logout_redirect_uri": GOODBYE}
    requests: dict[str, dict[str, str]] = {
        "nothing": {},
        "no hint": {"client_id": shop.id, **registered},
        "another user's hint": {"id_token_hint": foreign, **registered},
        "changed hint": {"id_token_hint": f"{head}.{payload}.{signature[::-1]}", "client_id": shop.id},
        "unsigned hint": {"id_token_hint": f"eyJhbGciOiJub25lIn0.{payload}.", "client_id": shop.id},
        "access token as hint": {"id_token_hint": tokens["access_token"], "client_id": shop.id},
        "hint of another app": {"id_token_hint": hint, "client_id": rp.id, **registered},
        "unknown app": {"client_id": "01890a5d-ac96-774b-bcce-b302099a8057", **registered},
        "no app": {"client_id": "x", **registered},
        "another tenant's hint": {"id_token_hint": other_tenant, "post_logout_redirect_uri": GOODBYE},
    }
    for uri in (
        "https://evil.example/",
        f"{GOODBYE}/",
        f"{GOODBYE}?x",
        f"{GOODBYE}#x",
        "https://app.example.com/Goodbye",
        "https://app.example.com@evil.example/goodbye",
        "//evil.example",
        "javascript:alert(1)",
        "http://app.example.com/goodbye",
    ):
        requests[uri] = {"id_token_hint": hint, "post_logout_redirect_uri": uri}
    for name, asked in requests.items():
        answer = await browser.get(url(**asked, state="s"))
        if name == "another tenant's hint":
            # Nobody is logged in there in this browser: there is nothing to end, and no address of that app.
            assert (answer.status, fields_of(answer)) == (200, {}), name
        else:
            assert is_question(answer), (name, answer.status, answer.body[:200])
        assert b"evil" not in answer.body
        posted = await browser.post("/logout", {**asked, "state": "s"}, is_cross_site=True)
        assert (await browser.follow(posted)).status == 200
        assert await is_logged_in(shop, browser), name
    assert {event.data["reason"] for event in system.events if event.type == "logout_refused"} == {
        "app_unknown",
        "id_token_hint",
        "redirect_uri",
    }
    certain = await browser.get(url(id_token_hint=hint, **registered))
    assert certain.headers["location"] == GOODBYE, "the positive control"


async def test_question_takes_our_own_form_of_this_browser_and_login_only(
    system: System, acme: Tenant, shop: RelyingParty
) -> None:
    """O-32's siblings: cross-site forms, another browser's question, one without a decision."""
    login = await open_login(system, acme)
    browser, other = Browser(system), Browser(system)
    await browser.know(login)
    await other.know(await open_login(system, acme))
    asked = url(client_id=shop.id, post_logout_redirect_uri=GOODBYE, state="s")
    form = fields_of(await browser.get(asked))
    foreign = fields_of(await other.get(asked))
    yes = {"decision": "logout"}
    refused = [
        await browser.post("/logout/confirm", {**form, **yes}, is_cross_site=True),
        await browser.post("/logout/confirm", {**form, **yes}, sec_fetch_site="cross-site"),
        await browser.post("/logout/confirm", {**form, **yes}, sec_fetch_site="same-site"),
        await browser.post("/logout/confirm", {**foreign, **yes}),
        await browser.post("/logout/confirm", form),
        await browser.post("/logout/confirm", {**form, "decision": "x"}),
    ]
    assert [answer.status for answer in refused] == [403] * 6
    for broken in ("", "x", form["request"][:-4] + "AAAA"):
        gone = await browser.post("/logout/confirm", {"request": broken, **yes})
        assert gone.status == 400
    posted = await browser.post("/logout", {"client_id": shop.id}, is_cross_site=True)
    carried = posted.headers["location"].partition("request=")[2]
    assert (await browser.post("/logout/confirm", {"request": carried, **yes})).status == 403
    with system.clock.advanced(timedelta(minutes=31)):
        assert (await browser.post("/logout/confirm", {**form, **yes})).status == 400
    stayed = await browser.post("/logout/confirm", {**form, "decision": "stay"})
    assert (stayed.status, "location" in stayed.headers) == (200, False)
    assert await is_logged_in(shop, browser)

    await browser.know(await open_login(system, acme, user_of(acme)))
    assert is_question(await browser.post("/logout/confirm", {**form, **yes})), (
        "another login: another question"
    )
    await browser.know(login)
    ended = await browser.post("/logout/confirm", {**form, **yes})
    assert (ended.status, ended.headers["location"]) == (303, f"{GOODBYE}?state=s")
    assert not await is_logged_in(shop, browser)
    assert await is_logged_in(shop, other)


async def test_logout_ends_what_was_granted_with_the_login_and_not_what_may_outlive_it(
    system: System, acme: Tenant, shop: RelyingParty
) -> None:
    browser = Browser(system)
    await browser.know(await open_login(system, acme))
    short = (await shop.redeem(answer_of(await browser.get(shop.url(scope="openid")))["code"])).json
    code = answer_of(await browser.get(shop.url(scope="openid offline_access")))["code"]
    offline = (await shop.redeem(code)).json
    answer = await browser.get(url(id_token_hint=short["id_token"]))
    assert answer.status == 200
    assert "location" not in answer.headers
    refresh = {"grant_type": "refresh_token", "refresh_token": offline["refresh_token"]}
    assert (await shop.post("token", "/token", refresh)).status == 200
    for tokens, status in ((short, 401), (offline, 200)):
        assert (await ask(system, tokens["access_token"])).status == status


async def test_what_is_fetched_ahead_logs_nobody_out(
    system: System, acme: Tenant, shop: RelyingParty
) -> None:
    browser = Browser(system)
    await browser.know(await open_login(system, acme))
    asked = url(id_token_hint=await hint_of(shop, browser))
    assert (await browser.get(asked, sec_purpose="prefetch;prerender")).status == 503
    assert await is_logged_in(shop, browser)
    assert (await browser.get(asked)).status == 200
    assert not await is_logged_in(shop, browser)
