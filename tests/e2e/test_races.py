"""One decision, many at once: two gateways before two processes, and one winner."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import httpx

from tests.e2e.stack import ORIGIN, PASSWORD, Caller, Login, Stack, Tenant
from tests.e2e.test_journey import NEW_PASSWORD
from tests.webauthn_device import Device

ROUNDS = 3
LOCKOUT_THRESHOLD = 5
HEAVY = 100


async def test_sign_up_when_raced_with_one_email_then_one_user_is_made(stack: Stack, shop: Tenant) -> None:
    """X-01."""
    for number in range(ROUNDS):
        spellings = (
            f"race-{number}@example.org",
            f"RACE-{number}@Example.org",
            f" race-{number}@example.org ",
        )

        async def sign_up(index: int, spellings: tuple[str, ...] = spellings) -> httpx.Response:
            body = {"email": spellings[index % 3], "password": PASSWORD, "token_transport": "json"}
            return await stack.call("POST", "/api/auth/signup", shop, gateway=index % 2, json=body)

        answers = await asyncio.gather(*(sign_up(index) for index in range(20)))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 19}
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"email_taken"}
    users = await stack.sql("identity", "SELECT count(*) FROM users WHERE client_id = $1", shop.id)
    assert users[0]["count"] == ROUNDS


async def test_refresh_when_raced_50_ways_over_two_gateways_then_one_lineage_lives(
    stack: Stack, shop: Tenant
) -> None:
    """X-02, O-16: two tabs that refresh at once stay logged in, and a token never has two successors."""
    for _ in range(ROUNDS):
        user = await stack.sign_up(shop)
        answers = await asyncio.gather(
            *(stack.refresh(shop, user.refresh_token, gateway=index % 2) for index in range(50))
        )
        winners = [Login.of(shop, answer) for answer in answers if answer.status_code == 200]
        assert winners
        assert len({winner.refresh_token for winner in winners}) == 1, "two lineages"
        assert {winner.session_id for winner in winners} == {user.session_id}
        live = await live_refresh_tokens(stack, user)
        assert live == 1

        # Nobody was logged out: the successor any of them was given works, and once only.
        assert (await stack.call("GET", "/api/auth/me", winners[-1], gateway=1)).status_code == 200
        following = await stack.refresh(shop, winners[0].refresh_token, gateway=1)
        assert following.status_code == 200, following.text
        assert (await stack.refresh(shop, Login.of(shop, following).refresh_token)).status_code == 200


async def live_refresh_tokens(stack: Stack, user: Login) -> int:
    """How many unused refresh tokens a session has in the database."""
    rows = await stack.sql(
        "token",
        "SELECT count(*) FROM refresh_tokens WHERE session_id = $1 AND used_at IS NULL",
        user.session_id,
    )
    return int(rows[0]["count"])


async def test_used_refresh_token_when_its_successor_was_used_then_the_whole_family_dies(
    stack: Stack, shop: Tenant
) -> None:
    """O-15: reuse ends this session everywhere, and no other."""
    user = await stack.sign_up(shop)
    other = await stack.log_in(user)
    second = Login.of(shop, await stack.refresh(shop, user.refresh_token))
    third = Login.of(shop, await stack.refresh(shop, second.refresh_token, gateway=1))
    replayed = await stack.refresh(shop, user.refresh_token)
    assert (replayed.status_code, replayed.json()["code"]) == (401, "invalid_refresh_token")
    for token in (second.refresh_token, third.refresh_token):
        assert (await stack.refresh(shop, token, gateway=1)).status_code == 401
    assert not (await stack.validate(third.access_token, shop.api_key, gateway=1)).valid
    event = await stack.event(shop.id, "refresh_token_reuse_detected")
    assert event["target"]["id"] == user.session_id
    assert (await stack.refresh(shop, other.refresh_token)).status_code == 200


async def test_refresh_when_raced_with_a_change_of_password_then_no_other_session_survives(
    stack: Stack, shop: Tenant
) -> None:
    """X-11, as far as there are routes: after the answer nothing that was issued meanwhile works."""
    for number in range(ROUNDS):
        user = await stack.sign_up(shop)
        others = [await stack.log_in(user) for _ in range(4)]
        change = {"current_password": PASSWORD, "new_password": f"{NEW_PASSWORD}-{number}"}
        changing = asyncio.create_task(stack.call("POST", "/api/auth/change-password", user, json=change))
        issued: list[Login] = list(others)

        async def keep_refreshing(login: Login, index: int, issued: list[Login] = issued) -> None:
            while True:
                answer = await stack.refresh(shop, login.refresh_token, gateway=index % 2)
                if answer.status_code != 200:
                    return
                login = Login.of(shop, answer)
                issued.append(login)

        refreshing = [asyncio.create_task(keep_refreshing(login, n)) for n, login in enumerate(others)]
        changed = await changing
        assert changed.status_code == 200, changed.text
        late = await asyncio.gather(
            *(stack.validate(login.access_token, shop.api_key, gateway=1) for login in issued)
        )
        assert not any(answer.valid for answer in late)
        await asyncio.gather(*refreshing)
        for login in issued:
            assert (await stack.refresh(shop, login.refresh_token)).status_code == 401
        assert (await stack.call("GET", "/api/auth/me", user)).status_code == 200


async def test_api_key_when_rotated_then_the_old_one_is_dead_at_the_answer(stack: Stack) -> None:
    """X-12: at both gateways, whatever they remember; and raced rotations leave one live key."""
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    for gateway in (0, 1):
        assert (await stack.call("GET", "/api/auth/me", user, gateway=gateway)).status_code == 200
    path = f"/api/admin/clients/{tenant.id}/rotate-api-key"
    rotated = await stack.call("POST", path, stack.admin)
    assert rotated.status_code == 200, rotated.text
    for gateway in (0, 1):
        old = await stack.call("GET", "/api/auth/me", user, gateway=gateway)
        assert (old.status_code, old.json()["code"]) == (401, "invalid_api_key")
        fresh = {"x-api-key": rotated.json()["api_key"]}
        assert (
            await stack.call("GET", "/api/auth/me", user, gateway=gateway, headers=fresh)
        ).status_code == 200
    assert (await stack.validate(user.access_token, tenant.api_key)).error == "invalid_api_key"

    raced = await asyncio.gather(
        *(stack.call("POST", path, stack.admin, gateway=index % 2) for index in range(20))
    )
    assert {answer.status_code for answer in raced} == {200}
    works = []
    for answer in raced:
        key = {"x-api-key": answer.json()["api_key"]}
        works.append((await stack.call("GET", "/api/auth/me", user, headers=key)).status_code)
    assert Counter(works) == {200: 1, 401: 19}


async def test_api_key_when_rotated_with_grace_then_both_work_for_a_while(stack: Stack) -> None:
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    path = f"/api/admin/clients/{tenant.id}/rotate-key"
    rotated = await stack.call("POST", path, stack.admin, json={"grace_seconds": 60})
    fresh = {"x-api-key": rotated.json()["api_key"]}
    for headers in ({}, fresh):
        assert (await stack.call("GET", "/api/auth/me", user, headers=headers)).status_code == 200
    assert (await stack.call("GET", "/api/auth/me", user, headers={"origin": ORIGIN})).status_code == 200


async def test_wrong_passwords_when_sent_at_once_over_two_processes_then_few_are_looked_at(
    stack: Stack, shop: Tenant
) -> None:
    """W-06: the lockout counts before it hashes, so a burst cannot slip through."""
    user = await stack.sign_up(shop)

    async def attempt(index: int, password: str) -> httpx.Response:
        body = {"email": user.email.upper() if index % 3 else user.email, "password": password}
        return await stack.call("POST", "/api/auth/login", shop, gateway=index % 2, json=body)

    answers = await asyncio.gather(*(attempt(index, f"guess-number-{index}") for index in range(HEAVY)))
    assert {answer.status_code for answer in answers} == {401, 429}
    evaluated = [answer for answer in answers if answer.status_code == 401]
    assert len(evaluated) <= LOCKOUT_THRESHOLD
    locked = next(answer for answer in answers if answer.status_code == 429)
    assert locked.json()["code"] == "account_locked"
    assert int(locked.headers["retry-after"]) > 0

    for gateway in (0, 1):
        right = await attempt(gateway, PASSWORD)
        assert (right.status_code, right.json()["code"]) == (429, "account_locked")
    neighbour = await stack.sign_up(shop)
    await stack.log_in(neighbour)
    assert (await stack.call("GET", "/api/auth/me", user)).status_code == 200
    event = await stack.event(shop.id, "account_locked")
    assert user.email not in repr(event)


async def test_unknown_address_when_guessed_at_then_locks_as_a_known_one(stack: Stack, shop: Tenant) -> None:
    body = {"email": "nobody@example.org", "password": "guess-number-1"}
    answers = [
        await stack.call("POST", "/api/auth/login", shop, json=body) for _ in range(LOCKOUT_THRESHOLD + 2)
    ]
    assert [answer.status_code for answer in answers] == [401] * LOCKOUT_THRESHOLD + [429] * 2


async def test_session_when_revoked_at_one_gateway_then_the_other_refuses_refresh_at_once(
    stack: Stack, shop: Tenant
) -> None:
    """E-05: logout and deletion hold at once for refresh and gRPC wherever they are asked."""
    user = await stack.sign_up(shop)
    by_logout, by_deletion = await stack.log_in(user), await stack.log_in(user, gateway=1)
    body = {"refresh_token": by_logout.refresh_token}
    assert (await stack.call("POST", "/api/auth/logout", shop, gateway=0, json=body)).status_code == 204
    path = f"/api/auth/sessions/{by_deletion.session_id}"
    assert (await stack.call("DELETE", path, user, gateway=1)).status_code == 204
    for ended in (by_logout, by_deletion):
        for gateway in (0, 1):
            assert (await stack.refresh(shop, ended.refresh_token, gateway=gateway)).status_code == 401
            assert not (await stack.validate(ended.access_token, shop.api_key, gateway=gateway)).valid
    assert (await stack.validate(user.access_token, shop.api_key)).valid


async def test_passkey_when_answers_race_over_two_gateways_then_one_is_accepted(
    stack: Stack, shop: Tenant
) -> None:
    """X-08, P-03."""
    page = "http://localhost:8080"
    for _ in range(ROUNDS):
        user, device = await stack.sign_up(shop), Device(counts=False)

        async def post(
            path: str, caller: Caller, body: Any = None, gateway: int = 0, **parameters: str
        ) -> httpx.Response:
            path = f"/api/auth/passkey/{path}"
            return await stack.call("POST", path, caller, gateway=gateway, json=body, params=parameters)

        begun = (await post("register/begin", user)).json()
        made = {"credential": device.create(begun["options"], origin=page)}
        kept = await asyncio.gather(
            *(post("register/finish", user, made, gateway=index % 2) for index in range(20))
        )
        assert Counter(answer.status_code for answer in kept) == {201: 1, 400: 19}

        begun = (await post("login/begin", shop)).json()
        shown = device.get(begun["options"], origin=page)
        opened = await asyncio.gather(
            *(
                post("login/finish", shop, shown, gateway=index % 2, session_id=begun["session_id"])
                for index in range(20)
            )
        )
        assert Counter(answer.status_code for answer in opened) == {200: 1, 401: 19}
    keys = await stack.sql("identity", "SELECT count(*) FROM passkeys WHERE client_id = $1", UUID(shop.id))
    assert keys[0]["count"] == ROUNDS
