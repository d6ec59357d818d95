"""An account made on the page, from the app and back to it."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from services.federation.tests.browser import CALLBACK, Browser, Shown, authorization
from services.federation.tests.people import PASSWORD, Person
from services.federation.tests.test_login_captcha import demanding
from tests.fake_http import fake_http
from tests.harness import System, Tenant

SIGN_UP = "/login/sign-up"
SETTINGS = {"oidc_redirect_uris": [CALLBACK], "auth_ui": {"brand_name": "Acme", "signup": True}}


@pytest.fixture(scope="session")
async def acme(system: System) -> Tenant:
    """A tenant that is an app itself, and lets whoever comes make an account; no test changes it."""
    return await system.tenant(settings=SETTINGS)


def new_address() -> str:
    """An address that nobody has."""
    return f"u-{secrets.token_hex(6)}@example.com"


async def users_of(system: System, email: str) -> list[dict[str, Any]]:
    """The users with an address."""
    rows = await system.sql(
        "identity", "SELECT id, email, display_name, role, email_verified FROM users WHERE email = $1", email
    )
    return [dict(row) for row in rows]


async def page_of(browser: Browser, tenant: Tenant, **asked: str) -> Shown:
    """Go to the page, by the link of the login page."""
    page = await browser.get(authorization(tenant, **asked))
    [link] = [item["href"] for item in page.document.all("a") if SIGN_UP in str(item.get("href"))]
    return await browser.get(str(link))


async def test_new_account_leads_to_the_app_and_logs_the_browser_in(system: System, acme: Tenant) -> None:
    browser, email = Browser(system), new_address()
    page = await page_of(browser, acme, state="st-3")
    assert (page.path, page.answer.status) == (SIGN_UP, 200)
    assert "At least <bdi>8</bdi> characters." in page.text
    # W-10: what a page never asks for counts for nothing.
    extra = {"role": "admin", "email_verified": "true", "client_id": "x", "is_admin": "1"}
    done = await browser.submit(page, email=email, password=PASSWORD, display_name=" Ada ", **extra)
    assert (done.answered["state"], bool(done.answered["code"])) == ("st-3", True)
    [user] = await users_of(system, email)
    assert (user["display_name"], user["role"], user["email_verified"]) == ("Ada", "user", False)
    [session] = await Person(system, acme, email, str(user["id"]), str(acme.id)).sessions()
    assert (session["amr"], session["acr"], session["tokens"]) == (["pwd"], "urn:authservice:acr:1fa", 0)
    assert len(await system.mails(email, "verify_email")) == 1
    assert (await browser.get(authorization(acme, prompt="none"))).answered["code"]
    # Used up: neither form nor page opens anything more.
    assert (await browser.submit(page, email=new_address(), password=PASSWORD)).answer.status == 400
    event = await system.event("user_created", client_id=acme.id, method="password")
    assert event.target_id


async def test_what_cannot_be_is_the_page_again(system: System, acme: Tenant) -> None:
    """The rules are those of `POST /api/auth/signup`; the control is the last one."""
    ada, browser = await Person.new(system, acme), Browser(system)
    page = await page_of(browser, acme, ui_locales="de")
    email = new_address()
    for typed, told in (
        ({"email": ada.email.upper(), "password": PASSWORD}, "gibt es schon ein Konto"),
        ({"email": "nobody", "password": PASSWORD}, "keine E-Mail-Adresse"),
        ({"email": f"{secrets.token_hex(4)}@mailinator.com", "password": PASSWORD}, "Nehmen Sie eine andere"),
        ({"email": email, "password": "short"}, "Mindestens <bdi>8</bdi> Zeichen."),
        ({"email": email, "password": "Password123"}, "leicht zu erraten"),
        ({"email": email, "password": f"{email.partition('@')[0]}-77"}, "weder Ihren Namen"),
        ({"email": email, "password": ""}, "leicht zu erraten"),
        ({"email": email, "password": PASSWORD, "display_name": "a\nb"}, "Ihre Eingaben"),
        ({"email": email, "password": PASSWORD, "display_name": "a" * 201}, "Ihre Eingaben"),
        ({"email": email, "password": "p" * 1025}, "Ihre Eingaben"),
    ):
        refused = await browser.submit(page, **{"display_name": "<i>Ada", **typed})
        assert (refused.answer.status, refused.path, told in refused.text) == (422, SIGN_UP, True), typed
        assert refused.value["email"] == typed["email"]
        assert refused.value["password"] == ""
        assert "<i>" not in refused.text
    assert await users_of(system, email) == []
    assert (await browser.submit(page, email=email, password=PASSWORD)).answered["code"]


async def test_tenant_that_has_not_said_so_takes_no_sign_ups(system: System) -> None:
    """Neither by a link, nor by `prompt=create`, nor by a form that somebody writes."""
    off = {"signup": False}
    for chosen in ({}, off, {"signup": "true"}, {"signup": 1}, {"signup": True, "methods": ["passkey"]}):
        tenant = await system.tenant(settings={**SETTINGS, "auth_ui": chosen})
        browser, email = Browser(system), new_address()
        page = await browser.get(authorization(tenant, prompt="create"))
        assert (page.path, SIGN_UP in page.text) == ("/login", False), chosen
        forced = await browser.post(SIGN_UP, {**page.fields, "email": email, "password": PASSWORD})
        assert forced.path == "/login"
        assert await users_of(system, email) == []


async def test_prompt_create_opens_the_page(system: System, acme: Tenant) -> None:
    """Initiating User Registration via OpenID Connect 1.0; who has an account logs in all the same."""
    browser, email = Browser(system), new_address()
    page = await browser.get(authorization(acme, prompt="create", login_hint=email))
    assert (page.path, page.value["email"]) == (SIGN_UP, email)
    assert (await browser.submit(page, password=PASSWORD, email=email)).answered["code"]
    # Who is logged in gets the page too, and may go on as who it is.
    page = await browser.get(authorization(acme, prompt="create"))
    assert page.path == SIGN_UP
    assert (await browser.get(page.url.replace(SIGN_UP, "/authorize/resume"))).path == SIGN_UP
    login = await browser.get(page.url.replace(SIGN_UP, "/login"))
    done = await browser.post("/login", {**login.fields, "action": "continue"})
    assert done.answered["code"]
    again = await browser.submit(
        await browser.get(authorization(acme, prompt="create")), email=new_address(), password=PASSWORD
    )
    assert again.answered["code"]
    fresh = Browser(system)
    login = await fresh.get(
        (await fresh.get(authorization(acme, prompt="create"))).url.replace(SIGN_UP, "/login")
    )
    assert (await fresh.submit(login, email=email, password=PASSWORD)).answered["code"]


async def test_new_user_whom_the_policy_asks_for_a_second_factor_sets_it_up_first(system: System) -> None:
    mfa = {"adaptive_security": {"mfa": {"mode": "required"}}}
    tenant = await system.tenant(settings={**SETTINGS, **mfa})
    browser = Browser(system)
    page = await browser.submit(await page_of(browser, tenant), email=new_address(), password=PASSWORD)
    assert (page.path, "<svg" in page.text) == ("/login/enrollment", True)
    assert f"auth_issuer_{tenant.id.hex[:16]}" not in browser.cookies
    assert (await browser.get(page.url.replace("/login/enrollment", "/authorize/resume"))).path == "/login"


async def test_other_browser_makes_no_account_for_the_page_of_another(system: System, acme: Tenant) -> None:
    """Login CSRF: an attacker's page is good in the attacker's browser only."""
    evil, victim, email = Browser(system), Browser(system), new_address()
    page = await page_of(evil, acme)
    assert (await victim.get(page.url)).answer.status == 400
    assert (await victim.submit(page, email=email, password=PASSWORD)).answer.status == 400
    assert (victim.cookies, await users_of(system, email)) == ({}, [])
    assert (await evil.submit(page, email=email, password=PASSWORD)).answered["code"]


async def test_many_at_once_make_one_account_and_one_answer(system: System, acme: Tenant) -> None:
    """X-01."""
    browser, email = Browser(system), new_address()
    page = await page_of(browser, acme)
    sent = [browser.copy().submit(page, email=email, password=PASSWORD) for _ in range(20)]
    shown = await asyncio.gather(*sent)
    done = [one for one in shown if one.url.startswith(CALLBACK)]
    assert len(done) == 1
    assert {one.answer.status for one in shown if one not in done} <= {400, 422, 503}
    [user] = await users_of(system, email)
    assert len(await Person(system, acme, email, str(user["id"]), str(acme.id)).sessions()) == 1


async def test_captcha_of_sign_ups_is_shown_or_none_are_taken(system: System, acme: Tenant) -> None:
    browser = Browser(system)
    async with fake_http() as verifier:
        rules = {
            "captcha_provider": "turnstile",
            "captcha_site_key": "site-key-1",
            "captcha_secret": SecretStr("secret-of-the-verifier"),
            "captcha_signup_required": True,
            "captcha_verify_url": verifier.url,
            "captcha_timeout": timedelta(seconds=2),
        }
        async with demanding(system, **rules):
            login = await browser.get(authorization(acme))
            assert "data-sitekey" not in login.text
            page = await page_of(browser, acme)
            [widget] = [item for item in page.document.all("div") if "data-sitekey" in item]
            assert (widget["class"], widget["data-sitekey"]) == ("captcha cf-turnstile", "site-key-1")
            assert "challenges.cloudflare.com" in page.answer.headers["content-security-policy"]
            typed = {"email": new_address(), "password": PASSWORD}
            missing = await browser.submit(page, **typed)
            verifier.answer = {"success": True, "hostname": "localhost"}
            solved = await browser.submit(page, **typed, **{"cf-turnstile-response": "solved"})
        for cannot_show in ({"captcha_site_key": None}, {"captcha_provider": None}):
            async with demanding(system, **{**rules, **cannot_show}):
                fresh = Browser(system)
                page = await fresh.get(authorization(acme, prompt="create"))
                assert (page.path, SIGN_UP in page.text) == ("/login", False), cannot_show
    assert (missing.answer.status, "not a robot" in missing.text) == (422, True)
    assert solved.answered["code"]
    assert [asked.form["response"] for asked in verifier.asked] == ["solved"]
