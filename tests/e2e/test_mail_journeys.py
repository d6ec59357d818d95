"""What is mailed, followed through the gateways: verify, reset, log in, and return to an application."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from tests.e2e.stack import ORIGIN, Login, Stack, Tenant, eventually

NEW_PASSWORD = "amber-cathedral-91-otters"
VERIFY = "/api/auth/magic-link/verify"
MAIL_SECONDS = 20.0


async def mail(stack: Stack, to: str, kind: str, *, after: int = 0) -> dict[str, Any]:
    """Wait for a mail in the inbox of development."""

    async def arrived() -> dict[str, Any] | None:
        answer = await stack.call("GET", "/dev/mail/messages", params={"to": to})
        found = [item for item in answer.json()["items"] if item["kind"] == kind]
        return found[-1 - after] if len(found) > after else None

    return await eventually(arrived, within=MAIL_SECONDS, what=f"a mail {kind}")


def link_of(stack: Stack, message: dict[str, Any]) -> str:
    """The path and query of a mail's link, which leads to the public origin."""
    (link,) = re.findall(r"https?://\S+", message["text"])
    assert link.startswith(f"{stack.base_url}/api/auth/")
    return str(link).removeprefix(stack.base_url)


def token_of(path: str) -> str:
    """The token of a link."""
    return parse_qs(urlsplit(path).query)["token"][0]


async def test_user_when_mailed_then_verifies_resets_and_logs_in_by_links(stack: Stack, shop: Tenant) -> None:
    user = await stack.sign_up(shop)
    link = link_of(stack, await mail(stack, user.email, "verify_email"))
    page = await stack.call("GET", link)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    verified = await stack.call("POST", "/api/auth/verify-email", json={"token": token_of(link)})
    assert verified.json() == {"email": user.email, "email_verified": True}
    assert (await stack.call("GET", "/api/auth/me", user)).json()["email_verified"] is True

    forgot = await stack.call("POST", "/api/auth/forgot-password", shop, json={"email": user.email})
    stranger = await stack.call("POST", "/api/auth/forgot-password", shop, json={"email": "no@example.org"})
    assert (
        (forgot.status_code, forgot.content)
        == (stranger.status_code, stranger.content)
        == (202, b'{"accepted":true}')
    )
    token = token_of(link_of(stack, await mail(stack, user.email, "reset_password")))
    body = {"token": token, "password": NEW_PASSWORD}
    assert (await stack.call("POST", "/api/auth/reset-password", json=body)).json() == {"revoked_sessions": 1}
    assert (await stack.call("POST", "/api/auth/reset-password", json=body)).json()["code"] == "invalid_link"

    async def is_dead() -> bool:
        return (await stack.call("GET", "/api/auth/me", user)).status_code == 401

    await eventually(is_dead, within=2.0, what="the old session is dead at the gateway")
    assert (await stack.refresh(shop, user.refresh_token)).status_code == 401
    await stack.log_in(user, NEW_PASSWORD)

    sent = await stack.call("POST", "/api/auth/magic-link/send", shop, json={"email": user.email})
    assert sent.status_code == 202
    magic = link_of(stack, await mail(stack, user.email, "magic_link")) + "&session_mode=token"
    ahead = await stack.call("HEAD", magic)
    assert (ahead.status_code, ahead.content, "set-cookie" in ahead.headers) == (200, b"", False)
    prefetched = await stack.call("GET", magic, headers={"sec-purpose": "prefetch"})
    assert prefetched.headers["content-type"] == "text/html; charset=utf-8"
    answers = await asyncio.gather(*[stack.call("GET", magic, gateway=i % 2) for i in range(20)])
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    (opened,) = [Login.of(shop, answer) for answer in answers if answer.status_code == 200]
    assert (await stack.call("GET", "/api/auth/me", opened)).json()["id"] == user.user_id
    seen = {event["type"] for event in await stack.events(shop.id)}
    assert {"mail_queued", "mail_sent", "email_verified", "password_reset"} <= seen
    assert user.email not in str(await stack.events(shop.id))


async def test_link_when_it_returns_to_an_application_then_the_code_is_exchanged_once(stack: Stack) -> None:
    careful = await stack.tenant(settings={"magic_link_confirm": True})
    other = await stack.tenant()
    user = await stack.sign_up(careful)
    wish = {"email": user.email, "redirect_url": f"{ORIGIN}/in?next=%2Fa"}
    evil = {**wish, "redirect_url": "https://evil.example/in"}
    refused = await stack.call("POST", "/api/auth/magic-link/send", careful, json=evil)
    assert refused.json()["code"] == "redirect_not_allowed"
    headers = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    sent = await stack.call("POST", "/api/auth/magic-link/send", careful, json=wish, headers=headers)
    assert sent.status_code == 202
    link = link_of(stack, await mail(stack, user.email, "magic_link"))
    page = await stack.call("GET", link)
    assert f"form-action 'self' {ORIGIN}" in page.headers["content-security-policy"]

    answer = await _submit(stack, token_of(link))
    assert answer.status_code == 303, answer.text
    target = urlsplit(answer.headers["location"])
    assert target.netloc == "app.example.com"
    query = parse_qs(target.query)
    assert sorted(query) == ["auth_code", "next"]
    body = {"code": query["auth_code"][0], "token_transport": "json"}

    async def exchange(tenant: Tenant, gateway: int = 0) -> httpx.Response:
        path = "/api/auth/redirect/exchange"
        return await stack.call("POST", path, tenant, json=body, gateway=gateway)

    assert (await exchange(other)).json()["code"] == "invalid_code"
    answers = await asyncio.gather(*[exchange(careful, i % 2) for i in range(20)])
    assert sorted(each.status_code for each in answers) == [200] + [400] * 19
    (opened,) = [Login.of(careful, each) for each in answers if each.status_code == 200]
    assert (await stack.call("GET", "/api/auth/me", opened)).json()["email_verified"] is True


async def _submit(stack: Stack, token: str) -> httpx.Response:
    """Press the button of the confirmation page."""
    headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
    return await stack.call("POST", VERIFY, headers=headers, content=urlencode({"token": token}))
