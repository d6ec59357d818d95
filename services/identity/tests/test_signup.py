"""Sign-up: what it answers, what it refuses, and that one address is one user."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chassis.context import Access, CallerContext
from services.identity.tests.conftest import PASSWORD, Person, address, log_in, sign_up
from tests.harness import System, Tenant


async def test_signup_opens_a_session_and_says_so_in_events(system: System, tenant: Tenant) -> None:
    email = f"  {address().upper()} "

    answer = await sign_up(system, tenant, email, display_name="Ada", metadata={"plan": "pro"})

    assert answer.status == 201
    opened = answer.json
    user = opened["user"]
    assert opened["token_type"] == "Bearer"
    assert opened["expires_in"] > 0
    assert opened["refresh"]["transport"] == "json"
    assert opened["refresh_token"]
    assert opened["session"]["id"]
    assert user["email"] == email.strip()
    assert user["client_id"] == str(tenant.id)
    assert (user["display_name"], user["role"], user["status"]) == ("Ada", "user", "active")
    assert (user["email_verified"], user["mfa_enabled"], user["metadata"]) == (False, False, {"plan": "pro"})
    assert user["created_at"].endswith("Z")
    created = await system.event("user_created", client_id=tenant.id)
    assert (created.target_id, created.actor_type, created.actor_id) == (user["id"], "user", user["id"])
    assert created.ip == "203.0.113.7"
    assert email.strip().lower() not in str(created.data)
    assert (await log_in(system, tenant, email.strip().lower())).status == 200


@pytest.mark.parametrize(
    ("body", "query"),
    [
        ({}, ""),
        ({"token_transport": "cookie"}, ""),
        ({"session_mode": "cookie"}, ""),
        ({}, "?session_mode=cookie"),
    ],
)
async def test_signup_by_cookie_keeps_the_refresh_token_out_of_the_body(
    system: System, tenant: Tenant, body: dict[str, str], query: str
) -> None:
    members = {"email": address(), "password": PASSWORD, **body}

    answer = await system.call(
        "identity", "POST", f"/api/auth/signup{query}", caller=tenant.caller(), json=members
    )

    assert answer.status == 201
    assert "refresh_token" not in answer.json
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("auth_refresh=rt_")
    assert "HttpOnly" in cookie
    assert "Path=/api/auth" in cookie
    assert "Domain" not in cookie
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "query"),
    [({"session_mode": "token"}, ""), ({}, "?token_transport=json"), ({}, "?session_mode=token")],
)
async def test_signup_by_json_sets_no_cookie(
    system: System, tenant: Tenant, body: dict[str, str], query: str
) -> None:
    members = {"email": address(), "password": PASSWORD, **body}

    answer = await system.call(
        "identity", "POST", f"/api/auth/signup{query}", caller=tenant.caller(), json=members
    )

    assert answer.json["refresh_token"].startswith("rt_")
    assert "set-cookie" not in answer.headers


async def test_twenty_signups_at_once_with_spellings_of_one_address_make_one_user(
    system: System, tenant: Tenant
) -> None:
    email = address()
    spellings = [email, email.upper(), f" {email}", email.replace("@", "＠")]

    answers = await asyncio.gather(
        *(sign_up(system, tenant, spellings[number % len(spellings)]) for number in range(20))
    )

    assert sorted(answer.status for answer in answers) == [201, *[409] * 19]
    assert {answer.code for answer in answers if answer.status == 409} == {"email_taken"}
    rows = await system.sql("identity", "SELECT id FROM users WHERE client_id = $1", tenant.id)
    assert len(rows) == 1
    refused = await system.event("signup_refused", client_id=tenant.id)
    assert refused.data["reason"] == "email_taken"


async def test_signup_with_the_same_address_at_another_client_is_another_user(
    system: System, tenant: Tenant, person: Person
) -> None:
    other = await system.tenant()

    answer = await sign_up(system, other, person.email)

    assert answer.status == 201
    assert answer.json["user"]["id"] != person.id


async def test_signup_ignores_what_only_the_service_decides(system: System, tenant: Tenant) -> None:
    forged: dict[str, Any] = {
        "role": "admin",
        "is_admin": True,
        "email_verified": True,
        "status": "suspended",
        "client_id": "00000000-0000-0000-0000-000000000000",
        "tenant_id": "00000000-0000-0000-0000-000000000000",
        "id": "00000000-0000-0000-0000-000000000000",
        "created_at": "2001-01-01T00:00:00Z",
        "mfa_enabled": True,
    }

    user = (await sign_up(system, tenant, address(), **forged)).json["user"]

    assert (user["role"], user["email_verified"], user["status"]) == ("user", False, "active")
    assert user["client_id"] == str(tenant.id)
    assert user["id"] != forged["id"]
    assert not user["created_at"].startswith("2001")
    assert user["mfa_enabled"] is False


@pytest.mark.parametrize(
    "email",
    [
        "a@x.com,v@y.com",
        "a@x.com v@y.com",
        "a@x.com\r\nBcc: v@y.com",
        "a@x.com\r\n",
        "a\x00@x.com",
        '"a@x.com"@evil.com',
        '"a b"@x.com',
        "a@b@x.com",
        "a@x.com;v@y.com",
        "<a@x.com>",
        "a@[127.0.0.1]",
        "a@localhost",
        "a@127.0.0.1",
        "a@x..com",
        "a@-x.com",
        "a@x.com.",
        ".a@x.com",
        "a..b@x.com",
        "a.@x.com",
        "@x.com",
        "a@",
        "a",
        "",
        "a\u200b@x.com",
        "a\u202e@x.com",
        "a" * 65 + "@x.com",
        "a@" + "x" * 64 + ".com",
        "a@" + "x.com" * 100,
        ["a@x.com"],
        {"address": "a@x.com"},
        7,
        None,
    ],
)
async def test_signup_refuses_what_is_not_one_plain_address(
    system: System, tenant: Tenant, email: Any
) -> None:
    answer = await sign_up(system, tenant, email)

    assert answer.status == 422
    assert answer.code in {"invalid_email", "validation_failed"}
    assert answer.json["errors"]
    assert "Bcc" not in answer.json["detail"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("mike{}@example.com", "mıke{}@example.com"),
        ("mike{}@example.com", "MİKE{}@example.com"),
        ("mask{}@example.com", "maſk{}@example.com"),
        ("mike{}@example.com", "ｍｉｋｅ{}@example.com"),
        ("strasse{}@example.com", "straße{}@example.com"),
        ("mike{}@example.com", "mike{}@EXAMPLE。com"),
        ("mike{}@bücher.example", "mike{}@xn--bcher-kva.example"),
        ("josé{}@example.com", "jose\u0301{}@example.com"),
    ],
)
async def test_signup_with_an_address_that_folds_to_a_taken_one_is_refused(
    system: System, tenant: Tenant, first: str, second: str
) -> None:
    assert (await sign_up(system, tenant, first.format("1"))).status == 201

    answer = await sign_up(system, tenant, second.format("1"))

    assert (answer.status, answer.code) == (409, "email_taken")


@pytest.mark.parametrize("domain", ["mailinator.com", "MAILINATOR.com", "any.mailinator.com"])
async def test_signup_at_a_disposable_domain_is_refused(system: System, tenant: Tenant, domain: str) -> None:
    answer = await sign_up(system, tenant, f"someone@{domain}")

    assert (answer.status, answer.code) == (422, "email_domain_blocked")
    refused = await system.event("signup_refused", client_id=tenant.id)
    assert refused.data["reason"] == "email_domain_blocked"
    assert "mailinator" not in str(refused.data)


@pytest.mark.parametrize(
    ("password", "rules"),
    [
        ("short1A", {"password_too_short"}),
        ("é" * 40, {"password_too_long", "password_too_uniform"}),
        ("ab ab ab ab", {"password_too_uniform"}),
        ("Password123", {"password_too_common"}),
        ("", {"password_too_short", "password_too_uniform"}),
        ("grace.hopper-9!", {"password_contains_user_info"}),
        ("xLOVELACE42x", {"password_contains_user_info"}),
        ("12345678", {"password_too_common"}),
    ],
)
async def test_signup_names_every_rule_a_password_breaks(
    system: System, tenant: Tenant, password: str, rules: set[str]
) -> None:
    answer = await sign_up(system, tenant, "grace.hopper@example.com", password, display_name="Ada Lovelace")

    assert (answer.status, answer.code) == (422, "weak_password")
    assert {fault["code"] for fault in answer.json["errors"]} == rules
    assert {fault["field"] for fault in answer.json["errors"]} == {"password"}
    if password:
        assert password not in answer.body.decode()


@pytest.mark.parametrize("password", [12345678, ["correct horse"], {"a": "b"}, None, "abcdef\x00ghij", True])
async def test_signup_refuses_a_password_that_is_not_plain_text(
    system: System, tenant: Tenant, password: Any
) -> None:
    answer = await sign_up(system, tenant, address(), password)

    assert (answer.status, answer.code) == (422, "validation_failed")


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        "text",
        {"a": "x" * 8200},
        {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}},
        {"a": "nul\x00"},
    ],
)
async def test_signup_refuses_metadata_that_is_no_small_object(
    system: System, tenant: Tenant, metadata: Any
) -> None:
    answer = await sign_up(system, tenant, address(), metadata=metadata)

    assert (answer.status, answer.code) == (422, "validation_failed")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"email": "a@example.com", "password": NaN}',
        b'{"email": "a@example.com", "password": "correct horse battery", "metadata": {"a": NaN}}',
        b'{"email": "a@example.com", "password": "\\ud800aaaaaaaaaa"}',
        b'{"email": "a@example.com", "password": "\xff"}',
        b'{"x": ' + b"[" * 700 + b"]" * 700 + b"}",
        b'{"x": ' + b"[" * 9000 + b"]" * 9000 + b"}",
    ],
)
async def test_signup_with_a_broken_body_is_the_callers_fault(
    system: System, tenant: Tenant, content: bytes
) -> None:
    answer = await system.call(
        "identity",
        "POST",
        "/api/auth/signup",
        caller=tenant.caller(),
        content=content,
        headers={"content-type": "application/json"},
    )

    assert answer.status in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


async def test_signup_with_a_body_over_the_limit_is_refused_unread(system: System, tenant: Tenant) -> None:
    answer = await sign_up(system, tenant, address(), "x" * 1024 * 1024)

    assert (answer.status, answer.code) == (413, "body_too_large")


async def test_signup_repeated_with_an_idempotency_key_answers_the_same_user(
    system: System, tenant: Tenant
) -> None:
    body = {"email": address(), "password": PASSWORD, "token_transport": "json"}
    headers = {"idempotency-key": "once"}

    answers = [
        await system.call(
            "identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body, headers=headers
        )
        for _ in range(2)
    ]

    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json
    assert answers[1].headers["idempotent-replayed"] == "true"


async def test_signup_needs_an_api_key(system: System) -> None:
    caller = CallerContext(access=Access.PUBLIC, request_id="test-public")

    answer = await system.call(
        "identity", "POST", "/api/auth/signup", caller=caller, json={"email": address(), "password": PASSWORD}
    )

    assert answer.status == 401


async def test_signup_stores_no_password_in_the_clear(system: System, tenant: Tenant, person: Person) -> None:
    rows = await system.sql("identity", "SELECT hash FROM passwords WHERE client_id = $1", tenant.id)

    assert [row["hash"][:7] for row in rows] == ["$2b$10$"]
