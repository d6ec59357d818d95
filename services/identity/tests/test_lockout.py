"""The lockout: how many guesses an address gives, for how long it is closed, and to whom."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest

from chassis.context import KeyKind
from services.identity.lockouts.service import source_of
from services.identity.tests.conftest import PASSWORD, Person, address, another_identity, evaluations, log_in
from tests.harness import System, Tenant

WRONG = "not the password"
THRESHOLD = 5


async def test_forty_wrong_passwords_at_once_are_evaluated_no_more_than_the_threshold_allows(
    system: System, person: Person
) -> None:
    before = evaluations()

    answers = await asyncio.gather(
        *(person.log_in(WRONG) for _ in range(20)),
        *(person.log_in(PASSWORD.upper()) for _ in range(20)),
    )

    assert evaluations() - before == THRESHOLD
    statuses = [answer.status for answer in answers]
    assert statuses.count(401) == THRESHOLD
    assert statuses.count(429) == 40 - THRESHOLD
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.code == "account_locked"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    locked = await system.event("account_locked", client_id=person.tenant.id)
    assert locked.target_id == person.id
    assert locked.data["failures"] == THRESHOLD
    assert locked.data["locked_seconds"] in range(1, 61)
    answer = await person.log_in()
    assert (answer.status, answer.code) == (429, "account_locked")


async def test_right_passwords_at_once_are_all_accepted_by_two_processes_too(
    system: System, person: Person
) -> None:
    here = [asyncio.create_task(person.log_in()) for _ in range(12)]
    await asyncio.sleep(0)  # they have chosen their process
    async with another_identity(system):
        there = [person.log_in() for _ in range(12)]
        answers = await asyncio.gather(*here, *there)

    assert [answer.status for answer in answers] == [200] * 24


async def test_a_right_password_among_wrong_ones_is_refused_once_the_address_is_locked(
    person: Person,
) -> None:
    """W-06."""
    before = evaluations()
    wrong = [person.log_in(WRONG) for _ in range(200)]
    answers = await asyncio.gather(*wrong[:100], person.log_in(), *wrong[100:])

    assert evaluations() - before == THRESHOLD
    assert answers[100].status == 429
    assert sorted({answer.status for answer in answers}) == [401, 429]


async def test_unknown_addresses_are_locked_alike(system: System, person: Person) -> None:
    unknown = address()

    answers = {
        email: [await log_in(system, person.tenant, email, WRONG) for _ in range(THRESHOLD + 1)]
        for email in (person.email, unknown)
    }

    for answered in answers.values():
        assert [answer.status for answer in answered] == [401] * THRESHOLD + [429]
    known, other = (answered[-1].json for answered in answers.values())
    assert {**known, "request_id": ""} == {**other, "request_id": ""}


async def test_spellings_of_one_address_share_its_attempts(system: System, person: Person) -> None:
    spellings = [
        person.email,
        person.email.upper(),
        f" {person.email}",
        person.email.replace("@", "＠"),
        person.email,
    ]

    for spelling in spellings:
        assert (await log_in(system, person.tenant, spelling, WRONG)).status == 401

    assert (await person.log_in()).status == 429


async def test_a_lock_holds_for_the_attackers_address_only(person: Person) -> None:
    for _ in range(THRESHOLD):
        await person.log_in(WRONG, ip="198.51.100.1")

    assert (await person.log_in(ip="198.51.100.1")).status == 429
    assert (await person.log_in(ip="198.51.100.2")).status == 200


async def test_a_lock_holds_for_no_other_address_from_the_same_source(system: System, person: Person) -> None:
    # The users of a customer's backend share its IP.
    for _ in range(THRESHOLD):
        await person.log_in(WRONG)

    assert (await person.log_in()).status == 429
    assert (await log_in(system, person.tenant, address(), WRONG)).status == 401


async def test_a_locked_source_does_not_use_up_the_attempts_of_others(system: System, person: Person) -> None:
    async with another_identity(system, lockout_account_threshold=THRESHOLD + 1):
        for _ in range(4 * THRESHOLD):
            await person.log_in(WRONG, ip="198.51.100.1")

        assert (await person.log_in(ip="198.51.100.2")).status == 200


async def test_many_sources_together_lock_an_address_for_everyone(system: System, person: Person) -> None:
    async with another_identity(system, lockout_account_threshold=8):
        statuses = [(await person.log_in(WRONG, ip=f"198.51.100.{number}")).status for number in range(9)]
        right = await person.log_in(ip="198.51.100.200")

    assert statuses == [401] * 8 + [429]
    assert (right.status, right.code) == (429, "account_locked")


async def test_locks_double_up_to_the_longest_and_start_over_after_quiet(
    system: System, person: Person
) -> None:
    seconds = []
    with contextlib.ExitStack() as later:
        for _ in range(6):
            for _ in range(THRESHOLD):
                assert (await person.log_in(WRONG)).status == 401
            seconds.append(int((await person.log_in()).headers["retry-after"]))
            later.enter_context(system.clock.advanced(timedelta(seconds=seconds[-1])))
        later.enter_context(system.clock.advanced(timedelta(minutes=31)))
        for _ in range(THRESHOLD):
            await person.log_in(WRONG)
        after_quiet = int((await person.log_in()).headers["retry-after"])
        later.enter_context(system.clock.advanced(timedelta(seconds=after_quiet)))
        assert (await person.log_in()).status == 200

    for expected, given in zip([60, 120, 240, 480, 900, 900], seconds, strict=True):
        assert expected - 30 < given <= expected
    assert 30 < after_quiet <= 60


async def test_failures_of_an_earlier_window_do_not_count(system: System, person: Person) -> None:
    for _ in range(THRESHOLD - 1):
        await person.log_in(WRONG)

    with system.clock.advanced(timedelta(minutes=15)):
        assert (await person.log_in(WRONG)).status == 401
        assert (await person.log_in()).status == 200


async def test_success_forgets_the_failures_from_that_source(person: Person) -> None:
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            assert (await person.log_in(WRONG)).status == 401
        assert (await person.log_in()).status == 200


async def test_successful_logins_never_lock(system: System, person: Person) -> None:
    async with another_identity(system, lockout_threshold=2, lockout_account_threshold=3):
        statuses = [(await person.log_in(ip=f"198.51.100.{number}")).status for number in range(8)]

    assert statuses == [200] * 8


async def test_an_address_is_locked_at_its_client_only(system: System, person: Person) -> None:
    other: Tenant = await system.tenant()
    for _ in range(THRESHOLD):
        await log_in(system, other, person.email, WRONG)

    assert (await log_in(system, other, person.email, WRONG)).status == 429
    assert (await person.log_in()).status == 200


async def test_counters_do_not_name_the_address(system: System, person: Person) -> None:
    await person.log_in(WRONG)

    rows = await system.sql(
        "identity",
        "SELECT login_attempts::text AS row FROM login_attempts WHERE client_id = $1",
        person.tenant.id,
    )

    assert len(rows) == 3, "here, anywhere, and one of the addresses that failed from here"
    assert not any(person.email in row["row"] for row in rows)


@pytest.mark.parametrize(
    ("ip", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", "unknown"),
        ("*", "unknown"),
    ],
)
def test_source_is_what_one_subscriber_holds(ip: str, source: str) -> None:
    assert source_of(ip) == source


async def test_one_password_at_many_addresses_when_the_source_is_past_the_threshold_then_it_is_refused(
    system: System, tenant: Tenant, person: Person
) -> None:
    """W-09: a spray; the rest of the world goes on, and so do a trusted network and the client's backend."""
    spray: dict[str, Any] = {"ip": "198.51.100.66", "key_kind": KeyKind.PUBLISHABLE}
    async with another_identity(system, lockout_spray_threshold=4):
        same = [await person.log_in(WRONG, **spray) for _ in range(3)]
        control = await person.log_in(**spray)
        tried = [await log_in(system, tenant, address(), WRONG, **spray) for _ in range(6)]
        refused = await person.log_in(**spray)
        by_server = await person.log_in(**{**spray, "key_kind": KeyKind.SECRET})
        elsewhere = await person.log_in()
        with system.clock.advanced(timedelta(minutes=2)):
            later = await person.log_in(**spray)
        policy = {"adaptive_security": {"risk": {"trusted_ip_cidrs": ["198.51.100.64/26"]}}}
        backend = await system.tenant(settings=policy)
        trusted = [await log_in(system, backend, address(), WRONG, **spray) for _ in range(6)]

    assert [answer.status for answer in same] == [401] * 3, "one address counts once"
    assert control.status == 200
    assert [answer.status for answer in tried] == [401] * 3 + [429] * 3
    assert (refused.status, refused.code) == (429, "source_locked")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert (by_server.status, elsewhere.status, later.status) == (200, 200, 200)
    assert [answer.status for answer in trusted] == [401] * 6
    detected = await system.event("login_spray_detected", client_id=tenant.id)
    assert detected.ip == "198.51.100.66"
    assert detected.data["addresses"] == 4
    assert (await system.event("login_failed", client_id=tenant.id, reason="source_locked")).target_id is None
