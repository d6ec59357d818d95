"""Login: what it answers, that refusals tell nothing, and that hashes grow stronger by themselves."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any

import bcrypt
import pytest

from services.identity.tests.conftest import (
    PASSWORD,
    Person,
    address,
    another_identity,
    evaluations,
    log_in,
    sign_up,
    until,
)
from tests.harness import Answer, System, Tenant


def without_request_id(answer: Answer) -> dict[str, Any]:
    """A refusal, less what differs between any two requests."""
    return {name: value for name, value in answer.json.items() if name != "request_id"}


async def test_login_opens_a_session_and_remembers_when(system: System, person: Person) -> None:
    answer = await person.log_in()

    assert answer.status == 200
    opened = answer.json
    assert opened["session"]["id"] != person.session_id
    assert opened["user"]["id"] == person.id
    assert opened["user"]["last_login_at"] is not None
    event = await system.event("login_succeeded", client_id=person.tenant.id, method="password")
    assert (event.actor_type, event.actor_id, event.target_id) == ("user", person.id, person.id)
    assert event.data == {"method": "password", "opened_session_id": opened["session"]["id"]}
    me = await system.call("identity", "GET", "/api/auth/me", caller=person.caller())
    assert me.json["last_login_at"] == opened["user"]["last_login_at"]


async def test_login_keeps_no_earlier_refresh_token(person: Person) -> None:
    first, second = await person.log_in(), await person.log_in()

    assert first.json["refresh_token"] != second.json["refresh_token"]
    assert first.json["session"]["id"] != second.json["session"]["id"]


async def test_refused_logins_of_known_unknown_and_suspended_users_cannot_be_told_apart(
    system: System, person: Person
) -> None:
    suspended = address()
    assert (await sign_up(system, person.tenant, suspended)).status == 201
    await system.sql("identity", "UPDATE users SET status = 'suspended' WHERE email = $1", suspended)

    answers = []
    for email, password in [(person.email, "wrong password"), (address(), PASSWORD), (suspended, PASSWORD)]:
        before = evaluations()
        answers.append(await log_in(system, person.tenant, email, password))
        assert evaluations() == before + 1

    assert [answer.status for answer in answers] == [401, 401, 401]
    assert {answer.code for answer in answers} == {"invalid_credentials"}
    assert [without_request_id(answer) for answer in answers] == [without_request_id(answers[0])] * 3
    headers = [{k: v for k, v in answer.headers.items() if k != "x-request-id"} for answer in answers]
    assert headers == [headers[0]] * 3
    reasons = [
        (await system.event("login_failed", client_id=person.tenant.id, after=skipped)).data["reason"]
        for skipped in range(3)
    ]
    assert reasons == ["wrong_password", "unknown_email", "suspended"]


async def test_login_at_another_client_does_not_find_the_user(system: System, person: Person) -> None:
    other = await system.tenant()

    answer = await log_in(system, other, person.email)

    assert (answer.status, answer.code) == (401, "invalid_credentials")


async def test_login_compares_all_of_a_long_password(system: System, tenant: Tenant) -> None:
    email, longest = address(), "0123456789abcdef" * 4 + "12345678"
    assert len(longest) == 72
    assert (await sign_up(system, tenant, email, longest)).status == 201

    answers = [await log_in(system, tenant, email, longest + more) for more in ("", "a", "b")]

    assert [answer.status for answer in answers] == [200, 401, 401]


async def test_login_finds_a_password_in_either_unicode_form(system: System, tenant: Tenant) -> None:
    email, composed = address(), unicodedata.normalize("NFC", "crème brûlée 42")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    assert (await sign_up(system, tenant, email, decomposed)).status == 201

    answers = [
        await log_in(system, tenant, email, given) for given in (composed, decomposed, "creme brulee 42")
    ]

    assert [answer.status for answer in answers] == [200, 200, 401]


@pytest.mark.parametrize("password", ["", 7, ["x"], None, "with\x00nul", "x" * 2000])
async def test_login_refuses_a_password_that_cannot_be_one_before_hashing(
    person: Person, password: Any
) -> None:
    before = evaluations()

    answer = await person.log_in(password)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert evaluations() == before


async def test_login_replaces_a_weaker_hash_and_says_so(system: System, person: Person) -> None:
    weak = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    await system.sql("identity", "UPDATE passwords SET hash = $1 WHERE user_id = $2", weak, person.id)

    answers = await asyncio.gather(*(person.log_in() for _ in range(3)))

    assert [answer.status for answer in answers] == [200] * 3
    [row] = await system.sql("identity", "SELECT hash FROM passwords WHERE user_id = $1", person.id)
    assert row["hash"].startswith("$2b$10$")
    event = await system.event("password_rehashed", client_id=person.tenant.id)
    assert event.data == {"scheme": "bcrypt"}
    assert (await person.log_in()).status == 200


async def test_login_moves_between_schemes_by_configuration(system: System, person: Person) -> None:
    hashes = []
    for scheme in ("argon2id", "bcrypt"):
        async with another_identity(system, password_hash=scheme, hash_workers=1):
            assert (await person.log_in()).status == 200
            assert (await person.log_in("wrong password")).status == 401
            assert (await log_in(system, person.tenant, address())).status == 401
        hashes += await system.sql("identity", "SELECT hash FROM passwords WHERE user_id = $1", person.id)

    assert hashes[0]["hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hashes[1]["hash"].startswith("$2b$10$")


@pytest.mark.parametrize(
    "stored",
    [
        "$2b$17$" + "a" * 53,
        "$2b$31$" + "a" * 53,
        "$argon2id$v=19$m=9999999,t=2,p=1$c2FsdHNhbHRzYWx0$" + "a" * 43,
        "$argon2id$v=19$m=19456,t=999,p=1$c2FsdHNhbHRzYWx0$" + "a" * 43,
        "$1$salt$hash",
        PASSWORD,
        "",
    ],
)
async def test_login_never_evaluates_a_stored_hash_of_unknown_form_or_absurd_cost(
    system: System, person: Person, stored: str
) -> None:
    await system.sql("identity", "UPDATE passwords SET hash = $1 WHERE user_id = $2", stored, person.id)

    answer = await person.log_in()

    assert (answer.status, answer.code) == (401, "invalid_credentials")


async def test_login_overtaken_by_a_change_of_password_leaves_no_session(
    system: System, person: Person
) -> None:
    changed = {"current_password": PASSWORD, "new_password": "another fine passphrase"}
    before = evaluations()
    first_face = system.faces["identity"]
    # The login holds a verified password while it hashes it anew at a high cost: the change comes in between.
    async with another_identity(system, bcrypt_cost=15, hash_workers=1):
        login = asyncio.create_task(person.log_in())
        await until(lambda: evaluations() == before + 1)
        system.faces["identity"] = first_face
        change = await system.call(
            "identity", "POST", "/api/auth/change-password", caller=person.caller(), json=changed
        )
        answer = await login

    assert change.status == 200
    assert (answer.status, answer.code) == (401, "invalid_credentials")
    opened = await system.event("session_opened", client_id=person.tenant.id, after=1)
    revoked = await system.event("session_revoked", client_id=person.tenant.id)
    assert revoked.target_id == opened.target_id
    assert (await person.log_in("another fine passphrase")).status == 200


async def test_login_answers_503_and_counts_nothing_while_token_is_away(
    system: System, person: Person
) -> None:
    async with another_identity(system, token_grpc="127.0.0.1:1"):
        answers = [await person.log_in() for _ in range(7)]

    assert {answer.status for answer in answers} == {503}
    assert answers[0].headers["retry-after"]
    assert (await person.log_in()).status == 200


async def test_signup_says_that_the_account_exists_when_only_the_session_failed(
    system: System, tenant: Tenant
) -> None:
    email = address()
    async with another_identity(system, token_grpc="127.0.0.1:1"):
        answer = await sign_up(system, tenant, email)

    assert (answer.status, answer.code) == (503, "session_unavailable")
    assert "Log in" in answer.json["detail"]
    assert (await log_in(system, tenant, email)).status == 200
