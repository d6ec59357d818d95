"""The hosted login page in a real browser: forms without script, passkeys with it, tokens at the end.

Needs Debian's `chromium`, which `.ci/run` installs.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyotp
import pytest
from playwright.async_api import Browser, Page

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant, eventually
from tests.e2e.test_browser_passkeys import chromium, origins, program, tab

__all__ = ["chromium", "origins", "program"]

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


class Answers(http.server.BaseHTTPRequestHandler):
    """The app at its callback; at `/frame` a page of somebody who frames what the query names, and itself."""

    def do_GET(self) -> None:
        """Answer a page."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        parts = urlsplit(self.path)
        body = "<h1>Back at the app</h1>"
        if parts.path == "/frame":
            framed = escape(dict(parse_qsl(parts.query))["url"])
            body = (
                f'<iframe name="ours" src="{framed}"></iframe><iframe name="other" src="/callback"></iframe>'
            )
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        """Write no log."""


@pytest.fixture(scope="module")
def callback() -> Iterator[str]:
    """Where the app takes its answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/callback"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Site:
    """A tenant that is an app itself, and where it takes its answers."""

    stack: Stack
    tenant: Tenant
    callback: str

    def authorization(self, **more: str) -> str:
        """Where the app sends its user."""
        asked = {
            "client_id": self.tenant.id,
            "redirect_uri": self.callback,
            "response_type": "code",
            "scope": "openid",
            "state": "st-1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **more,
        }
        return f"{self.stack.base_url}/authorize?{urlencode(asked)}"

    async def answer(self, page: Page) -> dict[str, str]:
        """What the browser brings to the app."""
        await page.wait_for_url(f"{self.callback}?*")
        return dict(parse_qsl(urlsplit(page.url).query))

    async def claims(self, page: Page) -> dict[str, Any]:
        """What the app gets for the code that the browser brings."""
        answered = await self.answer(page)
        assert (answered["state"], answered["iss"]) == ("st-1", self.stack.base_url), answered
        form = {
            "grant_type": "authorization_code",
            "code": answered["code"],
            "redirect_uri": self.callback,
            "code_verifier": VERIFIER,
        }
        url, own = f"{self.stack.gateways[0]}/token", (self.tenant.id, self.tenant.api_key)
        answer = await self.stack.http.post(url, data=form, auth=own)
        assert answer.status_code == 200, answer.text
        part = answer.json()["id_token"].split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return claims


@pytest.fixture
async def site(stack: Stack, origins: tuple[str, str], callback: str) -> Site:
    """A tenant whose passkeys are for a page of its own, and for ours."""
    settings = {
        "oidc_redirect_uris": [callback],
        "webauthn_rp_id": "localhost",
        "webauthn_rp_origin": [origins[0], stack.base_url],
        "auth_ui": {"signup": True},
    }
    return Site(stack, await stack.tenant(allowed_origins=list(origins), settings=settings), callback)


def complaints_of(page: Page) -> list[str]:
    """What the browser will complain of, a broken policy above all."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


@contextlib.asynccontextmanager
async def plain(chromium: Browser) -> AsyncIterator[Page]:
    """A browser that runs no script."""
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    try:
        yield page
    finally:
        await context.close()


async def log_in(page: Page, user: Login) -> None:
    """Fill in the first page by its labels and send it by the keyboard."""
    await page.get_by_label("Email address").fill(user.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")


async def protect(stack: Stack, user: Login) -> tuple[str, list[str]]:
    """Set up an authenticator app; its secret and the recovery codes."""
    setup = await stack.call("POST", "/api/auth/totp/setup", user, json={})
    assert setup.status_code == 200, setup.text
    secret = setup.json()["secret"]
    enabled = await stack.call("POST", "/api/auth/totp/enable", user, json={"code": pyotp.TOTP(secret).now()})
    assert enabled.status_code == 200, enabled.text
    return secret, enabled.json()["recovery_codes"]


async def test_login_when_no_script_runs_then_password_and_codes_are_enough(
    chromium: Browser, stack: Stack, site: Site
) -> None:
    user = await stack.sign_up(site.tenant)
    async with plain(chromium) as page:
        await page.goto(site.authorization())
        assert await page.locator("#email").evaluate("field => field === document.activeElement") is True
        await page.get_by_label("Email address").fill(user.email)
        await page.get_by_label("Password").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        assert "wrong" in (await page.get_by_role("alert").inner_text())
        assert await page.get_by_label("Email address").input_value() == user.email
        await log_in(page, user)
        claims = await site.claims(page)
        assert (claims["sub"], claims["amr"]) == (user.user_id, ["pwd"])
        # Logged in: no page, and then a page that asks again.
        await page.goto(site.authorization())
        again = await site.claims(page)
        assert (again["auth_time"], again["sid"]) == (claims["auth_time"], claims["sid"])
        await page.goto(site.authorization(prompt="login"))
        await log_in(page, user)
        assert (await site.claims(page))["sid"] != claims["sid"]

    secret, recovery_codes = await protect(stack, user)
    for choose, code in ((None, None), ("Use a recovery code", recovery_codes[0])):
        async with plain(chromium) as page:
            await page.goto(site.authorization())
            await log_in(page, user)
            if choose:
                await page.get_by_role("link", name=choose).click()
            label = "Recovery code" if choose else "Code"
            # The code that turned the app on is used up: of the window this is the next one.
            await page.get_by_label(label, exact=True).fill(code or pyotp.TOTP(secret).at(_next_step()))
            await page.get_by_role("button", name="Confirm").click()
            claims = await site.claims(page)
            assert claims["acr"] == "urn:authservice:acr:2fa"
            assert "mfa" in claims["amr"]


def _next_step() -> int:
    return int(time.time()) + 30


async def test_login_when_the_user_gives_up_then_the_app_is_told(chromium: Browser, site: Site) -> None:
    async with plain(chromium) as page:
        await page.goto(site.authorization())
        await page.get_by_role("button", name="Cancel").click()
        assert (await site.answer(page))["error"] == "access_denied"


async def link_of(stack: Stack, email: str, kind: str) -> str:
    """The link of a mail, when it is there."""

    async def newest() -> str | None:
        inbox = await stack.call("GET", f"/dev/mail/messages?{urlencode({'to': email})}")
        found = [mail["text"] for mail in inbox.json()["items"] if mail["kind"] == kind]
        return next((word for word in found[0].split() if "token=" in word), None) if found else None

    return await eventually(newest, within=20, what=f"mail {kind} to {email}")


async def test_account_when_made_on_the_page_then_its_mails_lead_back_to_the_app(
    chromium: Browser, stack: Stack, site: Site
) -> None:
    email, changed = f"new-{secrets.token_hex(6)}@example.org", f"changed-{PASSWORD}"
    async with plain(chromium) as page:
        complaints = complaints_of(page)
        await page.goto(site.authorization(prompt="create"))
        await page.get_by_label("Email address").fill(email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Create the account").click()
        made = await site.claims(page)

        await page.context.clear_cookies()
        await page.goto(site.authorization())
        await page.get_by_role("link", name="Forgot your password?").click()
        await page.get_by_label("Email address").fill(email)
        await page.get_by_role("button", name="Mail me the link").click()
        await page.get_by_role("heading", name="Look into your mailbox").wait_for()
        await page.goto(await link_of(stack, email, "reset_password"))
        await page.get_by_label("New password").fill(changed)
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Your password is changed.").wait_for()
        await page.get_by_label("Email address").fill(email)
        await page.get_by_label("Password").fill(changed)
        await page.keyboard.press("Enter")
        reset = await site.claims(page)

        await page.context.clear_cookies()
        await page.goto(site.authorization())
        await page.get_by_role("link", name="Log in by email").click()
        await page.get_by_label("Email address").fill(email)
        await page.get_by_role("button", name="Mail me the link").click()
        await page.get_by_role("heading", name="Look into your mailbox").wait_for()
        await page.goto(await link_of(stack, email, "magic_link"))
        await page.get_by_role("button", name="Log in").click()
        linked = await site.claims(page)
    assert {claims["sub"] for claims in (made, reset, linked)} == {made["sub"]}
    assert [claims["amr"] for claims in (made, reset, linked)] == [["pwd"], ["pwd"], ["email"]]
    assert complaints == []


async def test_passkey_when_shown_on_the_page_then_logs_in_or_completes_a_login(
    chromium: Browser, stack: Stack, site: Site, origins: tuple[str, str]
) -> None:
    user = await stack.sign_up(site.tenant)
    async with tab(chromium, stack, site.tenant, origins[0]) as it:
        assert (await it.register(user))["status"] == 201
        page = it.page
        complaints = complaints_of(page)

        await page.goto(site.authorization())
        await page.get_by_role("button", name="Log in with a passkey").click()
        claims = await site.claims(page)

        assert (claims["sub"], claims["acr"]) == (user.user_id, "urn:authservice:acr:2fa")
        assert "hwk" in claims["amr"] or "swk" in claims["amr"] or "user" in claims["amr"]
        assert complaints == []
        # As the second factor, of a client that demands one.
        settings = {"settings": {"adaptive_security": {"mfa": {"mode": "required"}}}}
        changed = await stack.call(
            "PATCH", f"/api/admin/clients/{site.tenant.id}", stack.admin, json=settings
        )
        assert changed.status_code == 200, changed.text
        await page.context.clear_cookies()
        await page.goto(site.authorization())
        await log_in(page, user)
        await page.get_by_role("button", name="Use the passkey").click()
        assert (await site.claims(page))["acr"] == "urn:authservice:acr:2fa"
        # An authenticator that knows nobody: the page says so, in its own words.
        await it.cdp.send("WebAuthn.clearCredentials", {"authenticatorId": it.authenticator})
        await page.context.clear_cookies()
        await page.goto(site.authorization(ui_locales="de"))
        assert await page.locator("html").get_attribute("lang") == "de"
        await page.get_by_role("button", name="Mit einem Passkey anmelden").click()
        await page.get_by_text("Der Passkey wurde nicht angenommen").wait_for()
        assert complaints == []


async def test_page_when_framed_then_shows_nothing(chromium: Browser, site: Site) -> None:
    """O-32: clickjacking; the control is the same page at the top, and another page in the same frame."""
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(site.authorization())
    assert await page.get_by_label("Password").count() == 1
    for url in (site.authorization(), page.url):
        await page.goto(site.callback.replace("/callback", f"/frame?{urlencode({'url': url})}"))
        await page.frame_locator("[name=other]").get_by_role("heading").wait_for()
        ours = page.frame(name="ours")
        assert ours is not None
        await ours.wait_for_url("chrome-error://**")
        assert await ours.get_by_label("Password").count() == 0
    await context.close()
