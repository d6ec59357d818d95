"""W-04: what an attacker sees and measures is the same whether an address has an account or not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.e2e.stack import PASSWORD, Stack, Tenant
from tests.e2e.test_devices_and_logout import CALLBACK, Browser

# The medians mean something only while nothing else runs.
pytestmark = pytest.mark.alone

PAIRS = 30
PAIRS_ON_PAGE = 20
MEDIANS_WITHIN = (0.75, 1.33)
VARYING_HEADERS = {"x-request-id", "date", "ratelimit-remaining", "ratelimit-reset", "content-length"}
# Random for each ceremony; of how many credentials an address seems to have, P-12's tests know.
VARYING_MEMBERS = {"request_id", "challenge", "session_id", "allowCredentials"}

WAYS_IN: dict[str, tuple[str, int, Callable[[str], dict[str, str]]]] = {
    "login": (
        "/api/auth/login",
        401,
        lambda email: {"email": email, "password": "wrong-" + PASSWORD, "token_transport": "json"},
    ),
    "forgotten password": ("/api/auth/forgot-password", 202, lambda email: {"email": email}),
    "magic link": ("/api/auth/magic-link/send", 202, lambda email: {"email": email}),
    "passkey": ("/api/auth/passkey/login/begin", 200, lambda email: {"email": email}),
}


@pytest.fixture(scope="module")
async def people(stack: Stack) -> tuple[Tenant, list[str]]:
    """A client and the addresses of its users."""
    tenant = await stack.tenant()
    return tenant, [(await stack.sign_up(tenant)).email for _ in range(PAIRS)]


@pytest.mark.parametrize("way", WAYS_IN)
async def test_way_in_when_the_address_is_unknown_then_nothing_tells(
    stack: Stack, people: tuple[Tenant, list[str]], way: str
) -> None:
    """Same status, body and headers; and the same time, by the medians of interleaved attempts."""
    path, status, body = WAYS_IN[way]
    shop, known = people

    async def attempt(email: str) -> httpx.Response:
        return await stack.call("POST", path, shop, json=body(email))

    await check_nothing_tells(attempt, known, status)
    login = {"email": known[0], "password": PASSWORD}
    assert (await stack.call("POST", "/api/auth/login", shop, json=login)).status_code == 200


async def test_hosted_page_when_the_address_is_unknown_then_nothing_tells(stack: Stack) -> None:
    """The same of the form that apps' users see; the control: a right password logs in by it."""
    site = await stack.tenant(settings={"oidc_redirect_uris": [CALLBACK]})
    known = [(await stack.sign_up(site)).email for _ in range(PAIRS_ON_PAGE)]
    asked = {
        "client_id": site.id,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    browser = Browser(stack)
    page = await browser.open(f"/authorize?{urlencode(asked)}")

    async def attempt(email: str) -> httpx.Response:
        return await browser.send(page, email=email, password="wrong-" + PASSWORD)

    await check_nothing_tells(attempt, known, 422)
    let_in = await browser.send(page, email=known[0], password=PASSWORD)
    assert let_in.headers["location"].startswith(f"{CALLBACK}?code="), let_in.text


async def check_nothing_tells(
    attempt: Callable[[str], Awaitable[httpx.Response]], known: Sequence[str], status: int
) -> None:
    """Try each known address beside one that nobody has.

    Each attempt has an address of its own, since limits for one account would answer the sixth.
    """
    unknown = [email.replace("user-", "none-") for email in known]
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    answers: dict[str, list[Any]] = {"known": [], "unknown": []}
    for number, pair in enumerate(zip(known, unknown, strict=True)):
        # In turns, and in both orders, so that whatever else the machine does meets both alike.
        order = list(zip(("known", "unknown"), pair, strict=True))
        for kind, email in order if number % 2 else reversed(order):
            began = time.perf_counter()
            answer = await attempt(email)
            times[kind].append(time.perf_counter() - began)
            answers[kind].append(shown(answer, email))
    assert answers["known"] == answers["unknown"]
    assert {answer[0] for answer in answers["known"]} == {status}
    ratio = statistics.median(times["known"]) / statistics.median(times["unknown"])
    assert MEDIANS_WITHIN[0] < ratio < MEDIANS_WITHIN[1], times


def shown(answer: httpx.Response, email: str) -> tuple[int, Any, dict[str, str]]:
    """What an attacker can compare: all but what differs between any two answers, and what was typed."""
    headers = {name: value for name, value in answer.headers.items() if name not in VARYING_HEADERS}
    is_page = answer.headers.get("content-type", "").startswith("text/html")
    if is_page or not answer.content:
        return answer.status_code, answer.text.replace(email, ""), headers
    return answer.status_code, _without_varying(answer.json()), headers


def _without_varying(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_varying(each) for name, each in value.items() if name not in VARYING_MEMBERS}
