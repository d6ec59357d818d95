"""Verification of addresses: mailed at sign-up, good once, and for the address it was made for only."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.identity.tests.conftest import Person, address, another_identity, sign_up
from services.identity.tests.mailed import PUBLIC, ask, verify
from services.identity.tests.second_factors import call_as, new_person
from tests.harness import BASE_URL, System, Tenant


async def test_sign_up_when_done_then_mails_a_link_that_verifies_once(system: System, person: Person) -> None:
    (mail,) = await system.mails(person.email, "verify_email")
    assert mail.link.startswith(f"{BASE_URL}/api/auth/verify-email?token=")
    answers = await asyncio.gather(*[verify(system, mail.token) for _ in range(20)])
    assert sorted(answer.status for answer in answers) == [200] + [400] * 19
    (good,) = [answer for answer in answers if answer.status == 200]
    assert good.json == {"email": person.email, "email_verified": True}
    assert {answer.code for answer in answers if answer.status == 400} == {"invalid_link"}
    me = await system.call("identity", "GET", "/api/auth/me", caller=person.caller())
    assert me.json["email_verified"] is True
    event = await system.event("email_verified", client_id=person.tenant.id)
    assert (event.target_id, event.data) == (person.id, {"was_taken_back": False})
    refreshed = await system.call(
        "token",
        "POST",
        "/api/auth/refresh",
        caller=person.tenant.caller(),
        json={"refresh_token": person.document["refresh_token"], "token_transport": "json"},
    )
    assert refreshed.json["user"]["email_verified"] is True
    assert (await call_as(person, "resend-verification")).code == "email_already_verified"


async def test_link_when_used_and_the_clock_jumps_back_then_stays_used(
    system: System, person: Person
) -> None:
    """F-11."""
    (mail,) = await system.mails(person.email, "verify_email")
    assert (await verify(system, mail.token)).status == 200

    with system.clock.advanced(-timedelta(hours=1)):
        assert (await verify(system, mail.token)).code == "invalid_link"


async def test_resend_when_asked_then_voids_the_older_link_and_is_throttled(
    system: System, person: Person
) -> None:
    for number in (1, 2):
        assert (await call_as(person, "resend-verification")).json == {"accepted": True}
        await system.mails(person.email, "verify_email", count=number + 1)
    refused = await call_as(person, "resend-verification")
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "300"
    mails = await system.mails(person.email, "verify_email", count=3)
    for older in mails[:2]:
        assert (await verify(system, older.token)).code == "invalid_link"
    with system.clock.advanced(timedelta(hours=24, seconds=1)):
        assert (await verify(system, mails[2].token)).code == "invalid_link"
    assert (await verify(system, mails[2].token)).status == 200


async def test_verification_when_made_for_another_state_then_is_refused(
    system: System, tenant: Tenant
) -> None:
    """M-05, M-09: another tenant's key, an address that changed, a suspension."""
    person, other = await new_person(system, tenant), await system.tenant()
    (mail,) = await system.mails(person.email, "verify_email")
    wrong: list[Any] = [None, "", [], mail.token[:-1], mail.token + "a"]
    for token in wrong:
        assert (await verify(system, token)).status in (400, 422)
    assert (await verify(system, mail.token, other.caller())).code == "invalid_link"
    moved = address()
    change = "UPDATE users SET email = $2, email_normalized = $2 WHERE id = $1"
    await system.sql("identity", change, UUID(person.id), moved)
    assert (await verify(system, mail.token)).code == "invalid_link"
    await system.sql("identity", change, UUID(person.id), person.email)
    suspend = "UPDATE users SET status = $2 WHERE id = $1"
    await system.sql("identity", suspend, UUID(person.id), "suspended")
    assert (await verify(system, mail.token)).code == "invalid_link"
    await system.sql("identity", suspend, UUID(person.id), "active")
    assert (await verify(system, mail.token, tenant.caller())).status == 200


async def test_mail_when_there_is_no_way_to_send_it_then_passwords_work_and_the_rest_is_503(
    system: System, tenant: Tenant
) -> None:
    email = address()
    off = {"environment": "production", "base_url": "https://auth.example.com"}
    async with another_identity(system, **off):
        answer = await sign_up(system, tenant, email)
        assert answer.status == 201, answer.body
        person = Person(system, tenant, email, answer.json)
        refused = [
            await ask(system, tenant, "forgot-password", email),
            await ask(system, tenant, "magic-link/send", email),
            await call_as(person, "resend-verification"),
        ]
        assert {(each.status, each.code) for each in refused} == {(503, "feature_unavailable")}
        for path in ("/dev/mail", "/dev/mail/messages"):
            hidden = await system.call("identity", "GET", path, caller=PUBLIC)
            assert (hidden.status, hidden.code) == (404, "not_found")
    shown = await system.call("identity", "GET", "/dev/mail", caller=PUBLIC)
    assert (shown.status, "default-src 'none'" in shown.headers["content-security-policy"]) == (200, True)
    assert await system.mails(email, count=0) == []
