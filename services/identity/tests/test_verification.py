"""Verification of addresses: mailed at sign-up, good once, and for the address it was made for only."""

from __future__ import annotations

import asyncio
from typing import Any

from chassis.context import Access, CallerContext
from services.identity.tests.conftest import Person
from services.identity.tests.second_factors import call_as
from tests.harness import BASE_URL, Answer, System

PUBLIC = CallerContext(access=Access.PUBLIC, request_id="test-public", ip="203.0.113.9")


async def verify(system: System, token: Any, caller: CallerContext = PUBLIC) -> Answer:
    return await system.call(
        "identity", "POST", "/api/auth/verify-email", caller=caller, json={"token": token}
    )


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
