"""Codes of second factors under attack: guessed, replayed, raced, of others; and without Redis."""

from __future__ import annotations

import asyncio
import re
import secrets
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.identity.tests.conftest import another_identity
from services.identity.tests.second_factors import (
    Protected,
    at_two_processes,
    call_as,
    new_person,
    new_protected,
    show,
)
from services.identity.totp.codes import STEP_SECONDS
from tests.harness import Answer, System, Tenant

THRESHOLD = 10
ATTEMPTS = 5


@pytest.fixture
async def user(system: System, tenant: Tenant) -> Protected:
    """A user with an authenticator app."""
    return await new_protected(system, tenant)


def statuses(answers: list[Answer]) -> list[tuple[int, str | None]]:
    """What was answered, in short."""
    return [(answer.status, answer.json.get("code")) for answer in answers]


WRONG_CODE = (401, "invalid_mfa_code")
NO_LOGIN = (401, "invalid_mfa_token")


async def test_code_is_good_once_wherever_it_is_shown_again(system: System, user: Protected) -> None:
    """T-01."""
    code = user.app.code()
    assert (await user.show(await user.challenge(), code)).status == 200

    again = [await user.show(await user.challenge(), code)]
    async with another_identity(system):
        again.append(await user.show(await user.challenge(), code))
    by_session = [
        await call_as(user.person, path, {"code": code})
        for path in ("totp/setup", "totp/disable", "recovery-codes")
    ]

    assert statuses(again) == [WRONG_CODE] * 2
    assert statuses(by_session) == [(403, "wrong_code")] * 3
    # Nor is an older one good any more; the next one is.
    assert (await user.show(await user.challenge(), user.app.at(-2))).status == 401
    assert (await user.show(await user.challenge(), user.app.code())).status == 200
    refused = await system.event("second_factor_refused", client_id=user.person.tenant.id)
    assert (refused.target_id, refused.data) == (user.person.id, {"factor": "totp", "reason": "wrong_code"})


async def test_code_that_enabled_the_app_opens_no_login(system: System, tenant: Tenant) -> None:
    user = await new_protected(system, tenant)
    step = user.app.shown - user.app.present

    assert (await user.show(await user.challenge(), user.app.at(step))).status == 401
    assert (await user.show(await user.challenge(), user.app.code())).status == 200


@pytest.mark.parametrize("route", ["totp", "recovery-codes"])
async def test_one_code_at_twenty_logins_at_once_opens_one(
    system: System, user: Protected, route: str
) -> None:
    """T-02, T-09, X-06; over two processes."""
    code = user.app.code() if route == "totp" else user.recovery_codes[0]
    tokens = [await user.challenge() for _ in range(20)]

    answers = await at_two_processes(system, [partial(user.show, token, code, route) for token in tokens])

    assert [answer.status for answer in answers].count(200) == 1
    # 503 where Redis, which all of them wait for at once, did not answer in time on a busy machine.
    assert {answer.status for answer in answers} <= {200, 401, 429, 503}


async def test_one_login_completed_by_many_codes_at_once_opens_one_session(user: Protected) -> None:
    token = await user.challenge()

    answers = await asyncio.gather(
        *(user.show(token, code, "recovery-codes") for code in user.recovery_codes[:ATTEMPTS])
    )

    assert [answer.status for answer in answers].count(200) == 1
    assert statuses(answers).count(NO_LOGIN) == ATTEMPTS - 1


async def test_login_sees_five_codes_and_no_more(user: Protected) -> None:
    token = await user.challenge()
    wrong = [await user.show(token, user.app.wrong()) for _ in range(ATTEMPTS)]

    late = await user.show(token, user.app.code())

    assert statuses(wrong) == [WRONG_CODE] * ATTEMPTS
    assert statuses([late]) == [NO_LOGIN]
    other = await user.challenge()
    assert (await user.show(other, user.app.wrong())).status == 401
    assert (await user.show(other, user.app.code())).status == 200
    # It is over; its code is not asked about.
    assert statuses([await user.show(other, user.app.code())]) == [NO_LOGIN]


async def test_guesses_spread_over_logins_sources_spellings_and_processes_are_few(
    system: System, user: Protected
) -> None:
    """T-03."""
    email, tokens = user.person.email, []
    spellings = [email, email.upper(), f" {email}", email.replace("@", "＠")]
    for number in range(20):
        person = type(user.person)(
            system, user.person.tenant, spellings[number % len(spellings)], user.person.document
        )
        answer = await person.log_in(ip=f"198.51.100.{number}")
        tokens.append(answer.json["mfa_token"])
    codes = ["totp", "recovery-codes"]
    guesses = {"totp": user.app.wrong(), "recovery-codes": "00000-00000-00000-00000"}

    guesses_of_all = [
        partial(user.show, token, guesses[route], route, ip=f"203.0.113.{number}")
        for number, token in enumerate(tokens[:-1])
        for route in codes
    ]
    answers = await at_two_processes(system, guesses_of_all)

    evaluated = [answer for answer in answers if answer.status == 401]
    assert len(evaluated) == THRESHOLD
    assert {answer.code for answer in answers if answer.status == 429} == {"account_locked"}
    # A right code is refused too, of either factor, at a login and by a session; later it is not.
    right = [
        await user.show(tokens[-1], user.app.code()),
        await user.show(tokens[-1], user.recovery_codes[0], "recovery-codes"),
        await call_as(user.person, "totp/disable", {"code": user.app.code()}),
    ]
    assert statuses(right) == [(429, "account_locked")] * 3
    assert 0 < int(right[0].headers["retry-after"]) <= 900
    locked = await system.event("account_locked", client_id=user.person.tenant.id)
    assert (locked.target_id, locked.data["failures"]) == (user.person.id, THRESHOLD)
    with system.clock.advanced(timedelta(minutes=16)):
        assert (await user.show(await user.challenge(), user.app.code())).status == 200


async def test_support_unlocks_second_factors(system: System, user: Protected) -> None:
    for _ in range(2):
        token = await user.challenge()
        for _ in range(ATTEMPTS):
            await user.show(token, user.app.wrong())
    token = await user.challenge()
    locked = await user.show(token, user.app.code())
    tenant = user.person.tenant
    path = f"/api/admin/clients/{tenant.id}/users/{user.person.id}"

    shown = await system.call("identity", "GET", path, caller=system.admin())
    unlocked = await system.call("identity", "POST", f"{path}/unlock", caller=system.admin())

    assert statuses([locked]) == [(429, "account_locked")]
    assert shown.json["locked_until"] is not None
    assert unlocked.status == 200, unlocked.body
    assert unlocked.json["locked_until"] is None
    assert (await user.show(token, user.app.code())).status == 200


async def test_right_codes_forget_the_wrong_ones(user: Protected) -> None:
    for _ in range(3):
        token = await user.challenge()
        for _ in range(ATTEMPTS - 1):
            assert (await user.show(token, user.app.wrong())).status == 401
        assert (await user.show(token, user.app.code())).status == 200


async def test_codes_are_taken_for_ninety_seconds(system: System, user: Protected) -> None:
    """T-04, F-10: the present step and one on either side."""
    # Steps that lie before the app was enabled are used already.
    with system.clock.advanced(timedelta(seconds=10 * STEP_SECONDS)):
        token = await user.challenge()
        answers = [await user.show(token, user.app.at(offset)) for offset in (-3, -2, 2, 3)]
        assert statuses(answers) == [WRONG_CODE] * 4
        for offset in (-1, 0, 1):
            assert (await user.show(await user.challenge(), user.app.at(offset))).status == 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda code: f"{code} ",
        lambda code: f" {code[:2]} {code[2:]}",
        lambda code: f"{code}\n",
        lambda code: "".join(chr(ord("０") + int(digit)) for digit in code),
        lambda code: "".join(chr(ord("٠") + int(digit)) for digit in code),
        lambda code: f"0{code}",
        lambda code: code[:5],
        lambda code: int(code),
        lambda _code: 0,
        lambda _code: None,
        lambda code: [code],
        lambda code: {"code": code},
        lambda _code: "1e5",
        lambda _code: "",
        lambda _code: True,
    ],
)
async def test_code_that_is_not_six_digits_is_refused_unseen(
    protected: Protected, waiting: str, spoil: Any
) -> None:
    """T-05."""
    answer = await protected.show(waiting, spoil(protected.app.at(0)))

    assert (answer.status, answer.code) == (422, "validation_failed")
    rows = await protected.person.system.sql(
        "identity",
        "SELECT 1 FROM login_attempts WHERE source = 'second_factor' AND client_id = $1",
        protected.person.tenant.id,
    )
    assert rows == []


@pytest.fixture(scope="module")
async def protected(system: System) -> Protected:
    """One user for tests that change nothing."""
    return await new_protected(system, await system.tenant())


@pytest.fixture(scope="module")
async def waiting(protected: Protected) -> str:
    """A login of that user, which waits."""
    return await protected.challenge()


async def test_unspoiled_code_is_accepted_after_all(protected: Protected, waiting: str) -> None:
    """The control of the test above."""
    assert (await protected.show(waiting, protected.app.code())).status == 200


async def test_login_takes_only_codes_of_its_user_at_its_client(
    system: System, tenant: Tenant, user: Protected
) -> None:
    """T-06."""
    neighbour, foreigner = (
        await new_protected(system, tenant),
        await new_protected(system, await system.tenant()),
    )
    token = await user.challenge()

    answers = [
        await user.show(token, neighbour.app.code()),
        await user.show(token, neighbour.recovery_codes[0], "recovery-codes"),
        await user.show(token, foreigner.recovery_codes[0], "recovery-codes"),
        # The other client's key, with the token and right codes of either user.
        await show(system, foreigner.person.tenant, token, user.app.at(0)),
        await show(system, foreigner.person.tenant, token, foreigner.app.at(0)),
        await show(system, foreigner.person.tenant, token, user.recovery_codes[0], "recovery-codes"),
        # Tokens that never were one.
        *[
            await user.show(made_up, user.app.at(0))
            for made_up in ("mfa_", "mfa_" + "x" * 43, "ä", "x" * 128)
        ],
    ]

    assert statuses(answers) == [WRONG_CODE] * 3 + [NO_LOGIN] * 7
    # None of it cost anybody anything.
    assert (await user.show(await user.challenge(), user.app.code())).status == 200
    for other in (neighbour, foreigner):
        assert (
            await other.show(await other.challenge(), other.recovery_codes[0], "recovery-codes")
        ).status == 200


async def test_sealed_secret_does_not_open_in_another_users_row(system: System, user: Protected) -> None:
    victim = await new_protected(system, user.person.tenant)
    await system.sql(
        "identity",
        """
        UPDATE totp_secrets AS t SET active = other.active, last_used_step = 0
        FROM totp_secrets AS other WHERE other.user_id = $1 AND t.user_id = $2
        """,
        user.person.id,
        victim.person.id,
    )

    answer = await victim.show(await victim.challenge(), user.app.code())

    assert answer.status == 500
    assert (await user.show(await user.challenge(), user.app.code())).status == 200


async def test_recovery_codes_are_used_up_and_replaced(system: System, user: Protected) -> None:
    """T-09."""
    first, second, third = user.recovery_codes[:3]
    assert all(
        re.fullmatch(r"[0-9a-hjkmnp-tv-z]{5}(-[0-9a-hjkmnp-tv-z]{5}){3}", code)
        for code in user.recovery_codes
    )
    assert 20 * 5 >= 80  # bits of a code

    used = await user.show(await user.challenge(), first, "recovery-codes")
    spelled = second.upper().replace("-", " ")
    again = [
        await user.show(await user.challenge(), code, "recovery-codes")
        for code in (first, first.upper(), first.replace("-", ""), spelled, second)
    ]
    left = await call_as(user.person, "recovery-codes", method="GET")

    assert used.status == 200, used.body
    assert statuses(again) == [WRONG_CODE] * 3 + [(200, None), WRONG_CODE]
    assert left.json["remaining"] == 8
    assert left.headers["cache-control"] == "no-store"
    event = await system.event("recovery_code_used", client_id=user.person.tenant.id)
    assert (event.actor_id, event.data) == (user.person.id, {"remaining": 9})
    mail, *_ = await system.mails(user.person.email, "recovery_code_used")
    assert "9" in mail.text
    assert not any(code in mail.text + mail.html for code in user.recovery_codes)
    opened = await system.event("session_opened", client_id=user.person.tenant.id, after=1)
    assert "mfa" in str(opened.data["amr"])

    refused = [await call_as(user.person, "recovery-codes", body) for body in ({}, {"code": first})]
    replaced = await call_as(user.person, "recovery-codes", {"code": third})

    assert statuses(refused) == [(403, "step_up_required"), (403, "wrong_code")]
    assert replaced.status == 200, replaced.body
    fresh = replaced.json["recovery_codes"]
    assert len({*fresh, *user.recovery_codes}) == 20
    old = await user.show(await user.challenge(), user.recovery_codes[4], "recovery-codes")
    new = await user.show(await user.challenge(), fresh[4], "recovery-codes")
    assert (statuses([old]), new.status) == ([WRONG_CODE], 200)
    rows = await system.sql(
        "identity",
        "SELECT recovery_codes::text AS row FROM recovery_codes WHERE user_id = $1",
        user.person.id,
    )
    assert len(rows) == 10
    assert not any(code.replace("-", "") in row["row"].replace("-", "") for code in fresh for row in rows)


async def test_recovery_codes_replaced_at_once_leave_ten(system: System, user: Protected) -> None:
    answers = await asyncio.gather(
        *(call_as(user.person, "recovery-codes", {"code": code}) for code in user.recovery_codes)
    )

    assert 200 in {answer.status for answer in answers}
    left = await call_as(user.person, "recovery-codes", method="GET")
    assert left.json["remaining"] == 10
    last = [answer.json["recovery_codes"][0] for answer in answers if answer.status == 200]
    shown = [await user.show(await user.challenge(), code, "recovery-codes") for code in last]
    assert [answer.status for answer in shown].count(200) == 1


async def test_recovery_codes_stand_in_for_an_app_only(system: System, tenant: Tenant) -> None:
    person = await new_person(system, tenant)

    answer = await call_as(person, "recovery-codes", {"code": "123456"})

    assert (answer.status, answer.code) == (409, "mfa_not_enabled")
    user = await new_protected(system, tenant)
    login = await user.person.log_in()
    assert login.json["factors"] == ["totp", "recovery_code"]
    await system.sql(
        "identity", "UPDATE recovery_codes SET used_at = now() WHERE user_id = $1", user.person.id
    )
    login = await user.person.log_in()
    assert login.json["factors"] == ["totp"]


async def test_without_redis_logins_of_others_go_on_and_second_legs_wait(
    system: System, tenant: Tenant, user: Protected
) -> None:
    """F-01."""
    unprotected = await new_person(system, tenant)
    token = await user.challenge()
    async with another_identity(system, redis_url=SecretStr("redis://127.0.0.1:1")):
        away = [
            await user.person.log_in(),
            await user.show(token, user.app.at(0)),
            await user.show(token, user.recovery_codes[0], "recovery-codes"),
        ]
        alike = await unprotected.log_in()

    assert statuses(away) == [(503, "feature_unavailable")] * 3
    assert away[0].headers["retry-after"]
    assert alike.status == 200
    # No code was used up meanwhile.
    assert (await user.show(token, user.recovery_codes[0], "recovery-codes")).status == 200


async def test_flush_of_redis_revives_no_code_and_forgets_no_lock(system: System, user: Protected) -> None:
    """F-02."""
    code, recovery = user.app.code(), user.recovery_codes[0]
    assert (await user.show(await user.challenge(), code)).status == 200
    assert (await user.show(await user.challenge(), recovery, "recovery-codes")).status == 200
    waiting = await user.challenge()

    await flush(system)

    assert statuses([await user.show(waiting, user.app.code())]) == [NO_LOGIN]
    again = [
        await user.show(await user.challenge(), code),
        await user.show(await user.challenge(), recovery, "recovery-codes"),
    ]
    assert statuses(again) == [WRONG_CODE] * 2
    for _ in range(2):
        token = await user.challenge()
        for _ in range(THRESHOLD // 2 - 1):
            await user.show(token, user.app.wrong())
    token = await user.challenge()
    assert (await user.show(token, user.app.code())).code == "account_locked"
    await flush(system)
    token = await user.challenge()
    assert (await user.show(token, user.app.code())).code == "account_locked"


async def flush(system: System) -> None:
    """Lose what Redis holds."""
    redis = Redis.from_url(system.servers.redis_url)
    await redis.flushall()
    await redis.aclose()


async def test_factors_outlive_the_replacement_of_the_master_key(system: System, user: Protected) -> None:
    old = SecretStr(system.root_key)
    new = SecretStr(secrets.token_hex(32))
    async with another_identity(system, master_key=new):
        # The control: what was sealed under a key that nobody has any more opens nothing.
        lost = [
            await user.show(await user.challenge(), user.app.at(1)),
            await user.show(await user.challenge(), user.recovery_codes[0], "recovery-codes"),
        ]
    async with another_identity(system, master_key=new, master_key_previous=old):
        kept = [
            await user.show(await user.challenge(), user.app.code()),
            await user.show(await user.challenge(), user.recovery_codes[0], "recovery-codes"),
        ]

    assert [answer.status for answer in lost] == [500, 401]
    assert [answer.status for answer in kept] == [200, 200]
