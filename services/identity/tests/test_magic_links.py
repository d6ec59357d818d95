"""Login by a mailed link: once, in its own tenant, for a person and not for a machine that reads mail."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import pytest

from services.identity.tests.conftest import PASSWORD, address, log_in, sign_up
from services.identity.tests.mailed import (
    PUBLIC,
    VERIFY,
    ask,
    exchange,
    follow,
    magic_link,
    reset,
    reset_link,
    verify,
)
from services.identity.tests.second_factors import call_as, new_person, new_protected, protect, show
from tests.harness import BASE_URL, ORIGIN, Answer, System, Tenant

PAGE = f"{ORIGIN}/welcome?next=%2Fhome&auth_code=planted"
FORM = {"content-type": "application/x-www-form-urlencoded"}


async def test_link_when_followed_twenty_times_at_once_then_logs_in_once(
    system: System, tenant: Tenant
) -> None:
    """M-01, M-02, X-07, F-02."""
    email = address()
    mail = await magic_link(system, tenant, email, create_user=True)
    assert mail.link == f"{BASE_URL}{VERIFY}?token={mail.token}"
    (row,) = await system.sql(
        "identity",
        "SELECT octet_length(token_hash) AS bytes, expires_at - created_at AS ttl FROM email_tokens "
        "WHERE kind = 'magic_link' AND client_id = $1",
        tenant.id,
    )
    assert len(mail.token) >= 43
    assert (row["bytes"], row["ttl"]) == (32, timedelta(minutes=15))
    answers = await asyncio.gather(*[follow(system, mail.token) for _ in range(20)])
    assert sorted(answer.status for answer in answers) == [200] + [400] * 19
    (opened,) = [answer.json for answer in answers if answer.status == 200]
    assert opened["user"]["email_verified"] is True
    assert opened["user"]["email"] == email
    assert opened["refresh_token"]
    assert {answer.code for answer in answers if answer.status != 200} == {"invalid_link"}
    login = await system.event("login_succeeded", client_id=tenant.id)
    assert (login.data["method"], login.actor_id) == ("magic_link", opened["user"]["id"])
    await system.redis_flush()
    await system.call(
        "token",
        "POST",
        "/api/auth/logout",
        caller=tenant.caller(),
        json={"refresh_token": opened["refresh_token"]},
    )
    assert (await follow(system, mail.token)).code == "invalid_link"


async def test_link_when_something_changed_since_then_logs_nobody_in(system: System, tenant: Tenant) -> None:
    """M-05, M-08, M-11: another tenant's key, a later link, a new password or address, a suspension, time."""
    other = await system.tenant()
    person = await new_person(system, tenant)
    first = await magic_link(system, tenant, person.email)
    second = await magic_link(system, tenant, person.email, after=1)
    assert (await follow(system, first.token)).code == "invalid_link"
    assert (await follow(system, second.token, other.caller())).code == "invalid_link"
    with system.clock.advanced(timedelta(minutes=15, seconds=1)):
        assert (await follow(system, second.token)).code == "invalid_link"
    for wrong in (second.token + "x", "x", "%00", "é"):
        assert (await follow(system, wrong)).code == "invalid_link"
    changes = (
        "UPDATE users SET email_normalized = 'moved-' || email_normalized WHERE id = $1",
        "UPDATE users SET email_normalized = substr(email_normalized, 7), status = 'suspended' WHERE id = $1",
    )
    for change in changes:
        await system.sql("identity", change, UUID(person.id))
        assert (await follow(system, second.token)).code == "invalid_link"
    await system.sql("identity", "UPDATE users SET status = 'active' WHERE id = $1", UUID(person.id))
    changed = await call_as(
        person,
        "change-password",
        {"current_password": PASSWORD, "new_password": "another long password 7"},
    )
    assert changed.status == 200, changed.body
    assert (await follow(system, second.token)).code == "invalid_link"
    third = await magic_link(system, tenant, person.email, after=2)
    assert (await follow(system, third.token, tenant.caller())).status == 200


async def test_link_when_fetched_ahead_then_stays_good_until_a_person_confirms(
    system: System, tenant: Tenant
) -> None:
    """M-04: HEAD, prefetch, and `magic_link_confirm`."""
    careful = await system.tenant(
        settings={"magic_link_confirm": True, "auth_ui": {"brand_name": "<b>Acme</b>", "locale": "de"}}
    )
    email = address()
    mail = await magic_link(system, careful, email, create_user=True, redirect_url=PAGE)
    head = await follow(system, mail.token, method="HEAD")
    assert head.status == 405
    page = await follow(system, mail.token)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "set-cookie" not in page.headers
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert f"form-action 'self' {ORIGIN}" in policy
    text = page.body.decode()
    assert "Anmeldung bei &lt;b&gt;Acme&lt;/b&gt;" in text
    assert "<script" not in text
    form = urlencode({"token": mail.token}).encode()
    foreign = await system.call(
        "identity",
        "POST",
        VERIFY,
        caller=PUBLIC,
        content=form,
        headers={**FORM, "sec-fetch-site": "cross-site"},
    )
    assert foreign.status == 403
    for empty in (b"", b"token=", b"token=%00", b"x"):
        refused = await system.call("identity", "POST", VERIFY, caller=PUBLIC, content=empty, headers=FORM)
        assert refused.status == 400, empty
    done = await system.call(
        "identity",
        "POST",
        VERIFY,
        caller=PUBLIC,
        content=form,
        headers={**FORM, "sec-fetch-site": "same-origin"},
    )
    assert done.status == 303
    again = await system.call("identity", "POST", VERIFY, caller=PUBLIC, content=form, headers=FORM)
    assert again.code == "invalid_link"

    trusting = await magic_link(system, tenant, address(), create_user=True)
    for headers in ({"purpose": "prefetch"}, {"sec-purpose": "prefetch;prerender"}, {"x-moz": "prefetch"}):
        ahead = await follow(system, trusting.token, headers=headers)
        assert (ahead.status, ahead.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (await follow(system, trusting.token)).json["access_token"]


async def test_link_when_it_returns_to_a_page_then_carries_one_code_for_one_exchange(
    system: System, tenant: Tenant
) -> None:
    """M-10, O-36."""
    other = await system.tenant()
    email = address()
    await sign_up(system, tenant, email)
    mail = await magic_link(system, tenant, email, redirect_url=PAGE)
    answer = await follow(system, mail.token, query="")
    assert (answer.status, answer.headers["referrer-policy"], answer.body) == (303, "no-referrer", b"")
    target = urlsplit(answer.headers["location"])
    query = parse_qs(target.query)
    assert (target.scheme, target.netloc, target.path) == ("https", "app.example.com", "/welcome")
    assert sorted(query) == ["auth_code", "next"]
    (code,) = query["auth_code"]
    assert "auth_refresh" not in answer.headers.get("set-cookie", "")
    assert (await exchange(system, other, code)).code == "invalid_code"
    for wrong in (code + "x", "x" * 128):
        assert (await exchange(system, tenant, wrong)).code == "invalid_code"
    answers = await asyncio.gather(*[exchange(system, tenant, code) for _ in range(20)])
    assert sorted(each.status for each in answers) == [200] + [400] * 19
    (opened,) = [each.json for each in answers if each.status == 200]
    me = await system.call(
        "identity",
        "GET",
        "/api/auth/me",
        caller=tenant.user_caller(opened["user"]["id"], opened["session"]["id"]),
    )
    assert me.json["email"] == email
    assert opened["refresh"]["transport"] == "json"
    (row,) = await system.sql("token", "SELECT count(*) FROM exchange_codes WHERE client_id = $1", tenant.id)
    assert row["count"] == 0


async def test_code_when_too_old_or_its_sessions_ended_then_opens_nothing(
    system: System, tenant: Tenant
) -> None:
    """O-36: over 60 seconds; and a code must not outlive what ends all sessions."""
    person = await new_person(system, tenant)

    async def code(after: int) -> str:
        mail = await magic_link(system, tenant, person.email, redirect_url=f"{ORIGIN}/x", after=after)
        answer = await follow(system, mail.token)
        return parse_qs(urlsplit(answer.headers["location"]).query)["auth_code"][0]

    late = await code(0)
    with system.clock.advanced(timedelta(seconds=61)):
        assert (await exchange(system, tenant, late)).code == "invalid_code"
        unclaimed = await system.event("session_revoked", client_id=tenant.id, reason="code_not_exchanged")
    assert unclaimed.data["user_id"] == person.id
    ended = await code(1)
    mail = await reset_link(system, tenant, person.email)
    assert (await reset(system, mail.token)).status == 200
    assert (await exchange(system, tenant, ended)).code == "invalid_code"


async def test_link_when_the_user_has_a_second_factor_then_asks_for_it_also_behind_a_redirect(
    system: System, tenant: Tenant
) -> None:
    protected = await new_protected(system, tenant)
    email = protected.person.email
    (verification,) = await system.mails(email, "verify_email")
    assert (await verify(system, verification.token)).status == 200
    plain = await magic_link(system, tenant, email)
    challenged = await follow(system, plain.token)
    assert (challenged.status, challenged.json["mfa_required"]) == (200, True)
    assert "access_token" not in challenged.json
    behind = await magic_link(system, tenant, email, redirect_url=f"{ORIGIN}/x", after=1)
    redirected = await follow(system, behind.token)
    code = parse_qs(urlsplit(redirected.headers["location"]).query)["auth_code"][0]
    exchanged = await exchange(system, tenant, code)
    assert (exchanged.status, exchanged.json["mfa_required"]) == (200, True)
    opened = await show(system, tenant, exchanged.json["mfa_token"], protected.app.code())
    assert opened.status == 200, opened.body
    assert opened.json["user"]["email"] == email


async def test_account_when_somebody_was_there_before_its_owner_then_is_the_owners_alone(
    system: System, tenant: Tenant
) -> None:
    """W-11: an attacker signs up with the victim's address, adds factors, and waits."""
    attacker = await new_person(system, tenant)
    await protect(attacker)
    victim = attacker.email
    mail = await magic_link(system, tenant, victim)
    opened = await follow(system, mail.token)
    assert opened.status == 200, opened.body
    assert (opened.json["user"]["email_verified"], opened.json["user"]["mfa_enabled"]) == (True, False)
    assert (await log_in(system, tenant, victim)).code == "invalid_credentials"
    refreshed = await system.call(
        "token",
        "POST",
        "/api/auth/refresh",
        caller=tenant.caller(),
        json={"refresh_token": attacker.document["refresh_token"]},
    )
    assert refreshed.status == 401
    for table in ("passwords", "totp_secrets", "recovery_codes", "passkeys"):
        left = await system.sql("identity", f"SELECT 1 FROM {table} WHERE user_id = $1", UUID(attacker.id))
        assert left == [], table
    event = await system.event("email_verified", client_id=tenant.id)
    assert event.data == {"was_taken_back": True}
    # The positive control: who has verified the address keeps everything.
    owner = await new_person(system, tenant)
    (verification,) = await system.mails(owner.email, "verify_email")
    assert (await verify(system, verification.token)).status == 200
    assert (await follow(system, (await magic_link(system, tenant, owner.email)).token)).status == 200
    assert (await log_in(system, tenant, owner.email)).status == 200


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "https://app.example.com.evil.example/",
        "https://app.example.com@evil.example/",
        "https://evil.example\\@app.example.com/",
        "https://app.example.com:8443/",
        "http://app.example.com/",
        "//app.example.com/",
        "/welcome",
        "javascript:alert(1)",
        "https://app.example.com/#x",
        "https://app.example.com/\r\nSet-Cookie: a=b",
        "https://app.example.com /",
        "https://APP.example.com:443:1/",
        "",
    ],
)
async def test_redirect_when_not_at_an_allowed_origin_then_is_refused(
    system: System, shared: Tenant, url: str
) -> None:
    """M-10."""
    answer = await ask(system, shared, "magic-link/send", "a@example.com", redirect_url=url)
    assert (answer.status, answer.code) == (422, "redirect_not_allowed")
    good = await ask(
        system, shared, "magic-link/send", "a@example.com", redirect_url="HTTPS://App.example.com:443"
    )
    assert good.status == 202


@pytest.fixture(scope="module")
async def shared(system: System) -> Tenant:
    """One client for the tests that leave nothing behind."""
    return await system.tenant()


@pytest.mark.parametrize("path", ["magic-link/send", "forgot-password"])
@pytest.mark.parametrize(
    "email",
    [
        "a@x.example,v@y.example",
        ["a@x.example", "v@y.example"],
        "a@x.example\r\nBcc: v@y.example",
        '"a@x.example"@evil.example',
        "a@x.example\x00",
        "",
        None,
        {"email": "a@x.example"},
    ],
)
async def test_address_when_it_is_not_exactly_one_then_is_refused(
    system: System, shared: Tenant, path: str, email: Any
) -> None:
    """M-06."""
    answer = await ask(system, shared, path, email)
    assert answer.status == 422, answer.body


async def test_request_when_nobody_has_the_address_then_looks_the_same_and_sends_nothing(
    system: System, shared: Tenant
) -> None:
    """W-04, and M-06's collisions: mail goes to the stored address, never to what was typed."""
    known = f"victim-i{address()}"
    assert (await sign_up(system, shared, known)).status == 201
    typed = known.upper().replace("VICTIM-I", "vıctım-İ")
    unknown = address()

    def shape(answer: Answer) -> Any:
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return answer.status, headers, answer.body

    for path, kind in (("magic-link/send", "magic_link"), ("forgot-password", "reset_password")):
        answers = [await ask(system, shared, path, email) for email in (known, unknown, typed)]
        assert len({str(shape(answer)) for answer in answers}) == 1
        await system.mails(known, kind, count=2)
        assert await system.mails(unknown, count=0) == []
        assert await system.mails(typed, count=0) == []
    # The third mail to one mailbox is the last, whoever asks.
    for _ in range(3):
        assert (await ask(system, shared, "forgot-password", known)).status == 202
    await system.mail_requests_done(shared.id)
    assert len(await system.mails(known, "reset_password", count=3)) == 3
