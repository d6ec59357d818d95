"""Login by a mailed link, in the browser and for the request that asked for it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from services.federation.tests.browser import CALLBACK, Browser, Shown, authorization
from services.federation.tests.people import PASSWORD, Person
from tests.harness import BASE_URL, Mail, System, Tenant

MAIL_LINK = "/login/mail-link"
LINK = "/login/link"
SETTINGS = {"oidc_redirect_uris": [CALLBACK], "auth_ui": {"brand_name": "Acme"}}


@pytest.fixture(scope="session")
async def acme(system: System) -> Tenant:
    """A tenant that is an app itself; no test changes it."""
    return await system.tenant(settings=SETTINGS)


@pytest.fixture
async def ada(system: System, acme: Tenant) -> Person:
    """Who logs in by mail, and has shown once that the mailbox is hers."""
    person = await Person.new(system, acme)
    [mail] = await system.mails(person.email, "verify_email")
    await person.call("verify-email", {"token": mail.token})
    return person


async def ask(browser: Browser, person: Person, **asked: str) -> Mail:
    """Go to the login page, ask for the link from there, and wait for the mail."""
    before = len(await person.system.mails(person.email, "magic_link", count=0))
    page = await browser.get(authorization(person.tenant, **asked))
    [link] = [item["href"] for item in page.document.all("a") if MAIL_LINK in str(item.get("href"))]
    mailed = await browser.submit(await browser.get(str(link)), email=person.email)
    assert (mailed.path, mailed.answer.status) == ("/login/mailed", 200)
    return (await person.system.mails(person.email, "magic_link", count=before + 1))[before]


async def open_mail(browser: Browser, mail: Mail) -> Shown:
    """Open the link of a mail."""
    assert mail.link.startswith(f"{BASE_URL}{LINK}?"), mail.link
    return await browser.get(mail.link.removeprefix(BASE_URL))


async def live(person: Person) -> int:
    """How many logins of the hosted page live."""
    return len([one for one in await person.sessions() if one["ended_at"] is None])


async def test_link_logs_in_and_goes_on_to_the_app(system: System, ada: Person) -> None:
    browser = Browser(system)
    mail = await ask(browser, ada, state="st-5")
    # A look, by a scanner or by her, uses nothing up.
    pages = [await open_mail(one, mail) for one in (browser, Browser(system), browser)]
    assert [page.answer.status for page in pages] == [200, 400, 200]
    assert await live(ada) == 0

    done = await browser.submit(pages[2])

    assert (done.answered["state"], bool(done.answered["code"])) == ("st-5", True)
    [session] = await ada.sessions()
    assert (session["amr"], session["acr"], session["tokens"]) == (["email"], "urn:authservice:acr:1fa", 0)
    assert (await browser.get(authorization(ada.tenant, prompt="none"))).answered["code"]
    # Used up: the page's request, and the link for another one.
    assert (await browser.submit(pages[2])).answer.status == 400
    later = await browser.get(authorization(ada.tenant, prompt="login"))
    again = await browser.post(LINK, {**later.fields, "token": mail.token})
    assert (again.answer.status, "This link was used before" in again.text) == (422, True)
    assert await live(ada) == 1


async def test_link_is_good_for_the_request_that_asked_only(system: System, ada: Person) -> None:
    """Login CSRF and theft: neither another browser, nor another request, nor the API takes it."""
    browser, other = Browser(system), Browser(system)
    mail = await ask(browser, ada)
    elsewhere = await open_mail(other, mail)
    assert (elsewhere.answer.status, "Not in this browser" in elsewhere.text) == (400, True)
    assert "Acme" in elsewhere.text
    assert elsewhere.document.all("form", "a") == []
    assert other.cookies == {}
    for one in (browser, other):
        page = await one.get(authorization(ada.tenant))
        refused = await one.post(LINK, {**page.fields, "token": mail.token})
        assert (refused.answer.status, "This link was used before" in refused.text) == (422, True)
    answer = await other.send("GET", f"/api/auth/magic-link/verify?token={mail.token}&token_transport=json")
    assert (answer.status, answer.code) == (400, "invalid_link")
    # Of another tenant's page, and the other way round: a link of the API is none of a page.
    tenant = await system.tenant(settings=SETTINGS)
    page = await other.get(authorization(tenant))
    assert (await other.post(LINK, {**page.fields, "token": mail.token})).answer.status == 422
    assert await live(ada) == 0

    assert (await browser.submit(await open_mail(browser, mail))).answered["code"]

    sent = await system.call(
        "identity",
        "POST",
        "/api/auth/magic-link/send",
        caller=ada.tenant.caller(),
        json={"email": ada.email},
    )
    assert sent.status == 202
    of_the_api = (await system.mails(ada.email, "magic_link", count=2))[1]
    page = await other.get(authorization(ada.tenant))
    for token in (of_the_api.token, "", "ml_" + "A" * 43, "x" * 5000):
        assert (await other.post(LINK, {**page.fields, "token": token})).answer.status == 422
    assert await live(ada) == 1


async def test_address_without_an_account_gets_the_same_answer(system: System, ada: Person) -> None:
    """W-04; the control is the mail that the other got."""
    browser = Browser(system)
    page = await browser.get(authorization(ada.tenant))
    form = await browser.get(page.url.replace("/login", MAIL_LINK))
    stranger = ada.email.replace("u-", "v-")
    seen = [await browser.submit(form, email=email) for email in (stranger, ada.email)]
    assert (seen[0].url, seen[0].text) == (seen[1].url, seen[1].text)
    [mail] = await system.mails(ada.email, "magic_link")
    await system.mail_requests_done(ada.tenant.id)
    assert await system.mails(stranger, "magic_link", count=0) == []
    refused = await browser.submit(form, email="nobody")
    assert (refused.answer.status, refused.path, refused.value["email"]) == (422, MAIL_LINK, "nobody")
    assert set(parse_qs(urlsplit(mail.link).query)) == {"request", "client_id", "token"}


async def test_second_factor_is_asked_for_all_the_same(system: System, ada: Person) -> None:
    """T-13."""
    await ada.protect()
    browser = Browser(system)
    page = await browser.submit(await open_mail(browser, await ask(browser, ada)))
    assert page.path == "/login/second-factor"
    assert await live(ada) == 0
    assert (await browser.submit(page, code=ada.code())).answered["code"]


async def test_link_logs_in_once_of_many_at_once(system: System, ada: Person) -> None:
    """X-07."""
    browser = Browser(system)
    page = await open_mail(browser, await ask(browser, ada))
    shown = await asyncio.gather(*(browser.copy().submit(page) for _ in range(20)))
    assert len([one for one in shown if one.url.startswith(CALLBACK)]) == 1
    assert {one.answer.status for one in shown if not one.url.startswith(CALLBACK)} <= {400, 422}
    assert await live(ada) == 1


async def test_late_link_and_page_without_links(system: System, ada: Person) -> None:
    browser = Browser(system)
    page = await open_mail(browser, await ask(browser, ada))
    with system.clock.advanced(timedelta(minutes=16)):
        assert (await browser.submit(page)).answer.status == 422
    assert (await browser.submit(page)).answered["code"]

    tenant = await system.tenant(settings={**SETTINGS, "auth_ui": {"methods": ["password"]}})
    person = await Person.new(system, tenant)
    page = await browser.get(authorization(tenant))
    assert MAIL_LINK not in page.text
    assert (await browser.get(page.url.replace("/login", MAIL_LINK))).path == "/login"
    assert (await browser.post(MAIL_LINK, {**page.fields, "email": person.email})).path == "/login"
    await system.mail_requests_done(tenant.id)
    assert await system.mails(person.email, "magic_link", count=0) == []
    assert (await browser.submit(page, email=person.email, password=PASSWORD)).answered["code"]
