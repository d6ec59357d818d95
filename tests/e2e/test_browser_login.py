"""The hosted login page in a real browser: forms without script, passkeys with it, tokens at the end.

Needs Debian's `chromium`, which `.ci/run` installs.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyotp
import pytest
from playwright.async_api import Browser, Page, Route

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant
from tests.e2e.test_browser_passkeys import chromium, origins, program, tab

__all__ = ["chromium", "origins", "program"]

CALLBACK = "https://app.example.com/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest.fixture
async def acme(stack: Stack, origins: tuple[str, str]) -> Tenant:
    """A tenant that is an app itself; its passkeys are for a page of its own, and for ours."""
    settings = {
        "oidc_redirect_uris": [CALLBACK],
        "webauthn_rp_id": "localhost",
        "webauthn_rp_origin": [origins[0], stack.base_url],
    }
    return await stack.tenant(allowed_origins=list(origins), settings=settings)


def authorization(stack: Stack, tenant: Tenant, **more: str) -> str:
    """Where the app sends its user."""
    asked = {
        "client_id": tenant.id,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid",
        "state": "st-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **more,
    }
    return f"{stack.base_url}/authorize?{urlencode(asked)}"


async def watch(page: Page) -> list[str]:
    """Play the app at its callback, and note what the browser complains of, a broken policy above all."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<title>app</title><h1>Back</h1>")

    await page.route("https://app.example.com/**", answer)
    return complaints


@contextlib.asynccontextmanager
async def plain(chromium: Browser) -> AsyncIterator[Page]:
    """A browser that runs no script."""
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await watch(page)
    try:
        yield page
    finally:
        await context.close()


async def log_in(page: Page, user: Login) -> None:
    """Fill in the first page by its labels and send it by the keyboard."""
    await page.get_by_label("Email address").fill(user.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")


async def redeem(stack: Stack, tenant: Tenant, page: Page) -> dict[str, Any]:
    """What the app at the end gets for its code."""
    await page.wait_for_url(f"{CALLBACK}?*")
    answered = dict(parse_qsl(urlsplit(page.url).query))
    assert (answered["state"], answered["iss"]) == ("st-1", stack.base_url), answered
    form = {
        "grant_type": "authorization_code",
        "code": answered["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    answer = await stack.http.post(f"{stack.gateways[0]}/token", data=form, auth=(tenant.id, tenant.api_key))
    assert answer.status_code == 200, answer.text
    part = answer.json()["id_token"].split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def protect(stack: Stack, user: Login) -> tuple[str, list[str]]:
    """Set up an authenticator app; its secret and the recovery codes."""
    setup = await stack.call("POST", "/api/auth/totp/setup", user, json={})
    assert setup.status_code == 200, setup.text
    secret = setup.json()["secret"]
    enabled = await stack.call("POST", "/api/auth/totp/enable", user, json={"code": pyotp.TOTP(secret).now()})
    assert enabled.status_code == 200, enabled.text
    return secret, enabled.json()["recovery_codes"]


async def test_login_when_no_script_runs_then_password_and_codes_are_enough(
    chromium: Browser, stack: Stack, acme: Tenant
) -> None:
    user = await stack.sign_up(acme)
    async with plain(chromium) as page:
        await page.goto(authorization(stack, acme))
        assert await page.locator("#email").evaluate("field => field === document.activeElement") is True
        await page.get_by_label("Email address").fill(user.email)
        await page.get_by_label("Password").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        assert "wrong" in (await page.get_by_role("alert").inner_text())
        assert await page.get_by_label("Email address").input_value() == user.email
        await log_in(page, user)
        claims = await redeem(stack, acme, page)
        assert (claims["sub"], claims["amr"]) == (user.user_id, ["pwd"])
        # Logged in: no page, and then a page that asks again.
        await page.goto(authorization(stack, acme))
        again = await redeem(stack, acme, page)
        assert (again["auth_time"], again["sid"]) == (claims["auth_time"], claims["sid"])
        await page.goto(authorization(stack, acme, prompt="login"))
        await log_in(page, user)
        assert (await redeem(stack, acme, page))["sid"] != claims["sid"]

    secret, recovery_codes = await protect(stack, user)
    for choose, code in ((None, None), ("Use a recovery code", recovery_codes[0])):
        async with plain(chromium) as page:
            await page.goto(authorization(stack, acme))
            await log_in(page, user)
            if choose:
                await page.get_by_role("link", name=choose).click()
            label = "Recovery code" if choose else "Code"
            # The code that turned the app on is used up: of the window this is the next one.
            await page.get_by_label(label, exact=True).fill(code or pyotp.TOTP(secret).at(_next_step()))
            await page.get_by_role("button", name="Confirm").click()
            claims = await redeem(stack, acme, page)
            assert claims["acr"] == "urn:authservice:acr:2fa"
            assert "mfa" in claims["amr"]


def _next_step() -> int:
    return int(time.time()) + 30


async def test_login_when_the_user_gives_up_then_the_app_is_told(
    chromium: Browser, stack: Stack, acme: Tenant
) -> None:
    async with plain(chromium) as page:
        await page.goto(authorization(stack, acme))
        await page.get_by_role("button", name="Cancel").click()
        await page.wait_for_url(f"{CALLBACK}?*")
        assert dict(parse_qsl(urlsplit(page.url).query))["error"] == "access_denied"


async def test_passkey_when_shown_on_the_page_then_logs_in_or_completes_a_login(
    chromium: Browser, stack: Stack, acme: Tenant, origins: tuple[str, str]
) -> None:
    user = await stack.sign_up(acme)
    async with tab(chromium, stack, acme, origins[0]) as it:
        assert (await it.register(user))["status"] == 201
        page = it.page
        complaints = await watch(page)

        await page.goto(authorization(stack, acme))
        await page.get_by_role("button", name="Log in with a passkey").click()
        claims = await redeem(stack, acme, page)

        assert (claims["sub"], claims["acr"]) == (user.user_id, "urn:authservice:acr:2fa")
        assert "hwk" in claims["amr"] or "swk" in claims["amr"] or "user" in claims["amr"]
        assert complaints == []
        # As the second factor, of a client that demands one.
        settings = {"settings": {"adaptive_security": {"mfa": {"mode": "required"}}}}
        changed = await stack.call("PATCH", f"/api/admin/clients/{acme.id}", stack.admin, json=settings)
        assert changed.status_code == 200, changed.text
        await page.context.clear_cookies()
        await page.goto(authorization(stack, acme))
        await log_in(page, user)
        await page.get_by_role("button", name="Use the passkey").click()
        assert (await redeem(stack, acme, page))["acr"] == "urn:authservice:acr:2fa"
        # An authenticator that knows nobody: the page says so, in its own words.
        await it.cdp.send("WebAuthn.clearCredentials", {"authenticatorId": it.authenticator})
        await page.context.clear_cookies()
        await page.goto(authorization(stack, acme, ui_locales="de"))
        assert await page.locator("html").get_attribute("lang") == "de"
        await page.get_by_role("button", name="Mit einem Passkey anmelden").click()
        await page.get_by_text("Der Passkey wurde nicht angenommen").wait_for()
        assert complaints == []


async def test_page_when_framed_then_shows_nothing(chromium: Browser, stack: Stack, acme: Tenant) -> None:
    """O-32: clickjacking; the control is the same page at the top."""
    context = await chromium.new_context()
    page = await context.new_page()
    complaints = await watch(page)
    url = authorization(stack, acme)
    await page.goto(url)
    assert await page.get_by_label("Password").count() == 1

    frame = f'<iframe src="{url.replace("&", "&amp;")}"></iframe>'
    await page.route(
        "https://evil.example/", lambda route: route.fulfill(content_type="text/html", body=frame)
    )
    await page.goto("https://evil.example/")

    for inner in page.frames[1:]:
        assert await inner.get_by_label("Password").count() == 0
    assert any("frame" in text.lower() for text in complaints), complaints
    await context.close()
