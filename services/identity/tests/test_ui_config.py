"""What a browser may know of a client: brand and ways in, and nothing that could hurt the page."""

from __future__ import annotations

from uuid import uuid4

from services.identity.tests.mailed import PUBLIC
from tests.harness import Answer, System

PATH = "/api/auth/ui/config"


async def config(system: System, query: str = "") -> Answer:
    return await system.call("identity", "GET", PATH + query, caller=PUBLIC)


async def test_config_tells_the_brand_and_no_other_setting(system: System) -> None:
    page = {
        "brand_name": "Acme",
        "logo_url": "https://cdn.example.com/logo.svg",
        "primary_color": "#ffcc00",
        "locale": "de",
        "theme": "dark",
        "methods": ["password", "passkey", "carrier_pigeon"],
        "internal_note": "hidden words",
    }
    settings = {"auth_ui": page, "adaptive_security": {"mfa": {"mode": "required"}}}
    tenant = await system.tenant(settings=settings)

    answer = await config(system, f"?client_id={tenant.id}")

    assert answer.status == 200
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert answer.json == {
        "client_id": str(tenant.id),
        "brand": {
            "name": "Acme",
            "logo_url": "https://cdn.example.com/logo.svg",
            "primary_color": "#ffcc00",
            "text_color": "#000000",
        },
        "theme": "dark",
        "locale": "de",
        "locales": ["en", "es", "de", "fr", "ja", "ar"],
        "methods": ["password", "passkey"],
        "providers": [],
        "captcha": None,
        "hosted": {"login": "/login.html", "signup": "/signup.html", "account": "/account.html"},
    }
    by_key = await system.call("identity", "GET", PATH, caller=tenant.caller())
    assert by_key.json == answer.json


async def test_config_shows_nothing_that_is_no_color_or_address(system: System) -> None:  # E-07, E-08
    page = {
        "brand_name": "A\r\n<b>",
        "logo_url": "javascript:alert(1)",
        "primary_color": "red;}body{display:none",
        "locale": "<script>",
        "theme": {"x": 1},
        "methods": "password",
    }
    tenant = await system.tenant(settings={"auth_ui": page})
    shown = (await config(system, f"?client_id={tenant.id}")).json
    assert shown["brand"]["logo_url"] is None
    assert shown["brand"]["primary_color"] == "#1f4fd8"
    assert "\n" not in shown["brand"]["name"]
    assert (shown["theme"], shown["locale"]) == ("auto", "en")
    assert shown["methods"] == ["password", "magic_link", "passkey"]


async def test_config_of_no_client_or_an_unknown_or_suspended_one(system: System) -> None:
    tenant = await system.tenant()
    path = f"/api/admin/clients/{tenant.id}"
    assert (await config(system, f"?client_id={tenant.id}")).status == 200
    suspended = await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})
    assert suspended.status == 200
    for query, expected in (
        ("", (400, "invalid_request")),
        (f"?client_id={uuid4()}", (404, "client_not_found")),
        (f"?client_id={tenant.id}", (404, "client_not_found")),
    ):
        answer = await config(system, query)
        assert (answer.status, answer.code) == expected
