"""A forgotten password, from the login page to the mail and back to the app."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from services.federation.tests.browser import CALLBACK, Browser, Shown, authorization
from services.federation.tests.people import PASSWORD, Person
from tests.harness import BASE_URL, System, Tenant

NEW = "quiet-orchard-59-bridges"
FORGOT = "/login/forgot-password"
SETTINGS = {"oidc_redirect_uris": [CALLBACK], "auth_ui": {"brand_name": "Acme"}}


@pytest.fixture(scope="session")
async def acme(system: System) -> Tenant:
    """A tenant that is an app itself; no test changes it."""
    return await system.tenant(settings=SETTINGS)


@pytest.fixture
async def ada(system: System, acme: Tenant) -> Person:
    """Who has forgotten the password."""
    return await Person.new(system, acme)


async def ask(browser: Browser, person: Person, **asked: str) -> Shown:
    """Go to the login page and from there ask for the link."""
    page = await browser.get(authorization(person.tenant, **asked))
    [link] = [item["href"] for item in page.document.all("a") if FORGOT in str(item.get("href"))]
    return await browser.submit(await browser.get(str(link)), email=person.email)


async def open_mail(browser: Browser, person: Person, *, after: int = 0) -> Shown:
    """Open the link of the mail."""
    mail = (await person.system.mails(person.email, "reset_password", count=after + 1))[after]
    assert mail.link.startswith(f"{BASE_URL}/api/auth/reset-password?token="), mail.link
    return await browser.get(mail.link.removeprefix(BASE_URL))


async def test_reset_leads_back_to_the_app_that_asked(system: System, ada: Person) -> None:
    browser = Browser(system)
    mailed = await ask(browser, ada, state="st-7")
    assert (mailed.path, mailed.answer.status) == ("/login/mailed", 200)
    assert "no-store" in mailed.answer.headers["cache-control"]
    assert "request=" not in (await system.mails(ada.email, "reset_password"))[0].text

    form = await open_mail(browser, ada)
    weak = await browser.submit(form, password="short")
    assert weak.answer.status == 422
    page = await browser.submit(form, password=NEW)

    assert (page.path, "Your password is changed." in page.text) == ("/login", True)
    old = await browser.submit(page, email=ada.email, password=PASSWORD)
    assert old.answer.status == 422
    done = await browser.submit(page, email=ada.email, password=NEW)
    assert (done.answered["state"], bool(done.answered["code"])) == ("st-7", True)
    # The link is used up, and so is the request.
    assert (await browser.submit(form, password="another-" + NEW)).answer.status == 400
    assert (await browser.get(page.url)).answer.status == 400


async def test_address_without_an_account_gets_the_same_answer(system: System, ada: Person) -> None:
    """W-04; the control is the mail that the other got."""
    browser = Browser(system)
    page = await browser.get(authorization(ada.tenant, login_hint=ada.email))
    form = await browser.get(page.url.replace("/login", FORGOT))
    assert form.value["email"] == ada.email
    stranger = ada.email.replace("u-", "v-")
    seen = [await browser.submit(form, email=email) for email in (stranger, ada.email)]
    assert (seen[0].url, seen[0].text) == (seen[1].url, seen[1].text)
    assert len(await system.mails(ada.email, "reset_password")) == 1
    await system.mail_requests_done(ada.tenant.id)
    assert await system.mails(stranger, "reset_password", count=0) == []
    for typed in ("nobody", "", "a@b@c", "x" * 400 + "@example.com"):
        refused = await browser.submit(form, email=typed)
        assert (refused.answer.status, refused.path) == (422, FORGOT)
        assert "This is not an email address." in refused.text
        assert refused.value["email"] == typed


async def test_link_that_another_browser_opens_changes_the_password_and_logs_nobody_in(
    system: System, ada: Person
) -> None:
    """Who began the page, and asked for somebody else's mail, gets nothing by it."""
    evil, victim = Browser(system), Browser(system)
    await ask(evil, ada)
    page = await victim.submit(await open_mail(victim, ada), password=NEW)
    assert (page.path, page.answer.status) == ("/login/password-changed", 200)
    assert "Your password is changed" in page.text
    assert "Acme" in page.text
    assert page.document.all("form", "a") == []
    assert victim.cookies == {}
    waiting = await evil.get(page.url)
    assert waiting.path == "/login"
    assert (await evil.submit(waiting, email=ada.email, password=PASSWORD)).answer.status == 422
    assert await ada.sessions() == []
    own = await victim.get(authorization(ada.tenant))
    assert (await victim.submit(own, email=ada.email, password=NEW)).answered["code"]


async def test_way_back_leads_to_our_own_pages_only(system: System, acme: Tenant) -> None:
    """O-37; the control is the way back to the page that waits."""
    browser = Browser(system)
    page = await browser.get(authorization(acme))
    for value in ("//evil.example", "https://evil.example", "authz_x", "", "javascript:x", "a" * 500):
        for name in ("request", "client_id"):
            lost = await browser.get(f"/login/password-changed?{name}={quote(value)}")
            assert "location" not in lost.answer.headers
            assert "evil" not in lost.text
    back = await browser.get(page.url.replace("/login", "/login/password-changed"))
    assert back.fields["request"] == page.fields["request"]
    told = await browser.get(f"{page.url}&notice=evil")
    assert 'role="status"' not in told.text


async def test_link_is_good_once_of_many_at_once(system: System, ada: Person) -> None:
    browser = Browser(system)
    await ask(browser, ada)
    form = await open_mail(browser, ada)
    shown = await asyncio.gather(*(browser.copy().submit(form, password=f"{n}-{NEW}") for n in range(20)))
    assert sorted(one.answer.status for one in shown) == [200] + [400] * 19


async def test_page_of_a_tenant_without_passwords_offers_none(system: System) -> None:
    tenant = await system.tenant(settings={**SETTINGS, "auth_ui": {"methods": ["passkey"]}})
    person, browser = await Person.new(system, tenant), Browser(system)
    page = await browser.get(authorization(tenant))
    assert FORGOT not in page.text
    assert (await browser.get(page.url.replace("/login", FORGOT))).path == "/login"
    forced = await browser.post(FORGOT, {**page.fields, "email": person.email})
    assert forced.path == "/login"
    await system.mail_requests_done(tenant.id)
    assert await system.mails(person.email, "reset_password", count=0) == []
