"""Refusals of pages, as the people read them who are sent there."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from chassis.ratelimit import Limit
from gateway.contract import Contract
from gateway.tests.echo import ECHO_CONTRACT, KIB
from gateway.tests.running import RunningGateway, running_gateway
from tests.harness import System, Tenant

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
_OF_PAGES = {"content-security-policy", "x-robots-tag"}
_OF_ANSWERS = {
    "content-type",
    "content-length",
    "date",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
}


@pytest.fixture
async def refusing(
    system: System, service_urls: dict[str, str], tenant: Tenant
) -> AsyncIterator[RunningGateway]:
    """A gateway whose service is away, and whose page takes one form."""
    async with running_gateway(
        system,
        {**service_urls, "identity": "http://127.0.0.1:1"},
        contract=Contract(ECHO_CONTRACT),
        rate_limit_login=Limit(1, 3600),
        redis_key_prefix=f"{tenant.id}:",
    ) as running:
        yield running


async def _both(gateway: RunningGateway, method: str, path: str, **sent: Any) -> tuple[httpx.Response, ...]:
    """What a browser gets, and what a program does."""
    headers = {**sent.pop("headers", {}), "X-Request-Id": "r-1"}
    return (
        await gateway.client.request(method, path, headers={**headers, **BROWSER}, **sent),
        await gateway.client.request(method, path, headers=headers, **sent),
    )


async def test_refused_page_is_a_page_for_people_and_a_problem_for_programs(refusing: RunningGateway) -> None:
    assert (await refusing.client.post("/page", content=b"x")).status_code == 503, (
        "the one that is let through"
    )
    for method, path, sent, status, said in (
        ("GET", "/page", {}, 503, "not available right now"),
        ("POST", "/page", {"content": b"x"}, 429, "Too many attempts. Try again in "),
        ("POST", "/page", {"content": b"x" * (4 * KIB + 1)}, 413, "What was sent is not right"),
        ("GET", "/page?a=%00", {}, 400, "What was sent is not right"),
        ("GET", "/page/typo", {}, 404, "There is no such page"),
        ("PUT", "/page", {}, 405, "There is no such page"),
    ):
        shown, told = await _both(refusing, method, path, **sent)
        assert (shown.status_code, told.status_code) == (status, status), path
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert told.headers["content-type"] == "application/problem+json"
        assert said in shown.text
        assert "r-1" in shown.text
        assert set(shown.headers) - set(told.headers) == _OF_PAGES
        same = set(told.headers) - _OF_ANSWERS
        assert {name: shown.headers[name] for name in same} == {name: told.headers[name] for name in same}
        if status == 429:
            assert 0 < int(shown.headers["retry-after"]) <= 3600


async def test_error_page_loads_nothing_and_is_in_the_readers_language(refusing: RunningGateway) -> None:
    spoken = (
        ("", "en", "ltr"),
        ("fr-CH, de;q=0.9", "fr", "ltr"),
        ("tlh, ar;q=0.5", "ar", "rtl"),
        ("<b>", "en", "ltr"),
    )
    for asked, language, direction in spoken:
        answer = await refusing.client.get("/page", headers={**BROWSER, "Accept-Language": asked})
        assert f'<html lang="{language}" dir="{direction}">' in answer.text
        style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)
        assert style is not None
        digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert answer.headers["content-security-policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script|<form|\s(?:src|href|style|on\w+)=", answer.text)


async def test_only_what_people_open_is_a_page(gateway: RunningGateway) -> None:
    """By the real contract, for a client that names HTML on every request."""
    for path, is_page in (
        ("/login/typo", True),
        ("/authorize?client_id=%00", True),
        ("/consent/", True),
        ("/device/CODE", True),
        ("/logout/x", True),
        ("/api/auth/reset-password?token=%00", True),
        ("/api/auth/nothing", False),
        ("/api/auth/reset-password/nothing", False),
        ("/device_authorization", False),
        ("/token", False),
        ("/nothing", False),
    ):
        answer = await gateway.client.get(path, headers=BROWSER)
        assert answer.status_code in (400, 404, 405), path
        assert (answer.headers["content-type"] == "text/html; charset=utf-8") is is_page, path
