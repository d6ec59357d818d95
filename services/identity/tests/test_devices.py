"""Remembered devices: the cookie, what it spares, and that a copy of it spares nothing (T-11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.identity.tests.conftest import PASSWORD, Person
from services.identity.tests.second_factors import Protected, new_person, new_protected
from tests.harness import Answer, System, Tenant

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36"
)
NEWER_CHROME = CHROME.replace("126", "127")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"
POLICY = {"mfa": {"mode": "allow", "trusted_device_bypass": True, "remember_device_days": 30}}


@pytest.fixture(scope="module")
async def trusting(system: System) -> Tenant:
    """A client that lets trusted devices skip the second factor."""
    return await system.tenant(settings={"adaptive_security": POLICY})


def device_cookie(answer: Answer) -> str:
    """The device token that an answer sets, checked for how it is kept."""
    (cookie,) = [c for c in answer.headers.get_list("set-cookie") if c.startswith("auth_device=")]
    assert {"HttpOnly", "Path=/api/auth", "SameSite=lax"} <= set(cookie.split("; "))
    return cookie.partition("=")[2].partition(";")[0]


async def enter(person: Person, token: str | None = None, **changes: Any) -> Answer:
    """Log in with the password, as a browser with cookies does."""
    caller = person.tenant.caller(**{"user_agent": CHROME, **changes})
    return await person.system.call(
        "identity",
        "POST",
        "/api/auth/login",
        caller=caller,
        json={"email": person.email, "password": PASSWORD},
        cookies={"auth_device": token} if token else None,
    )


async def remember(user: Protected) -> Answer:
    """Log in with the second factor in a browser, and have it remembered."""
    waiting = await enter(user.person)
    answer = await user.person.system.call(
        "identity",
        "POST",
        "/api/auth/totp/verify",
        caller=user.person.tenant.caller(user_agent=CHROME),
        json={
            "mfa_token": waiting.json["mfa_token"],
            "code": user.app.code(),
            "remember_device": True,
        },
    )
    assert answer.status == 200, answer.body
    return answer


async def devices_of(
    person: Person, opened: Answer, method: str = "GET", path: str = "", **more: Any
) -> Answer:
    """Call a device route in the session that a login opened."""
    amr = more.pop("amr", ("pwd", "otp", "mfa"))
    caller = person.tenant.user_caller(person.id, opened.json["session"]["id"], amr=amr)
    return await person.system.call("identity", method, f"/api/auth/devices{path}", caller=caller, **more)


def is_challenged(answer: Answer) -> bool:
    """Whether a login waits for the second factor."""
    assert answer.status == 200, answer.body
    assert ("access_token" in answer.json) is not ("mfa_required" in answer.json)
    return "mfa_required" in answer.json


async def test_remembered_device_skips_the_second_factor_and_its_token_changes_each_time(
    system: System, trusting: Tenant
) -> None:
    user = await new_protected(system, trusting)
    person = user.person
    assert is_challenged(await enter(person))

    opened = await remember(user)
    first = device_cookie(opened)
    again = await enter(person, first)
    second = device_cookie(again)
    newer = await enter(person, second, user_agent=NEWER_CHROME)

    assert not is_challenged(again)
    assert first != second
    assert not is_challenged(newer), "the same browser after its update"
    trusted = await system.event("device_trusted", client_id=trusting.id)
    assert trusted.data == {"user_id": person.id, "days": 30}
    stored = await system.sql("identity", "SELECT * FROM devices WHERE user_id = $1", UUID(person.id))
    assert len(stored) == 1
    assert all(token not in str(dict(stored[0])) for token in (first, second))
    # The first token again is a copy: it opens nothing, and whoever has the device must show the factor.
    assert is_challenged(await enter(person, first))
    assert is_challenged(await enter(person, device_cookie(newer), user_agent=NEWER_CHROME))
    assert (await system.event("device_distrusted", client_id=trusting.id)).data["reason"] == "copied"


async def _other_browser(user: Protected, token: str, _opened: Answer) -> Answer:
    return await enter(user.person, token, user_agent=FIREFOX)


async def _expired(user: Protected, token: str, _opened: Answer) -> Answer:
    with user.person.system.clock.advanced(timedelta(days=31)):
        return await enter(user.person, token)


async def _changed_password(user: Protected, token: str, opened: Answer) -> Answer:
    person = user.person
    caller = person.tenant.user_caller(person.id, opened.json["session"]["id"])
    for old, new in ((PASSWORD, f"{PASSWORD} 2"), (f"{PASSWORD} 2", PASSWORD)):
        changed = await person.system.call(
            "identity",
            "POST",
            "/api/auth/change-password",
            caller=caller,
            json={"current_password": old, "new_password": new},
        )
        assert changed.status == 200, changed.body
    return await enter(person, token)


async def _suspended(user: Protected, token: str, _opened: Answer) -> Answer:
    person = user.person
    path = f"/api/admin/clients/{person.tenant.id}/users/{person.id}"
    for status in ("suspended", "active"):
        body = {"status": status}
        changed = await person.system.call("identity", "PATCH", path, caller=person.system.admin(), json=body)
        assert changed.status == 200, changed.body
    return await enter(person, token)


async def _removed(user: Protected, token: str, opened: Answer) -> Answer:
    (device,) = (await devices_of(user.person, opened)).json["items"]
    assert (await devices_of(user.person, opened, "DELETE", f"/{device['id']}")).status == 204
    return await enter(user.person, token)


async def _distrusted(user: Protected, token: str, opened: Answer) -> Answer:
    (device,) = (await devices_of(user.person, opened)).json["items"]
    body = {"trusted": False}
    changed = await devices_of(user.person, opened, "PATCH", f"/{device['id']}", json=body, amr=("pwd",))
    assert (changed.status, changed.json["trusted"]) == (200, False)
    return await enter(user.person, token)


async def _other_user(user: Protected, token: str, _opened: Answer) -> Answer:
    other = await new_protected(user.person.system, user.person.tenant)
    return await enter(other.person, token)


async def _other_tenant(user: Protected, token: str, _opened: Answer) -> Answer:
    system = user.person.system
    other = await new_protected(system, await system.tenant(settings={"adaptive_security": POLICY}))
    return await enter(other.person, token)


@pytest.mark.parametrize(
    "attack",
    [
        _other_browser,
        _other_user,
        _other_tenant,
        _expired,
        _changed_password,
        _suspended,
        _removed,
        _distrusted,
    ],
    ids=lambda attack: attack.__name__,
)
async def test_trusted_device_when_copied_or_void_then_is_asked_for_the_second_factor(
    system: System, trusting: Tenant, attack: Callable[[Protected, str, Answer], Awaitable[Answer]]
) -> None:
    user = await new_protected(system, trusting)
    opened = await remember(user)
    control = await enter(user.person, device_cookie(opened))
    assert not is_challenged(control)

    assert is_challenged(await attack(user, device_cookie(control), control))


async def test_devices_when_listed_renamed_and_trusted(system: System, trusting: Tenant) -> None:
    person = await new_person(system, trusting)
    elsewhere = await enter(person, user_agent=FIREFOX, ip="198.51.100.9")
    opened = await enter(person)

    listed = (await devices_of(person, opened)).json["items"]

    assert [(d["name"], d["ip"], d["current"], d["trusted"]) for d in listed] == [
        ("Chrome on Windows", "203.0.113.7", True, False),
        ("Firefox on Linux", "198.51.100.9", False, False),
    ]
    path = f"/{listed[0]['id']}"
    renamed = await devices_of(person, opened, "PATCH", path, json={"name": " Laptop "})
    refused = await devices_of(person, opened, "PATCH", path, json={"trusted": True}, amr=("pwd",))
    trusted = await devices_of(person, opened, "PATCH", path, json={"trusted": True, "name": None})
    assert renamed.json["name"] == "Laptop"
    assert (refused.status, refused.code) == (403, "mfa_session_required")
    assert (trusted.json["trusted"], trusted.json["name"]) == (True, "Chrome on Windows")
    assert (await devices_of(person, opened, "PATCH", path, json={})).status == 422
    stranger = await new_person(system, trusting)
    for method, body in (("PATCH", {"name": "mine"}), ("DELETE", None)):
        for device_id in (listed[0]["id"], uuid4()):
            answer = await devices_of(stranger, elsewhere, method, f"/{device_id}", json=body)
            assert (answer.status, answer.code) == (404, "not_found")
    again = await enter(person, device_cookie(opened))
    in_browser = await devices_of(person, opened, cookies={"auth_device": device_cookie(again)})
    assert [d["current"] for d in in_browser.json["items"]] == [True, False], "by the cookie"


async def test_devices_when_the_policy_trusts_none_then_cannot_be_trusted(
    system: System, tenant: Tenant
) -> None:
    """Without `trusted_device_bypass` a remembered device spares nothing; with 0 days there is no trust."""
    user = await new_protected(system, tenant)
    assert is_challenged(await enter(user.person, device_cookie(await remember(user))))
    policy = {"mfa": {"remember_device_days": 0}}
    path = f"/api/admin/clients/{tenant.id}/security-policy"
    await system.call("identity", "PUT", path, caller=system.admin(), json=policy)

    opened = await remember(user)
    (current,) = [d for d in (await devices_of(user.person, opened)).json["items"] if d["current"]]
    trusted = await devices_of(user.person, opened, "PATCH", f"/{current['id']}", json={"trusted": True})

    assert current["trusted"] is False
    assert (trusted.status, trusted.code) == (409, "device_trust_off")


async def test_untrusted_devices_are_kept_to_a_number_and_json_clients_leave_none(
    system: System, tenant: Tenant
) -> None:
    person = await new_person(system, tenant)
    assert (await person.log_in()).status == 200
    count = "SELECT count(*) FROM devices WHERE user_id = $1"
    assert (await system.sql("identity", count, UUID(person.id)))[0][0] == 0
    rows = """
        INSERT INTO devices (id, client_id, user_id, token_hash, user_agent, ip, created_at, last_seen_at)
        SELECT gen_random_uuid(), $2, $1, sha256(n::text::bytea || $3), '', '', now(),
               now() - interval '1 day'
        FROM generate_series(1, 40) AS n
    """
    await system.sql("identity", rows, UUID(person.id), tenant.id, person.id.encode())

    opened = await enter(person)

    assert (await system.sql("identity", count, UUID(person.id)))[0][0] <= 21
    assert [d["current"] for d in (await devices_of(person, opened)).json["items"]].count(True) == 1


async def test_account_locked_by_strangers_when_the_owner_comes_with_the_device_then_is_let_in(
    system: System, tenant: Tenant
) -> None:
    """W-07; and the device has no more guesses than anybody."""
    person = await new_person(system, tenant)
    token = device_cookie(await enter(person))
    await system.sql(
        "identity",
        """
        INSERT INTO login_attempts (client_id, email_hash, source, attempts, locks, window_started_at,
                                    locked_until, updated_at)
        SELECT client_id, email_hash, '*', 50, 1, now(), now() + interval '10 minutes', now()
        FROM login_attempts WHERE client_id = $1 LIMIT 1
        ON CONFLICT (client_id, email_hash, source) DO UPDATE SET locked_until = excluded.locked_until
        """,
        tenant.id,
    )
    locked = await person.log_in()
    assert (locked.status, locked.code) == (429, "account_locked")

    assert (await enter(person, "dev_invented")).status == 429
    entered = await enter(person, token)

    assert entered.status == 200
    other = await new_person(system, tenant)
    assert (await enter(other, token)).status == 200, "unknown there, and that address is not locked"
    token = device_cookie(entered)
    wrong = [
        await system.call(
            "identity",
            "POST",
            "/api/auth/login",
            caller=tenant.caller(user_agent=CHROME),
            json={"email": person.email, "password": "wrong password"},
            cookies={"auth_device": token},
        )
        for _ in range(7)
    ]
    assert [answer.status for answer in wrong] == [401] * 5 + [429] * 2
