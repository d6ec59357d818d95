"""Attacks on the hosted login page, each beside the honest request that succeeds (O-28, O-29, O-32, O-37)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from services.federation.tests.browser import CALLBACK, Browser, Shown, authorization
from services.federation.tests.people import PASSWORD, Person
from tests.harness import System, Tenant


@pytest.fixture(scope="session")
async def target(system: System) -> Tenant:
    """A tenant that is an app itself; no test changes it."""
    return await system.tenant(settings={"oidc_redirect_uris": [CALLBACK], "auth_ui": {"signup": True}})


@pytest.fixture
async def ada(system: System, target: Tenant) -> Person:
    """The victim."""
    return await Person.new(system, target)


def credentials(person: Person) -> dict[str, str]:
    """What the user types."""
    return {"email": person.email, "password": PASSWORD}


async def token_of_a_link(browser: Browser, person: Person, form: dict[str, str]) -> str:
    """The token of a link to log in by that a page asked for."""
    await browser.post("/login/mail-link", form)
    [mail] = await person.system.mails(person.email, "magic_link")
    return mail.token


def issuer_cookie(tenant: Tenant) -> str:
    """The name of the cookie by which a browser is logged in."""
    return f"auth_issuer_{tenant.id.hex[:16]}"


Mutation = Callable[[dict[str, str], dict[str, str]], tuple[dict[str, str], dict[str, str]]]

FORGED: dict[str, tuple[Mutation, int]] = {
    "no token": (lambda form, headers: ({**form, "form_token": ""}, headers), 403),
    "an invented token": (lambda form, headers: ({**form, "form_token": "ft_" + "A" * 43}, headers), 403),
    "a token in other letters": (
        lambda form, headers: ({**form, "form_token": "\N{GRINNING FACE}"}, headers),
        403,
    ),
    "another site": (lambda form, headers: (form, {**headers, "sec-fetch-site": "cross-site"}), 403),
    "a neighbouring site": (lambda form, headers: (form, {**headers, "sec-fetch-site": "same-site"}), 403),
    "no handle": (lambda form, headers: ({**form, "request": ""}, headers), 400),
    "an invented handle": (lambda form, headers: ({**form, "request": "authz_" + "A" * 43}, headers), 400),
    "a handle of another kind": (
        lambda form, headers: ({**form, "request": "mfa_" + "A" * 43}, headers),
        400,
    ),
    "an endless handle": (lambda form, headers: ({**form, "request": "authz_" + "A" * 5000}, headers), 400),
}


@pytest.mark.parametrize(
    "path",
    [
        "/login",
        "/login/second-factor",
        "/login/cancel",
        "/login/forgot-password",
        "/login/sign-up",
        "/login/mail-link",
        "/login/link",
    ],
)
async def test_forged_forms_do_nothing(ada: Person, path: str) -> None:
    """O-32 at its siblings: CSRF against each form, and each call of the script."""
    await ada.protect()
    browser = Browser(ada.system)
    page = await browser.get(authorization(ada.tenant))
    if path == "/login/second-factor":
        page = await browser.submit(page, **credentials(ada))
        form = {**page.fields, "code": ada.code()}
    else:
        form = {**page.fields, **credentials(ada)}
        if path == "/login/sign-up":
            form["email"] = f"new-{ada.email}"
        if path == "/login/link":
            form["token"] = await token_of_a_link(browser, ada, form)
    for name, (mutate, status) in FORGED.items():
        forged, headers = mutate(form, {"sec-fetch-site": "same-origin"})
        refused = await browser.post(path, forged, headers)
        assert (refused.answer.status, refused.path) == (status, path), name
        assert "<form" not in refused.text
        assert "text/html" in refused.answer.headers["content-type"]
    # Of another request of the same browser.
    other = await browser.get(authorization(ada.tenant))
    mixed = {**form, "form_token": other.fields["form_token"]}
    assert (await browser.post(path, mixed)).answer.status == 403
    # In a browser that has not the cookie, or another's.
    for stranger in (Browser(ada.system), Browser(ada.system, cookies={"auth_browser": ("A" * 43, "/")})):
        assert (await stranger.post(path, form)).answer.status == 400
    assert await ada.sessions() == []

    honest = await browser.post(path, form)

    leads_to = {
        "/login": "/login/second-factor",
        "/login/forgot-password": "/login/mailed",
        "/login/mail-link": "/login/mailed",
    }
    if path in leads_to:
        assert honest.path == leads_to[path]
    else:
        # A link too: the first proof of her mailbox voids what was set up without one.
        assert set(honest.answered) & {"code", "error"}


def test_whatever_checks_a_credential_is_counted_over_all_gateways() -> None:
    """Rate limits: the class of logins for each form and call that a guess could be in, by address."""
    contract = json.loads((Path(__file__).parents[3] / "gateway" / "openapi.json").read_text())
    limits = {
        path: contract["paths"][path]["post"]["x-limit"]
        for path in (
            "/login",
            "/login/second-factor",
            "/login/enrollment",
            "/login/passkey/finish",
            "/login/link",
        )
    }
    assert set(limits.values()) == {"login"}
    for path, limit in {
        "/login/sign-up": "signup",
        "/login/forgot-password": "sensitive",
        "/login/mail-link": "sensitive",
    }.items():
        assert contract["paths"][path]["post"]["x-limit"] == limit


@pytest.mark.parametrize("path", ["/login/passkey/begin", "/login/second-factor/passkey/begin"])
async def test_forged_calls_do_nothing(ada: Person, path: str) -> None:
    browser = Browser(ada.system)
    await ada.protect()
    page = await browser.get(authorization(ada.tenant))
    await browser.submit(page, **credentials(ada))
    good = {"request": page.fields["request"], "form_token": page.fields["form_token"]}
    for body, headers, status in (
        ({**good, "form_token": "ft_x"}, {}, 403),
        ({**good, "request": "authz_x"}, {}, 400),
        (good, {"sec-fetch-site": "cross-site"}, 403),
    ):
        assert (await browser.call(path, body, headers)).status == status
    assert (await Browser(ada.system).call(path, good)).status == 400
    assert (await browser.call(path, good)).status == 200


async def test_attackers_request_cannot_be_used_in_another_browser(ada: Person, target: Tenant) -> None:
    """Login CSRF: whoever follows a link to somebody else's page is told so, and stays who it was."""
    eve = await Person.new(ada.system, target)
    evil, victim = Browser(ada.system), Browser(ada.system)
    page = await evil.get(authorization(target))
    assert (await victim.get(page.url)).answer.status == 400
    done = await evil.submit(page, **credentials(eve))
    assert done.answered["code"]
    assert (await victim.get(page.url.replace("/login", "/authorize/resume"))).answer.status == 400
    assert issuer_cookie(target) not in victim.cookies


async def test_login_gives_the_browser_a_cookie_that_nobody_knew(ada: Person, target: Tenant) -> None:
    """Session fixation: neither a planted login nor a planted browser is taken over by a login."""
    eve = await Person.new(ada.system, target)
    evil = Browser(ada.system)
    page = await evil.get(authorization(target))
    assert (await evil.submit(page, **credentials(eve))).answered["code"]
    planted = evil.cookies[issuer_cookie(target)]
    # The victim's browser has the attacker's cookies, and logs in from a page that the attacker began.
    page = await evil.get(authorization(target, prompt="login"))
    victim = evil.copy()
    shown = await victim.get(page.url)
    done = await victim.submit(shown, **credentials(ada))
    assert done.answered["code"]
    assert victim.cookies[issuer_cookie(target)] != planted
    # What the attacker has is none of it: no login, and no way to the victim's answer.
    for url in (page.url, page.url.replace("/login", "/authorize/resume")):
        assert (await evil.get(url)).answer.status == 400
    silent = await evil.get(authorization(target, prompt="none", id_token_hint=""))
    assert silent.answered["error"] == "login_required" or silent.answered["code"]
    rows = await ada.system.sql(
        "federation",
        "SELECT user_id FROM issuer_sessions WHERE client_id = $1 AND user_id = $2",
        target.id,
        ada.id,
    )
    assert len(rows) == 1


async def test_attacker_with_the_browsers_cookie_cannot_take_the_login_over(
    ada: Person, target: Tenant
) -> None:
    """Between the login and its answer only the browser that logged in goes on."""
    browser = Browser(ada.system)
    page = await browser.get(authorization(target))
    evil = browser.copy()
    content = "&".join(
        f"{name}={value.replace('@', '%40').replace(' ', '+')}"
        for name, value in {**page.fields, **credentials(ada)}.items()
    )
    headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
    answer = await browser.send("POST", "/login", headers=headers, content=content.encode())
    assert answer.status == 303
    resume = answer.headers["location"]
    taken = await evil.get(resume)
    assert taken.path == "/login", taken.url
    assert (await browser.get(resume)).answered["code"]


async def test_going_back_between_the_factors_resets_nothing(ada: Person, target: Tenant) -> None:
    """O-29: the request is what it was, and the second factor is asked for."""
    await ada.protect()
    browser = Browser(ada.system)
    asked = authorization(target, state="st-9", acr_values="urn:authservice:acr:2fa")
    first = await browser.get(asked)
    second = await browser.submit(first, **credentials(ada))
    assert second.path == "/login/second-factor"
    # Back, forward, reload, and straight on: no page skips the factor, and none changes the request.
    handle = f"request={first.fields['request']}"
    for url in (
        f"/login?{handle}",
        f"/login/second-factor?{handle}",
        f"/login/second-factor?{handle}&factor=none",
        f"/login?{handle}&response_type=token&redirect_uri=https://evil.example",
    ):
        shown = await browser.get(url)
        assert shown.path == url.partition("?")[0]
        assert shown.fields["request"] == first.fields["request"]
    for url in (f"/authorize/resume?{handle}", f"/consent?{handle}"):
        assert (await browser.get(url)).path == "/login"
    assert await ada.sessions() == []
    # Somebody else's password, from the page before: the factor is then that user's.
    eve = await Person.new(ada.system, target)
    again = await browser.submit(first, email=eve.email, password="wrong")
    assert again.answer.status == 422
    done = await browser.submit(second, code=ada.code())
    assert done.answered["state"] == "st-9"
    assert done.answered["code"]
    # Done is done: neither page opens anything more.
    assert (await browser.submit(first, **credentials(ada))).answer.status == 400
    assert (await browser.submit(second, code=ada.code())).answer.status == 400
    assert len(await ada.sessions()) == 1


async def test_second_factor_without_a_first_leads_back(ada: Person, target: Tenant) -> None:
    await ada.protect()
    browser = Browser(ada.system)
    page = await browser.get(authorization(target))
    back = await browser.get(page.url.replace("/login", "/login/second-factor"))
    assert (back.path, "took too long" in back.text) == ("/login", True)
    form = {**page.fields, "factor": "totp", "code": ada.code()}
    assert (await browser.post("/login/second-factor", form)).path == "/login"
    # Five wrong codes end the login, and the page says so.
    page = await browser.submit(page, **credentials(ada))
    wrong = ada.wrong_code()
    for _ in range(5):
        assert (await browser.submit(page, code=wrong)).path == "/login/second-factor"
    ended = await browser.submit(page, code=ada.code())
    assert (ended.path, "took too long" in ended.text) == ("/login", True)
    assert await ada.sessions() == []


async def test_parameters_lead_nowhere(system: System, target: Tenant) -> None:
    """O-37: the page goes on to where the request said when it was checked, whatever its URL says."""
    browser = Browser(system)
    page = await browser.get(authorization(target))
    for value in (
        "//evil.example",
        r"\\evil.example",
        "https://app.example.com.evil.example",
        "data:text/html,x",
        "javascript:x",
    ):
        for name in ("redirect_url", "redirect_uri", "next", "return_to", "account", "fault"):
            shown = await browser.get(f"{page.url}&{name}={quote(value)}")
            assert "location" not in shown.answer.headers
            assert "evil" not in shown.text
            assert shown.action == "/login"
        shown = await browser.get(f"/login?request={quote(value)}")
        assert (shown.answer.status, "evil" in shown.text) == (400, False)
    assert (await browser.get("/login")).answer.status == 400


async def test_one_waiting_login_gives_one_session(ada: Person, target: Tenant) -> None:
    """The second leg as often as it may be tried, at once."""
    await ada.protect()
    browser = Browser(ada.system)
    page = await browser.submit(await browser.get(authorization(target)), **credentials(ada))
    code = ada.code()

    async def send() -> Shown:
        return await browser.copy().submit(page, code=code)

    shown = await asyncio.gather(*(send() for _ in range(5)))

    codes = [one for one in shown if one.url.startswith(CALLBACK) and "code" in one.answered]
    assert len(codes) == 1
    assert len([one for one in await ada.sessions() if one["ended_at"] is None]) == 1


async def test_login_that_came_too_late_leaves_no_session(ada: Person, target: Tenant) -> None:
    """The request was answered meanwhile: the session that was opened for it is ended."""
    browser = Browser(ada.system)
    page = await browser.get(authorization(target))
    sent = [browser.copy().submit(page, **credentials(ada)) for _ in range(4)]
    shown: list[Any] = await asyncio.gather(*sent)
    assert len([one for one in shown if one.url.startswith(CALLBACK)]) >= 1
    for one in shown:
        assert one.url.startswith(CALLBACK) or one.answer.status in (200, 400), (one.url, one.text)


async def test_without_redis_the_page_says_so(ada: Person, target: Tenant) -> None:
    """F-02: what Redis lost is gone, and nothing that was used comes back."""
    browser = Browser(ada.system)
    page = await browser.get(authorization(target))
    await ada.system.redis_flush()
    lost = await browser.submit(page, **credentials(ada))
    assert (lost.answer.status, "too old" in lost.text) == (400, True)
    assert (await browser.submit(await browser.get(authorization(target)), **credentials(ada))).answered[
        "code"
    ]
