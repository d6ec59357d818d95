"""A device's login, and logouts that reach every app, through the gateways of the running system."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant, eventually
from tests.fake_http import fake_http

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
CALLBACK = "https://app.example.com/callback"
GOODBYE = "https://app.example.com/goodbye"
SECONDS = 10.0


@dataclass(slots=True)
class Browser:
    """A browser without scripts: keeps cookies, fills forms in, follows redirects within the issuer."""

    stack: Stack
    cookies: dict[str, str] = field(default_factory=dict)
    requests: int = 0

    async def open(self, target: str, form: dict[str, str] | None = None) -> httpx.Response:
        """Open an address of the issuer, or send a form, and follow to a page or out to an app."""
        method, content = ("GET", None) if form is None else ("POST", urlencode(form).encode())
        while True:
            parts = urlsplit(target)
            sent = {"sec-fetch-site": "same-origin", "cookie": "; ".join(self._pairs())}
            if content is not None:
                sent["content-type"] = "application/x-www-form-urlencoded"
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            self.requests += 1
            # One gateway after the other: nothing of a login may live in one process.
            answer = await self.stack.call(
                method, path, gateway=self.requests % 2, headers=sent, content=content
            )
            self._keep(answer)
            target = answer.headers.get("location", "")
            if answer.status_code != 303 or not target.startswith("/"):
                return answer
            method, content = "GET", None

    async def send(self, page: httpx.Response, **filled: str) -> httpx.Response:
        """Fill in the form of a page and send it."""
        [action] = re.findall(r'<form method="post" action="([^"]+)"', page.text)[:1]
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        fields = {name: unescape(value) for name, value in hidden}
        return await self.open(unescape(action), {**fields, **filled})

    async def log_in(self, page: httpx.Response, user: Login) -> httpx.Response:
        """Log in on the page."""
        assert 'name="password"' in page.text, page.text
        return await self.send(page, email=user.email, password=PASSWORD)

    def _pairs(self) -> list[str]:
        return [f"{name}={value}" for name, value in self.cookies.items()]

    def _keep(self, answer: httpx.Response) -> None:
        for header in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


async def app_of(stack: Stack, tenant: Tenant, **members: Any) -> str:
    """A public app of a tenant."""
    body = {"name": "Television", "token_endpoint_auth_method": "none", **members}
    path = f"/api/admin/clients/{tenant.id}/apps"
    answer = await stack.call("POST", path, stack.admin, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["app"]["id"])


async def userinfo(stack: Stack, access_token: str, gateway: int = 0) -> int:
    """What userinfo says to a token."""
    sent = {"authorization": f"Bearer {access_token}"}
    return (await stack.call("GET", "/userinfo", gateway=gateway, headers=sent)).status_code


async def let_in(
    stack: Stack, browser: Browser, app: str, user: Login, scope: str = "openid"
) -> dict[str, Any]:
    """Let an app log a user in."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "client_id": app,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": scope,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    answer = await browser.open(f"/authorize?{urlencode(asked)}")
    if answer.status_code == 200:
        answer = await browser.log_in(answer, user)
    location = answer.headers["location"]
    assert location.startswith(CALLBACK), location
    form = {
        "grant_type": "authorization_code",
        "client_id": app,
        "redirect_uri": CALLBACK,
        "code": parse_qs(urlsplit(location).query)["code"][0],
        "code_verifier": verifier,
    }
    redeemed = await stack.call("POST", "/token", data=form)
    assert redeemed.status_code == 200, redeemed.text
    tokens: dict[str, Any] = redeemed.json()
    return tokens


async def test_device_when_its_user_agrees_then_it_is_in(stack: Stack, shop: Tenant) -> None:
    user = await stack.sign_up(shop)
    app = await app_of(stack, shop, grant_types=[DEVICE_CODE, "refresh_token"])
    asked = await stack.call(
        "POST", "/device_authorization", data={"client_id": app, "scope": "openid email"}
    )
    assert asked.status_code == 200, asked.text
    device = asked.json()
    assert device["verification_uri"] == f"{stack.base_url}/device"
    form = {"grant_type": DEVICE_CODE, "client_id": app, "device_code": device["device_code"]}
    waiting = await stack.call("POST", "/token", gateway=1, data=form)
    assert (waiting.status_code, waiting.json()["error"]) == (400, "authorization_pending")

    browser = Browser(stack)
    page = await browser.open(device["verification_uri_complete"])
    assert device["user_code"] in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    question = await browser.log_in(await browser.send(page, user_code=device["user_code"].lower()), user)
    assert user.email in question.text
    done = await browser.send(question, decision="approve")
    assert done.status_code == 200, done.text
    await asyncio.sleep(device["interval"])
    tokens = await stack.call("POST", "/token", gateway=1, data=form)
    assert tokens.status_code == 200, tokens.text
    assert await userinfo(stack, tokens.json()["access_token"]) == 200
    answered = await stack.event(shop.id, "device_answered", actor_id=user.user_id)
    assert answered["data"]["is_approved"] is True


async def test_logout_when_one_app_asks_then_every_app_knows_and_tokens_are_dead(
    stack: Stack, shop: Tenant
) -> None:
    """The other app is told though it was away at first; the tokens are dead at both gateways at once."""
    user = await stack.sign_up(shop)
    async with fake_http() as other:
        asking = await app_of(
            stack, shop, redirect_uris=[CALLBACK], post_logout_redirect_uris=[GOODBYE], trusted=True
        )
        told = await app_of(
            stack, shop, redirect_uris=[CALLBACK], backchannel_logout_uri=other.url, trusted=True
        )
        browser = Browser(stack)
        mine = await let_in(stack, browser, asking, user)
        theirs = await let_in(stack, browser, told, user)
        assert {await userinfo(stack, tokens["access_token"]) for tokens in (mine, theirs)} == {200}

        other.status = 503
        ask = {"id_token_hint": mine["id_token"], "post_logout_redirect_uri": GOODBYE, "state": "s"}
        left = await browser.open(f"/logout?{urlencode(ask)}")
        assert (left.status_code, left.headers["location"]) == (303, f"{GOODBYE}?state=s")
        for gateway in (0, 1):
            for tokens in (mine, theirs):
                assert await userinfo(stack, tokens["access_token"], gateway) == 401

        async def was_told() -> bool:
            return bool(other.asked)

        await eventually(was_told, within=SECONDS, what="the other app is told")
        other.status = 200

        async def knows() -> bool:
            return len(other.asked) > 1

        await eventually(knows, within=2 * SECONDS, what="it is told again until it knows")
    payloads = [asked.form["logout_token"].split(".")[1] for asked in other.asked]
    claims = [json.loads(base64.urlsafe_b64decode(payload + "==")) for payload in payloads]
    assert {(claim["iss"], claim["aud"], claim["sub"]) for claim in claims} == {
        (stack.base_url, told, user.user_id)
    }
    assert len({claim["jti"] for claim in claims}) == len(claims)
    delivered = await stack.event(shop.id, "logout_delivered", target_id=told)
    assert delivered["data"]["attempts"] == 2
    page = await browser.open(
        f"/authorize?client_id={asking}&redirect_uri={CALLBACK}&response_type=code"
        "&scope=openid&code_challenge=" + "A" * 43 + "&code_challenge_method=S256"
    )
    assert 'name="password"' in page.text, "logged out"
