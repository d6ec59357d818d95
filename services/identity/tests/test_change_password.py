"""Change of password: who may, what is refused, and that all other sessions end, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from services.identity.tests.conftest import PASSWORD, Person, another_identity, evaluations, no_duties
from tests.harness import Answer, System

NEW = "another fine passphrase"


async def change(person: Person, current: str = PASSWORD, new: str = NEW, **caller: str) -> Answer:
    """Call the route as the user, in its first session."""
    body = {"current_password": current, "new_password": new}
    return await person.system.call(
        "identity", "POST", "/api/auth/change-password", caller=person.caller(**caller), json=body
    )


async def test_change_replaces_the_password_and_ends_all_other_sessions(
    system: System, person: Person
) -> None:
    others = [(await person.log_in()).json["session"]["id"] for _ in range(2)]

    answer = await change(person)

    assert (answer.status, answer.json) == (200, {"revoked_sessions": 2})
    revoked = [
        await system.event("session_revoked", client_id=person.tenant.id, after=number) for number in range(2)
    ]
    assert {event.target_id for event in revoked} == set(others)
    assert {event.data["reason"] for event in revoked} == {"password_changed"}
    event = await system.event("password_changed", client_id=person.tenant.id)
    assert (event.target_id, event.actor_id) == (person.id, person.id)
    assert (await person.log_in()).status == 401
    assert (await person.log_in(NEW)).status == 200


async def test_change_with_a_wrong_current_password_is_refused_and_counts_towards_the_lockout(
    system: System, person: Person
) -> None:
    answers = [await change(person, current="wrong password") for _ in range(6)]

    assert [answer.status for answer in answers] == [403] * 5 + [429]
    assert (answers[0].code, answers[-1].code) == ("wrong_password", "account_locked")
    assert answers[-1].headers["retry-after"]
    failed = await system.event("password_change_failed", client_id=person.tenant.id)
    assert failed.data == {"reason": "wrong_password"}
    assert (await system.event("account_locked", client_id=person.tenant.id)).target_id == person.id
    assert (await person.log_in()).status == 429
    assert (await person.log_in(ip="198.51.100.9")).status == 200


@pytest.mark.parametrize(
    ("new", "rule"),
    [
        ("short", "password_too_short"),
        ("x1y2" * 19, "password_too_long"),
        ("Password123", "password_too_common"),
        ("meet-Lovelace-today", "password_contains_user_info"),
        (PASSWORD, "password_unchanged"),
    ],
)
async def test_change_to_a_password_that_breaks_a_rule_is_refused_before_hashing(
    system: System, person: Person, new: str, rule: str
) -> None:
    await system.sql(
        "identity", "UPDATE users SET display_name = 'Ada Lovelace' WHERE id = $1", UUID(person.id)
    )
    before = evaluations()

    answer = await change(person, new=new)

    assert (answer.status, answer.code) == (422, "weak_password")
    assert rule in {fault["code"] for fault in answer.json["errors"]}
    assert {fault["field"] for fault in answer.json["errors"]} == {"new_password"}
    assert evaluations() == before


async def test_two_changes_at_once_cannot_both_win(person: Person) -> None:
    answers = await asyncio.gather(change(person, new=NEW), change(person, new=f"{NEW} too"))

    assert sorted(answer.status for answer in answers) in ([200, 403], [200, 409])
    winner = NEW if answers[0].status == 200 else f"{NEW} too"
    loser = f"{NEW} too" if winner == NEW else NEW
    assert (await person.log_in(winner)).status == 200
    assert (await person.log_in(loser)).status == 401


async def test_change_while_token_is_away_is_not_called_done_and_ends_the_sessions_later(
    system: System, person: Person
) -> None:
    other = (await person.log_in()).json["session"]["id"]

    async with another_identity(system, token_grpc="127.0.0.1:1"):
        answer = await change(person)

    assert (answer.status, answer.code) == (503, "sessions_not_ended")
    assert "was changed" in answer.json["detail"]
    await no_duties(person)
    revoked = await system.event("session_revoked", client_id=person.tenant.id)
    assert (revoked.target_id, revoked.data["reason"]) == (other, "password_changed")
    assert (await person.log_in(NEW)).status == 200


async def test_change_needs_a_user(system: System, person: Person) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW}

    answer = await system.call(
        "identity", "POST", "/api/auth/change-password", caller=person.tenant.caller(), json=body
    )

    assert answer.status == 403
    assert (await person.log_in()).status == 200
