"""Another address for an account: confirmed at the new one, stopped or taken back from the old one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.identity.tests.conftest import PASSWORD, Person, address, log_in, sign_up
from services.identity.tests.mailed import PUBLIC
from services.identity.tests.second_factors import call_as, new_person, new_protected
from services.identity.tests.step_ups import proof
from tests.harness import Answer, System, Tenant


async def ask(person: Person, new_email: str, **body: str) -> Answer:
    """Ask for another address by the password, unless told otherwise."""
    shown = body or {"password": PASSWORD}
    return await call_as(person, "change-email", {"new_email": new_email, **shown})


async def follow(system: System, tenant: Tenant, step: str, token: str) -> Answer:
    """Follow a link of a mail."""
    return await system.call(
        "identity",
        "POST",
        f"/api/auth/change-email/{step}",
        caller=PUBLIC,
        json={"token": token},
    )


async def links(system: System, old: str, new: str) -> tuple[str, str]:
    """Return the tokens that confirm a change, and that take it back."""
    confirm = await system.mails(new, "email_change_confirm")
    back = await system.mails(old, "email_change_notice")
    return confirm[-1].token, back[-1].token


async def shown_email(person: Person) -> tuple[int, str | None]:
    """What `/me` says of the user's address."""
    answer = await call_as(person, "me", method="GET")
    return answer.status, answer.json.get("email")


async def test_address_changes_when_the_new_one_confirms(system: System, tenant: Tenant) -> None:
    person, new = await new_person(system, tenant), address()
    assert (await ask(person, new)).status == 202
    confirm, _ = await links(system, person.email, new)
    assert await shown_email(person) == (200, person.email)

    confirmed = await follow(system, tenant, "confirm", confirm)

    assert (confirmed.status, confirmed.json) == (200, {"email": new, "email_verified": True})
    assert await shown_email(person) == (200, new)
    assert (await log_in(system, tenant, new)).status == 200
    assert (await person.log_in()).code == "invalid_credentials"
    for event_type in ("email_change_requested", "email_changed"):
        event = await system.event(event_type, client_id=tenant.id)
        assert (event.actor_id, event.target_id, event.data) == (person.id, person.id, {})
    body = {"refresh_token": person.document["refresh_token"], "token_transport": "json"}
    refreshed = await system.call("token", "POST", "/api/auth/refresh", caller=tenant.caller(), json=body)
    assert refreshed.json["user"]["email"] == new
    again = await follow(system, tenant, "confirm", confirm)
    assert (again.status, again.code) == (400, "invalid_link")


async def test_change_needs_a_proof_and_an_address_that_can_be_had(system: System, tenant: Tenant) -> None:
    person, user = await new_person(system, tenant), await new_protected(system, tenant)
    now = int(system.clock.now().timestamp())

    bare = await call_as(person, "change-email", {"new_email": address()}, auth_time=now)
    assert (bare.status, bare.code, bare.json["action"]) == (403, "step_up_required", "account.email_change")
    wrong = await ask(person, address(), password="not the password")
    assert (wrong.status, wrong.code) == (403, "wrong_password")
    # With a second factor the password proves nothing.
    refused = await ask(user.person, address())
    assert (refused.status, refused.code) == (403, "step_up_required")
    token = await proof(system, user.person.caller(), refused, factor="totp", code=user.app.code())
    assert (await ask(user.person, address(), step_up_token=token)).status == 202
    for email, code in (("no address", "invalid_email"), (person.email, "validation_failed")):
        answer = await ask(person, email)
        assert (answer.status, answer.code) == (422, code)


async def test_taken_address_answers_as_a_free_one_and_tells_its_owner(
    system: System, tenant: Tenant
) -> None:
    person, owner = await new_person(system, tenant), await new_person(system, tenant)
    free, taken = await ask(person, address()), await ask(person, owner.email)
    assert (free.status, free.body, set(free.headers)) == (taken.status, taken.body, set(taken.headers))
    assert await system.mails(owner.email, "email_in_use")
    sent = await system.mails(person.email, "email_change_notice", count=2)
    assert len(sent) == 2

    # Free when it was asked for, taken when it is confirmed.
    person, new = await new_person(system, tenant), address()
    await ask(person, new)
    confirm, _ = await links(system, person.email, new)
    assert (await sign_up(system, tenant, new)).status == 201
    late = await follow(system, tenant, "confirm", confirm)
    assert (late.status, late.code) == (409, "email_taken")
    assert await shown_email(person) == (200, person.email)


async def test_tokens_of_what_the_user_was_before_verify_nothing(
    system: System, tenant: Tenant
) -> None:  # M-09
    person, first, second = await new_person(system, tenant), address(), address()
    old_verification = (await system.mails(person.email, "verify_email"))[0].token
    await ask(person, first)
    confirm_first, _ = await links(system, person.email, first)
    await ask(person, second)
    confirm_second, _ = await links(system, person.email, second)

    replaced = await follow(system, tenant, "confirm", confirm_first)
    assert (replaced.status, replaced.code) == (400, "invalid_link")
    stranger = await system.tenant()
    for token in (confirm_second + "x", "", old_verification):
        assert (await follow(system, tenant, "confirm", token)).status in (400, 422)
    by_other = await system.call(
        "identity",
        "POST",
        "/api/auth/change-email/confirm",
        caller=stranger.caller(),
        json={"token": confirm_second},
    )
    assert (by_other.status, by_other.code) == (400, "invalid_link")

    raced = await asyncio.gather(*(follow(system, tenant, "confirm", confirm_second) for _ in range(20)))
    assert sorted(answer.status for answer in raced) == [200, *[400] * 19]
    verified = await system.call(
        "identity",
        "POST",
        "/api/auth/verify-email",
        caller=PUBLIC,
        json={"token": old_verification},
    )
    assert (verified.status, verified.code) == (400, "invalid_link")
    assert await shown_email(person) == (200, second)


async def test_old_address_stops_a_change_or_takes_it_back_for_three_days(
    system: System, tenant: Tenant
) -> None:
    # Before it is confirmed.
    person, new = await new_person(system, tenant), address()
    await ask(person, new)
    confirm, back = await links(system, person.email, new)
    stopped = await follow(system, tenant, "revert", back)
    assert (stopped.status, stopped.json) == (200, {"restored": False})
    assert (await follow(system, tenant, "confirm", confirm)).code == "invalid_link"

    # After; also when whoever took the account changed the address again, and the password.
    person, new, newer = await new_person(system, tenant), address(), address()
    await ask(person, new)
    confirm, back = await links(system, person.email, new)
    assert (await follow(system, tenant, "confirm", confirm)).status == 200
    await ask(person, newer)
    confirm, later_back = await links(system, new, newer)
    assert (await follow(system, tenant, "confirm", confirm)).status == 200
    await call_as(
        person,
        "change-password",
        {"current_password": PASSWORD, "new_password": "taken battery staple horse"},
    )
    kept = await sign_up(system, tenant, person.email)
    assert (kept.status, kept.code) == (409, "email_taken")

    raced = await asyncio.gather(*(follow(system, tenant, "revert", back) for _ in range(20)))

    won = [answer.json for answer in raced if answer.status == 200]
    assert won == [{"restored": True}]
    assert await shown_email(person) == (200, person.email)
    reverted = await system.event("email_change_reverted", client_id=tenant.id, was_changed=True)
    assert reverted.target_id == person.id
    ended = await system.event(
        "session_revoked", client_id=tenant.id, reason="email_change_reverted", after=1
    )
    assert ended.target_id == person.session_id
    assert (await follow(system, tenant, "revert", later_back)).code == "invalid_link"
    assert (await sign_up(system, tenant, newer)).status == 201


async def test_way_back_ends_after_three_days_and_the_old_address_is_free(
    system: System, tenant: Tenant
) -> None:
    person, new = await new_person(system, tenant), address()
    await ask(person, new)
    confirm, back = await links(system, person.email, new)
    assert (await follow(system, tenant, "confirm", confirm)).status == 200
    with system.clock.advanced(timedelta(hours=73)):
        late = await follow(system, tenant, "revert", back)
        assert (late.status, late.code) == (400, "invalid_link")
        assert (await sign_up(system, tenant, person.email)).status == 201


async def test_pages_of_both_links_change_nothing_until_their_forms_are_sent(
    system: System, tenant: Tenant
) -> None:
    person, new = await new_person(system, tenant), address()
    form = {"content-type": "application/x-www-form-urlencoded"}
    await ask(person, new)
    confirm, back = await links(system, person.email, new)
    for path, token, email in (("confirm", confirm, new), ("revert", back, person.email)):
        page = f"/api/auth/change-email/{path}"
        shown = await system.call("identity", "GET", f"{page}?token={token}", caller=PUBLIC)
        assert (shown.status, shown.headers["referrer-policy"]) == (200, "no-referrer")
        assert f'action="{page}/form"' in shown.body.decode()
        assert "script" not in shown.body.decode()
        before = new if path == "revert" else person.email
        assert (await log_in(system, tenant, before)).status == 200, "looking changes nothing"
        foreign = await system.call(
            "identity",
            "POST",
            f"{page}/form",
            caller=PUBLIC,
            content=f"token={token}".encode(),
            headers={**form, "sec-fetch-site": "cross-site"},
        )
        assert foreign.status == 403

        done = await system.call(
            "identity",
            "POST",
            f"{page}/form",
            caller=PUBLIC,
            content=f"token={token}".encode(),
            headers=form,
        )

        assert done.status == 200, done.body
        assert "<form" not in done.body.decode()
        assert (await log_in(system, tenant, email)).status == 200
        again = await system.call("identity", "GET", f"{page}?token={token}", caller=PUBLIC)
        assert (again.status, again.code) == (400, "invalid_link")
