"""Passkeys in a real browser: Chromium's own WebAuthn, a virtual authenticator, a page on another origin.

Needs Debian's `chromium`, which `.ci/run` installs.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Browser, CDPSession, Page, async_playwright

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PLATFORM = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
SECURITY_KEY = {
    **PLATFORM,
    "transport": "usb",
    "hasResidentKey": False,
    "hasUserVerification": False,
    "isUserVerified": False,
}

Json = dict[str, Any]


class Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and says nothing about it."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        """Write no log."""


@contextlib.contextmanager
def origin() -> Iterator[str]:
    """Serve the page at an origin of its own."""
    handler = functools.partial(Pages, directory=str(Path(__file__).parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[str, str]]:
    """Two origins of which the client lists the first."""
    with origin() as first, origin() as second:
        yield first, second


@pytest.fixture(scope="module")
def program() -> str:
    """Chromium; where it is missing, a failure in CI, and elsewhere a skip."""
    if not Path(CHROMIUM).exists():
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"{CHROMIUM} is missing: apt-get install chromium")
    return CHROMIUM


@pytest.fixture(scope="module")
async def chromium(program: str) -> AsyncIterator[Browser]:
    """One browser for all tests."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        await browser.close()


@dataclass(frozen=True)
class Tab:
    """A page with an authenticator, at a client's origin."""

    page: Page
    cdp: CDPSession
    authenticator: str

    async def register(self, user: Login, **wish: Any) -> Json:
        """Register a passkey for a user."""
        return dict(
            await self.page.evaluate("([token, wish]) => register(token, wish)", [user.access_token, wish])
        )

    async def log_in(self, mediation: str | None = None, **who: Any) -> Json:
        """Log in by passkey."""
        return dict(
            await self.page.evaluate("([who, how]) => login(who, how ?? undefined)", [who, mediation])
        )

    async def credentials(self) -> list[Json]:
        """What the authenticator keeps."""
        found = await self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(found["credentials"])

    async def replace(self, credential: Json) -> None:
        """Put a copy of a credential into the authenticator, in the place of all it has."""
        await self.cdp.send("WebAuthn.clearCredentials", {"authenticatorId": self.authenticator})
        await self.cdp.send(
            "WebAuthn.addCredential", {"authenticatorId": self.authenticator, "credential": credential}
        )


@contextlib.asynccontextmanager
async def tab(
    chromium: Browser, stack: Stack, tenant: Tenant, origin: str, authenticator: Json = PLATFORM
) -> AsyncIterator[Tab]:
    """Open the page in a browser profile of its own."""
    context = await chromium.new_context()
    page = await context.new_page()
    cdp = await context.new_cdp_session(page)
    await cdp.send("WebAuthn.enable")
    made = await cdp.send("WebAuthn.addVirtualAuthenticator", {"options": authenticator})
    api = stack.gateways[0].replace("127.0.0.1", "localhost")
    parameters = urlencode({"api": api, "key": tenant.publishable_key})
    await page.goto(f"{origin}/passkeys.html#{parameters}")
    try:
        yield Tab(page, cdp, made["authenticatorId"])
    finally:
        await context.close()


@pytest.fixture
async def site(stack: Stack, origins: tuple[str, str]) -> Tenant:
    """A client whose pages are at both origins, and whose passkeys are for the first."""
    settings = {
        "webauthn_rp_id": "localhost",
        "webauthn_rp_origin": origins[0],
        "webauthn_display_name": "Site",
    }
    return await stack.tenant(allowed_origins=list(origins), settings=settings)


async def test_passkey_when_made_in_the_browser_then_logs_in_each_way(
    chromium: Browser, stack: Stack, site: Tenant, origins: tuple[str, str]
) -> None:
    user = await stack.sign_up(site)
    async with tab(chromium, stack, site, origins[0]) as it:
        registered = await it.register(user)

        assert registered["status"] == 201, registered
        passkey = registered["body"]["passkey"]
        assert (passkey["transports"], passkey["user_verified"]) == (["internal"], True)
        (kept,) = await it.credentials()
        assert (kept["isResidentCredential"], kept["rpId"]) == (True, "localhost")
        assert kept["userName"] == user.email

        for answer in (
            await it.log_in(),
            await it.log_in(email=user.email.upper()),
            await it.log_in("conditional"),
        ):
            assert answer["status"] == 200, answer
            assert answer["body"]["user"]["id"] == user.user_id
            assert "refresh_token" not in answer["body"]
        with_passkey = replace(user, access_token=answer["body"]["access_token"])
        again = await it.register(with_passkey)
        assert again == {"status": 0, "body": {"name": "InvalidStateError"}}
        cookies = {cookie["name"]: cookie for cookie in await it.page.context.cookies()}
        assert cookies["auth_refresh"]["httpOnly"]
    event = await stack.event(site.id, "login_succeeded")
    assert event["data"]["method"] == "passkey"


async def test_passkey_when_a_second_factor_is_asked_for_then_is_it(
    chromium: Browser, stack: Stack, site: Tenant, origins: tuple[str, str]
) -> None:
    user = await stack.sign_up(site)
    async with tab(chromium, stack, site, origins[0]) as it:
        assert (await it.register(user))["status"] == 201
        required = {"settings": {"adaptive_security": {"mfa": {"mode": "required"}}}}
        path = f"/api/admin/clients/{site.id}"
        assert (await stack.call("PATCH", path, stack.admin, json=required)).status_code == 200
        waiting = await stack.call(
            "POST", "/api/auth/login", site, json={"email": user.email, "password": PASSWORD}
        )
        assert waiting.json()["factors"] == ["passkey"], waiting.text

        completed = await it.log_in(mfa_token=waiting.json()["mfa_token"])
        alone = await it.log_in()

    for answer in (completed, alone):
        assert answer["status"] == 200, answer
        assert answer["body"]["user"]["id"] == user.user_id


async def test_passkey_when_a_factor_must_be_set_up_then_is_it(
    chromium: Browser, stack: Stack, origins: tuple[str, str]
) -> None:
    settings = {
        "webauthn_rp_origin": origins[0],
        "adaptive_security": {"mfa": {"mode": "required"}},
    }
    strict = await stack.tenant(allowed_origins=[origins[0]], settings=settings)
    body = {"email": "first@example.org", "password": PASSWORD}
    due = await stack.call("POST", "/api/auth/signup", strict, json=body)
    token = due.json()["enrollment_token"]
    enrolling = Login(strict, "", "", "", token, "")
    assert (await stack.call("GET", "/api/auth/me", enrolling)).status_code == 401
    async with tab(chromium, stack, strict, origins[0]) as it:
        registered = await it.register(enrolling)

    assert registered["status"] == 201, registered
    opened = registered["body"]["session"]
    session = Login(strict, "", "", "", opened["access_token"], "")
    assert (await stack.call("GET", "/api/auth/me", session)).json()["email"] == "first@example.org"
    begin = "/api/auth/passkey/register/begin"
    assert (await stack.call("POST", begin, enrolling, json={})).status_code == 401


async def test_passkey_when_used_from_another_origin_or_copied_then_is_refused(
    chromium: Browser, stack: Stack, site: Tenant, origins: tuple[str, str]
) -> None:
    """P-01, P-07: the browser lets a page of another port use the RP id; the server does not."""
    user = await stack.sign_up(site)
    async with tab(chromium, stack, site, origins[0]) as it:
        assert (await it.register(user))["status"] == 201
        (credential,) = await it.credentials()
        assert (await it.log_in())["status"] == 200
        async with tab(chromium, stack, site, origins[1]) as other:
            await other.replace({**credential, "signCount": 100})
            refused = await other.log_in()
            assert (refused["status"], refused["body"]["code"]) == (401, "invalid_passkey")
            refused = await other.register(await stack.sign_up(site))
            assert (refused["status"], refused["body"]["code"]) == (403, "passkey_refused")
        async with tab(chromium, stack, site, origins[0]) as copy:
            await copy.replace(credential)
            refused = await copy.log_in()
            assert (refused["status"], refused["body"]["code"]) == (401, "invalid_passkey")
        await stack.event(site.id, "passkey_clone_suspected")
        assert (await it.log_in())["status"] == 200


async def test_security_key_without_verification_is_one_factor(
    chromium: Browser, stack: Stack, site: Tenant, origins: tuple[str, str]
) -> None:
    """P-06."""
    user = await stack.sign_up(site)
    async with tab(chromium, stack, site, origins[0], SECURITY_KEY) as it:
        registered = await it.register(user, resident_key="discouraged")
        assert registered["status"] == 201, registered
        assert registered["body"]["passkey"]["user_verified"] is False
        opened = await it.log_in(email=user.email)
        assert opened["body"]["user"]["id"] == user.user_id
        required = {"settings": {"adaptive_security": {"mfa": {"mode": "required"}}}}
        path = f"/api/admin/clients/{site.id}"
        assert (await stack.call("PATCH", path, stack.admin, json=required)).status_code == 200

        due = await it.log_in(email=user.email)

    assert due["body"]["mfa_enrollment_required"], due
    assert "access_token" not in due["body"]
