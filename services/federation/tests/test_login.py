"""The hosted login page, as a browser without scripts sees it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.federation.tests.browser import CALLBACK, Browser, Shown, authorization
from services.federation.tests.people import PAGE, PASSWORD, Person
from tests.authenticator_app import App
from tests.harness import System, Tenant
from tests.webauthn_device import Device

SETTINGS = {"oidc_redirect_uris": [CALLBACK], "auth_ui": {"brand_name": "Acme"}}


@pytest.fixture(scope="session")
async def acme(system: System) -> Tenant:
    """A tenant that is an app itself; no test changes it."""
    return await system.tenant(settings=SETTINGS)


@pytest.fixture
async def ada(system: System, acme: Tenant) -> Person:
    """A user with a password."""
    return await Person.new(system, acme)


@pytest.fixture
def browser(system: System) -> Browser:
    """A browser that nobody has used."""
    return Browser(system)


async def log_in(browser: Browser, person: Person, page: Shown | None = None, **asked: str) -> Shown:
    """Go to the login page, unless there already, and send email and password."""
    page = page or await browser.get(authorization(person.tenant, **asked))
    assert page.path == "/login", (page.url, page.text)
    return await browser.submit(page, email=person.email, password=PASSWORD)


async def test_password_leads_to_the_app_and_logs_the_browser_in(browser: Browser, ada: Person) -> None:
    page = await browser.get(authorization(ada.tenant, ui_locales="de"))
    assert (page.path, page.answer.status) == ("/login", 200)
    assert '<html lang="de" dir="ltr">' in page.text
    assert page.answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in page.answer.headers["content-security-policy"]
    assert set(browser.cookies) == {"auth_browser"}

    done = await log_in(browser, ada, page)

    answered = done.answered
    assert set(answered) == {"code", "state", "iss"}
    [session] = await ada.sessions()
    assert (session["amr"], session["acr"], session["tokens"]) == (["pwd"], "urn:authservice:acr:1fa", 0)
    name = f"auth_issuer_{ada.tenant.id.hex[:16]}"
    issuer, path = browser.cookies[name]
    assert (issuer[:4], path) == ("iss_", "/")
    assert browser.cookies[f"auth_device_{ada.tenant.id.hex[:16]}"][1] == "/login"
    # Known by it: the next request needs no page, and says `prompt=none` or not.
    for asked in ({}, {"prompt": "none"}):
        again = await browser.get(authorization(ada.tenant, **asked))
        assert again.answered["code"] != answered["code"]
    # Another tenant does not know it.
    other = await ada.system.tenant(settings=SETTINGS)
    assert (await browser.get(authorization(other))).path == "/login"


async def test_cookies_are_for_this_host_and_no_script(browser: Browser, ada: Person) -> None:
    page = await browser.get(authorization(ada.tenant))
    form = {**page.fields, "email": ada.email, "password": PASSWORD}
    content = "&".join(f"{name}={value.replace('@', '%40')}" for name, value in form.items()).encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
    answer = await browser.send("POST", "/login", headers=headers, content=content)
    assert (answer.status, answer.body) == (303, b"")
    assert answer.headers["cache-control"] == "no-store"
    lines = answer.headers.get_list("set-cookie")
    assert len(lines) == 2
    for line in lines:
        assert "HttpOnly" in line, line
        assert "samesite=lax" in line.lower(), line
        assert "domain" not in line.lower(), line
    # Nothing secret in the URL: the handle is no use without the browser's cookie.
    assert set(parse_qs(urlsplit(answer.headers["location"]).query)) == {"request"}


async def test_unknown_address_and_wrong_password_are_one_page(browser: Browser, ada: Person) -> None:
    """W-04; and the control: the right one logs in from the same page."""
    page = await browser.get(authorization(ada.tenant))
    seen = []
    for email in (ada.email, ada.email.replace("u-", "v-")):
        refused = await browser.submit(page, email=email, password="wrong " + PASSWORD)
        assert refused.value["email"] == email
        assert PASSWORD not in refused.text
        seen.append((refused.answer.status, refused.text.replace(email, "")))
    assert seen[0] == seen[1]
    assert seen[0][0] == 422
    assert 'role="alert"' in seen[0][1]
    assert (await log_in(browser, ada, page)).answered["code"]


async def test_lockout_is_a_page_that_says_when(browser: Browser, ada: Person, acme: Tenant) -> None:
    page = await browser.get(authorization(acme))
    for _ in range(10):
        refused = await browser.submit(page, email=ada.email, password="wrong")
    assert refused.answer.status == 429
    assert int(refused.answer.headers["retry-after"]) > 0
    assert "Too many attempts" in refused.text
    locked = await browser.submit(page, email=ada.email, password=PASSWORD)
    assert locked.answer.status == 429
    assert await ada.sessions() == []
    other = await Person.new(ada.system, acme)
    assert (await log_in(browser, other, page)).answered["code"]


async def test_second_factor_by_code_or_recovery_code(browser: Browser, ada: Person) -> None:
    await ada.protect()
    page = await log_in(browser, ada)
    assert page.path == "/login/second-factor"
    assert f"auth_issuer_{ada.tenant.id.hex[:16]}" not in browser.cookies
    assert "mfa_" not in page.text + page.url
    wrong = await browser.submit(page, code=ada.wrong_code())
    assert (wrong.answer.status, wrong.path) == (422, "/login/second-factor")
    assert (await browser.submit(page, code="12")).answer.status == 422
    assert (await browser.submit(wrong, code=" ".join(ada.code()))).answered["code"]
    [session] = await ada.sessions()
    assert (session["acr"], session["tokens"]) == ("urn:authservice:acr:2fa", 0)

    fresh = Browser(ada.system)
    page = await log_in(fresh, ada)
    other = await fresh.get(f"{page.url.partition('&')[0]}&factor=recovery_code")
    assert (await fresh.submit(other, code=ada.recovery_codes[0])).answered["code"]
    page = await log_in(Browser(ada.system), ada)
    assert page.path == "/login/second-factor"


async def test_user_who_must_have_a_second_factor_sets_it_up_first(system: System) -> None:
    """And a device that is trusted then is asked for none again, where the policy says so."""
    mfa = {"mode": "required", "trusted_device_bypass": True, "remember_device_days": 7}
    tenant = await system.tenant(settings={**SETTINGS, "adaptive_security": {"mfa": mfa}})
    browser, email = Browser(system), "first@example.com"
    signup = {"email": email, "password": PASSWORD, "token_transport": "json"}
    assert (
        await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=signup)
    ).json["mfa_enrollment_required"]
    person = Person(system, tenant, email, "", "")

    page = await log_in(browser, person)
    assert (page.path, "<svg" in page.text) == ("/login/enrollment", True)
    assert f"auth_issuer_{tenant.id.hex[:16]}" not in browser.cookies
    # Back and elsewhere nothing leads around it.
    for path in ("/login/second-factor", "/authorize/resume"):
        assert (await browser.get(page.url.replace("/login/enrollment", path))).path == "/login"
    [secret] = re.findall(r'aria-label="([A-Z2-7]{32})"', page.text)
    person.app = App(person.system, secret)
    wrong = await browser.submit(page, code=person.wrong_code())
    assert (wrong.answer.status, "<svg" in wrong.text) == (422, False)
    codes = await browser.submit(page, code=person.code())
    assert codes.answer.status == 200
    recovery_codes = re.findall(r"<li>([^<]+)</li>", codes.text)
    assert len(recovery_codes) == 10
    [link] = [item["href"] for item in codes.document.all("a")]
    assert (await browser.get(str(link))).answered["code"]
    # Done is done: the page is of no use again.
    assert (await browser.submit(page, code=person.code())).answer.status == 400

    fresh = Browser(system)
    page = await log_in(fresh, person)
    assert (await fresh.submit(page, code=person.code(), remember_device="1")).answered["code"]
    for name in [name for name in fresh.cookies if name.startswith("auth_issuer_")]:
        del fresh.cookies[name]
    assert (await log_in(fresh, person)).answered["code"]
    page = await log_in(Browser(system), person)
    assert page.path == "/login/second-factor"


async def passkey(browser: Browser, page: Shown, device: Device, origin: str = PAGE, **members: Any) -> Any:
    """Do what the page's script does; returns the answer of the last call."""
    [button] = [item for item in page.document.all("button") if item.get("id") == "passkey"]
    own = {"request": button["data-request"], "form_token": button["data-token"]}
    begun = await browser.call(str(button["data-begin"]), own)
    assert begun.status == 200, begun.body
    shown = device.get(begun.json["options"], origin=origin)
    body = {**own, "session_id": begun.json["session_id"], "credential": shown, **members}
    return await browser.call(str(button["data-finish"]), body)


async def test_passkey_logs_in_or_is_the_second_factor(browser: Browser, ada: Person) -> None:
    device = Device()
    await ada.protect()
    await ada.register(device)
    page = await browser.get(authorization(ada.tenant))
    stranger = await passkey(browser, page, Device())
    assert (stranger.status, stranger.code) == (422, "invalid_passkey")
    assert "passkey was not accepted" in stranger.json["message"]
    assert (await passkey(browser, page, device, origin="https://evil.example")).status == 422
    finished = await passkey(browser, page, device)
    assert set(finished.json) == {"location"}
    assert (await browser.get(finished.json["location"])).answered["code"]
    [session] = await ada.sessions()
    assert session["acr"] == "urn:authservice:acr:2fa"

    fresh = Browser(ada.system)
    page = await log_in(fresh, ada)
    other = await fresh.get(f"{page.url.partition('&')[0]}&factor=passkey")
    finished = await passkey(fresh, other, device)
    assert (await fresh.get(finished.json["location"])).answered["code"]


async def test_passkey_is_offered_where_it_works_only(system: System, browser: Browser) -> None:
    settings = {
        **SETTINGS,
        "auth_ui": {"methods": ["passkey"]},
        "webauthn_rp_id": "example.org",
        "webauthn_rp_origin": "https://example.org",
    }
    tenant = await system.tenant(settings=settings)
    page = await browser.get(authorization(tenant))
    assert 'id="passkey"' not in page.text
    assert "There is no way to log in on this page." in page.text


async def test_login_hint_is_filled_in_and_nothing_else(browser: Browser, ada: Person) -> None:
    for hint, filled in {
        ada.email: ada.email,
        "nobody": "",
        '"><script>@': '"><script>@',
        ada.id: "",
    }.items():
        page = await browser.get(authorization(ada.tenant, login_hint=hint))
        assert page.value["email"] == filled
        assert "<script>@" not in page.text


async def test_prompt_login_asks_who_is_logged_in_already(browser: Browser, ada: Person) -> None:
    """O-28: and no second leg without it leads around it."""
    assert (await log_in(browser, ada)).answered["code"]
    for asked in ({"prompt": "login"}, {"max_age": "0"}):
        page = await browser.get(authorization(ada.tenant, **asked))
        assert page.path == "/login"
        assert "You are logged in as" in page.text
        assert page.value["email"] == ada.email
        assert 'value="continue"' not in page.text
        for url in (page.url, f"{page.url}&account=other", page.url.replace("/login", "/authorize/resume")):
            assert (await browser.get(url)).path == "/login"
        refused = await browser.post("/login", {**page.fields, "action": "continue"})
        assert refused.answer.status == 403
        before = await ada.sessions()
        with ada.system.clock.advanced(timedelta(seconds=2)):
            assert (await log_in(browser, ada, page)).answered["code"]
        assert len(await ada.sessions()) == len(before) + 1


async def test_prompt_select_account_lets_the_user_choose(browser: Browser, ada: Person) -> None:
    assert (await log_in(browser, ada)).answered["code"]
    asked = authorization(ada.tenant, prompt="select_account")
    page = await browser.get(asked)
    assert (page.path, "password" in page.value) == ("/login", False)
    done = await browser.post("/login", {**page.fields, "action": "continue"})
    assert done.answered["code"]
    assert len(await ada.sessions()) == 1
    page = await browser.get(asked)
    other = await browser.get(f"{page.url}&account=other")
    assert other.value["email"] == ""
    eve = await Person.new(ada.system, ada.tenant)
    assert (await log_in(browser, eve, other)).answered["code"]
    assert len(await eve.sessions()) == 1
    # Nobody is logged in any more: a button of an old page leads back to the login.
    page = await browser.get(asked)
    del browser.cookies[f"auth_issuer_{ada.tenant.id.hex[:16]}"]
    assert (await browser.post("/login", {**page.fields, "action": "continue"})).value["password"] == ""


async def test_app_that_demands_two_factors_gets_them_whatever_the_policy(system: System) -> None:
    """`acr_values`: the second factor of who has one is asked for, where no policy does (RFC 9470 §5)."""
    off = {"adaptive_security": {"mfa": {"mode": "off"}}}
    tenant = await system.tenant(settings={**SETTINGS, **off})
    person = await (await Person.new(system, tenant)).protect()
    browser = Browser(system)
    assert (await log_in(browser, person)).answered["code"]
    page = await browser.get(authorization(tenant, acr_values="urn:authservice:acr:2fa"))
    assert page.path == "/login"
    page = await log_in(browser, person, page)
    assert page.path == "/login/second-factor"
    assert (await browser.submit(page, code=person.code())).answered["code"]
    bare = await Person.new(system, tenant)
    done = await log_in(Browser(system), bare, acr_values="urn:authservice:acr:2fa")
    assert done.answered["error"] == "unmet_authentication_requirements"


async def test_cancel_tells_the_app_and_ends_the_request(browser: Browser, ada: Person) -> None:
    page = await browser.get(authorization(ada.tenant, state="s&1"))
    done = await browser.submit(page, action="/login/cancel", email="", password="")
    assert (done.answered["error"], done.answered["state"]) == ("access_denied", "s&1")
    gone = await browser.submit(page, email=ada.email, password=PASSWORD)
    assert gone.answer.status == 400
    assert await ada.sessions() == []


async def test_login_ends_with_its_session(browser: Browser, ada: Person) -> None:
    assert (await log_in(browser, ada)).answered["code"]
    [session] = await ada.sessions()
    answer = await ada.system.call(
        "token",
        "DELETE",
        f"/api/auth/sessions/{session['id']}",
        caller=ada.tenant.user_caller(ada.id, ada.session_id),
    )
    assert answer.status == 204
    assert (await browser.get(authorization(ada.tenant))).path == "/login"
    silent = await browser.get(authorization(ada.tenant, prompt="none"))
    assert silent.answered["error"] == "login_required"
