"""Reset of a forgotten password: by the token alone, once, and nothing of before survives it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from services.identity.tests.conftest import PASSWORD, Person, address, log_in, sign_up
from services.identity.tests.mailed import PUBLIC, follow, magic_link, reset, reset_link, verify
from services.identity.tests.second_factors import new_person, new_protected, show
from tests.harness import BASE_URL, Answer, System, Tenant

NEW = "another long password 7"


async def test_reset_when_done_then_ends_all_that_the_old_password_could_open(
    system: System, tenant: Tenant
) -> None:
    """M-08: sessions, refresh tokens, waiting logins, other links, trusted devices; once of twenty."""
    protected = await new_protected(system, tenant)
    person = protected.person
    (verification,) = await system.mails(person.email, "verify_email")
    assert (await verify(system, verification.token)).status == 200
    waiting = await protected.challenge()
    link = await magic_link(system, tenant, person.email)
    older = await reset_link(system, tenant, person.email)
    mail = await reset_link(system, tenant, person.email, after=1)
    assert mail.link == f"{BASE_URL}/api/auth/reset-password?token={mail.token}"
    assert (await reset(system, older.token)).code == "invalid_link"
    weak = await reset(system, mail.token, "short")
    assert (weak.status, weak.code) == (422, "weak_password")
    answers = await asyncio.gather(*[reset(system, mail.token) for _ in range(20)])
    assert sorted(answer.status for answer in answers) == [200] + [400] * 19
    (done,) = [answer for answer in answers if answer.status == 200]
    assert done.json["revoked_sessions"] >= 1
    refreshed = await system.call(
        "token",
        "POST",
        "/api/auth/refresh",
        caller=tenant.caller(),
        json={"refresh_token": person.document["refresh_token"]},
    )
    assert refreshed.status == 401
    await system.event("session_revoked", client_id=tenant.id, reason="password_reset")
    assert (await show(system, tenant, waiting, protected.app.code())).code == "invalid_mfa_token"
    assert (await follow(system, link.token)).code == "invalid_link"
    assert (await log_in(system, tenant, person.email)).code == "invalid_credentials"
    again = await log_in(system, tenant, person.email, NEW)
    assert again.json["mfa_required"] is True
    event = await system.event("password_reset", client_id=tenant.id)
    assert (event.target_id, event.actor_id) == (person.id, person.id)
    trusted = await system.sql(
        "identity", "SELECT 1 FROM devices WHERE user_id = $1 AND trusted_until > now()", UUID(person.id)
    )
    assert trusted == []


async def test_reset_when_without_a_good_token_then_sets_no_password(system: System, tenant: Tenant) -> None:
    """M-05, M-07, M-11."""
    other = await system.tenant()
    person = await new_person(system, tenant)
    link = await magic_link(system, tenant, person.email)
    (verification,) = await system.mails(person.email, "verify_email")
    mail = await reset_link(system, tenant, person.email)
    blanks: list[Any] = [None, "", [], {}, 0, False, " ", "null"]
    for blank in blanks:
        assert (await reset(system, blank)).status in (400, 422), blank
    for missing in ({"password": NEW}, {"token": mail.token}, {"email": person.email, "password": NEW}):
        answer = await system.call(
            "identity", "POST", "/api/auth/reset-password", caller=PUBLIC, json=missing
        )
        assert answer.status == 422
    for of_another_step in (link.token, verification.token):
        assert (await reset(system, of_another_step)).code == "invalid_link"
    assert (await reset(system, mail.token, caller=other.caller())).code == "invalid_link"
    assert (await verify(system, mail.token)).code == "invalid_link"
    assert (await follow(system, mail.token)).code == "invalid_link"
    with system.clock.advanced(timedelta(minutes=15, seconds=1)):
        assert (await reset(system, mail.token)).code == "invalid_link"
    assert (await log_in(system, tenant, person.email)).status == 200
    assert (await reset(system, mail.token, caller=tenant.caller())).status == 200
    assert (await log_in(system, tenant, person.email, NEW)).status == 200


async def test_reset_when_the_address_was_not_verified_then_takes_the_account_back(
    system: System, person: Person
) -> None:
    """W-11 by the other way, for an account that is locked besides."""
    for _ in range(6):
        locked = await person.log_in("a wrong password 1")
    assert locked.code == "account_locked"
    mail = await reset_link(system, person.tenant, person.email)
    assert (await reset(system, mail.token)).status == 200
    event = await system.event("email_verified", client_id=person.tenant.id)
    assert event.data == {"was_taken_back": True}
    opened = await person.log_in(NEW)
    assert opened.json["user"]["email_verified"] is True


async def test_link_when_a_proxy_names_another_host_then_still_leads_to_us(
    system: System, tenant: Tenant
) -> None:
    """M-03."""
    email = address()
    assert (await sign_up(system, tenant, email, PASSWORD)).status == 201
    evil = {
        "host": "evil.example",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "http",
        "forwarded": "host=evil.example;proto=http",
    }
    for path in ("forgot-password", "magic-link/send"):
        answer = await system.call(
            "identity",
            "POST",
            f"/api/auth/{path}",
            caller=tenant.caller(),
            json={"email": email},
            headers=evil,
        )
        assert answer.status == 202
    await system.mails(email, count=3)
    for mail in await system.mails(email, count=3):
        assert mail.link.startswith(f"{BASE_URL}/api/auth/")
        assert "evil" not in mail.text + mail.html


async def test_links_when_opened_in_a_browser_then_lead_to_pages_that_need_no_script(
    system: System, tenant: Tenant
) -> None:
    person = await new_person(system, tenant)
    (verification,) = await system.mails(person.email, "verify_email")
    mail = await reset_link(system, tenant, person.email)

    async def send(path: str, headers: dict[str, str] | None = None, **fields: str) -> Answer:
        content = urlencode(fields).encode()
        return await system.call(
            "identity", "POST", f"/api/auth/{path}/confirm", caller=PUBLIC, content=content, headers=headers
        )

    for link in (verification.link, mail.link):
        path = link.removeprefix(BASE_URL)
        for _ in range(2):
            page = await system.call("identity", "GET", path, caller=PUBLIC)
            assert (page.status, page.headers["referrer-policy"]) == (200, "no-referrer")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert "<script" not in page.body.decode()
        assert (await system.call("identity", "HEAD", path, caller=PUBLIC)).status == 405
        gone = await system.call("identity", "GET", f"{path}x", caller=PUBLIC)
        assert (gone.status, gone.code) == (400, "invalid_link")
    for path, token in (("verify-email", verification.token), ("reset-password", mail.token)):
        assert (await send(path, {"sec-fetch-site": "cross-site"}, token=token, password=NEW)).status == 403
        assert (await send(path, password=NEW)).code == "invalid_link"
    assert (await send("verify-email", token=verification.token)).status == 200
    weak = await send("reset-password", token=mail.token, password="short")
    assert (weak.status, "at least 8 characters" in weak.body.decode()) == (422, True)
    assert (await send("reset-password", token=mail.token, password=NEW)).status == 200
    opened = await log_in(system, tenant, person.email, NEW)
    assert opened.json["user"]["email_verified"] is True
