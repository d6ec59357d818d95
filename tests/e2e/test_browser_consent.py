"""The way of an app's user through consent in a real browser, through the gateways, to the app's tokens."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.async_api import Browser

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant
from tests.e2e.test_browser_login import CHALLENGE, VERIFIER
from tests.e2e.test_browser_passkeys import chromium, program

__all__ = ["chromium", "program"]


@dataclass
class App:
    """An app on this machine: it takes its answers, and leads on from there to a page at another origin."""

    port: int = 0
    told: list[dict[str, str]] = field(default_factory=list)
    id: str = ""
    secret: str = ""

    @property
    def callback(self) -> str:
        """Where it takes its answers."""
        return f"http://127.0.0.1:{self.port}/callback"

    @property
    def home(self) -> str:
        """Where its users end."""
        return f"http://localhost:{self.port}/home"

    async def register(self, stack: Stack, tenant: Tenant) -> None:
        """Become an app whose users are asked."""
        body = {"name": "Notes", "redirect_uris": [self.callback]}
        answer = await stack.call("POST", f"/api/admin/clients/{tenant.id}/apps", stack.admin, json=body)
        assert answer.status_code == 201, answer.text
        self.id, self.secret = answer.json()["app"]["id"], answer.json()["client_secret"]

    def authorization(self, stack: Stack, **more: str) -> str:
        """Where it sends its user."""
        asked = {
            "client_id": self.id,
            "redirect_uri": self.callback,
            "response_type": "code",
            "scope": "openid",
            "state": "st-1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **more,
        }
        return f"{stack.base_url}/authorize?{urlencode(asked)}"

    async def redeem(self, stack: Stack) -> dict[str, Any]:
        """What it gets for the code that it was told last."""
        answered = self.told[-1]
        assert (answered["state"], answered["iss"]) == ("st-1", stack.base_url), answered
        form = {
            "grant_type": "authorization_code",
            "code": answered["code"],
            "redirect_uri": self.callback,
            "code_verifier": VERIFIER,
        }
        answer = await stack.http.post(f"{stack.gateways[0]}/token", data=form, auth=(self.id, self.secret))
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document


@pytest.fixture
def app() -> Iterator[App]:
    """An app that is not registered yet."""
    made = App()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self.answer(self.rfile.read(int(self.headers["content-length"])).decode())

        def answer(self, told: str) -> None:
            is_callback = urlsplit(self.path).path == "/callback"
            if is_callback:
                made.told.append(dict(parse_qsl(told)))
            self.send_response(302 if is_callback else 200)
            if is_callback:
                self.send_header("location", made.home)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
            """Write no log."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


async def test_app_when_its_user_agrees_then_tokens_and_no_second_question(
    chromium: Browser, stack: Stack, app: App
) -> None:
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    await app.register(stack, tenant)
    context = await chromium.new_context()
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    await page.goto(app.authorization(stack, scope="openid email"))
    await page.get_by_label("Email address").fill(user.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Allow Notes to use your account?").wait_for()
    assert await page.get_by_text("see your email address").count() == 1
    assert await page.get_by_text(f"127.0.0.1:{app.port}").count() == 1
    await page.get_by_role("button", name="Allow").click()
    await page.wait_for_url(app.home)
    assert (await app.redeem(stack))["scope"] == "openid email"

    # A form that sends itself (`form_post`), and no further question.
    await page.goto(app.authorization(stack, response_mode="form_post"))
    await page.wait_for_url(app.home)
    tokens = await app.redeem(stack)
    assert len(app.told) == 2
    assert complaints == []

    await _withdraw(stack, user, tokens["access_token"])
    await page.goto(app.authorization(stack))
    await page.get_by_role("button", name="Deny").click()
    await page.wait_for_url(app.home)
    assert app.told[-1]["error"] == "access_denied"
    await context.close()


async def _withdraw(stack: Stack, user: Login, access_token: str) -> None:
    """Take the consent back at the gateway; the app's token is dead."""
    (mine,) = (await stack.call("GET", "/api/auth/consents", user)).json()["items"]
    bearer = {"authorization": f"Bearer {access_token}"}
    url = f"{stack.gateways[0]}/userinfo"
    assert (await stack.http.get(url, headers=bearer)).status_code == 200
    assert (await stack.call("DELETE", f"/api/auth/consents/{mine['id']}", user)).status_code == 204
    assert (await stack.http.get(url, headers=bearer)).status_code == 401


async def test_discovery_when_asked_through_the_gateway_then_no_header_changes_it(stack: Stack) -> None:
    """O-34, and pages of every origin may read it."""
    url = f"{stack.gateways[0]}/.well-known/openid-configuration"
    plain = await stack.http.get(url)
    assert plain.json()["issuer"] == stack.base_url
    lies = {
        "host": "evil.example",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "gopher",
        "forwarded": "host=evil.example",
        "origin": "https://spa.example.net",
    }
    answer = await stack.http.get(url, headers=lies)
    assert answer.content == plain.content
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "public, max-age=300"
    again = await stack.http.get(url, headers={"if-none-match": plain.headers["etag"]})
    assert again.status_code == 304
