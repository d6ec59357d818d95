"""API keys: added, listed, rotated, revoked, and dead for everyone from then on."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis.ids import new_id
from chassis.last_used import LastUsed
from services.orgs.api_keys import store
from services.orgs.api_keys.service import MAX_LIVE_KEYS
from services.orgs.tests.directories import code_of, directory, until_refused
from tests.harness import Answer, System, Tenant

GRACE = 3600


async def call(system: System, tenant: Tenant, method: str, where: str, body: Any = None) -> Answer:
    path = f"/api/admin/clients/{tenant.id}{where}"
    return await system.call("orgs", method, path, caller=system.admin(), json=body)


async def listed(system: System, tenant: Tenant) -> list[dict[str, Any]]:
    answer = await call(system, tenant, "GET", "/api-keys")
    assert answer.status == 200, answer.body
    return list(answer.json["items"])


async def live_secret_keys(system: System, tenant: Tenant) -> list[bytes]:
    rows = await system.sql(
        "orgs",
        "SELECT key_sha256 FROM api_keys WHERE client_id = $1 AND kind = 'secret' AND revoked_at IS NULL",
        tenant.id,
    )
    return [row["key_sha256"] for row in rows]


def sha256(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def test_list_when_client_is_new_then_its_two_keys_without_what_makes_them(
    system: System, tenant: Tenant
) -> None:
    keys = {key["kind"]: key for key in await listed(system, tenant)}
    assert set(keys) == {"secret", "publishable"}
    secret = keys["secret"]
    assert secret == {
        "id": secret["id"],
        "client_id": str(tenant.id),
        "kind": "secret",
        "name": "default",
        "prefix": tenant.api_key[:12],
        "status": "active",
        "created_at": tenant.document["created_at"],
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }


async def test_keys_when_read_by_any_route_or_from_the_table_then_never_there(
    system: System, tenant: Tenant
) -> None:
    made = await call(system, tenant, "POST", "/api-keys", {"name": "ci"})
    keys = [tenant.api_key, tenant.publishable_key, made.json["api_key"]]
    read = [
        (await call(system, tenant, "GET", "")).body,
        (await call(system, tenant, "GET", "/api-keys")).body,
        (await call(system, tenant, "PATCH", "", {"name": "x"})).body,
        repr(
            await system.sql("orgs", "SELECT k::text FROM api_keys AS k WHERE client_id = $1", tenant.id)
        ).encode(),
        repr(await system.sql("orgs", "SELECT payload FROM outbox")).encode(),
    ]
    for key in keys:
        assert not [text for text in read if key.encode() in text or key[12:].encode() in text]


@pytest.mark.parametrize(("kind", "prefix"), [("secret", "ask_"), ("publishable", "apk_")])
async def test_create_when_asked_then_the_key_works_and_is_audited(
    system: System, tenant: Tenant, kind: str, prefix: str
) -> None:
    made = await call(system, tenant, "POST", "/api-keys", {"name": " ci ", "kind": kind})
    assert made.status == 201, made.body
    assert re.fullmatch(prefix + r"[\w-]{43}", made.json["api_key"])
    assert made.json["key"] in await listed(system, tenant)
    assert (made.json["key"]["name"], made.json["key"]["kind"]) == ("ci", kind)
    async with directory(system) as clients:
        found = await clients.resolve_key(made.json["api_key"])
        assert (found.id, found.kind, found.client.id) == (made.json["key"]["id"], kind, tenant.id)
        # Keys live side by side.
        assert await code_of(clients, tenant.api_key) == str(tenant.id)
    event = await system.event(
        "api_key_created", client_id=tenant.id, kind=kind, prefix=made.json["api_key"][:12]
    )
    assert (event.target_type, event.target_id) == ("api_key", made.json["key"]["id"])


async def test_create_when_it_expires_then_works_until_then(system: System, tenant: Tenant) -> None:
    end = system.clock.now() + timedelta(hours=1)
    body = {"name": "short", "expires_at": end.isoformat()}
    made = await call(system, tenant, "POST", "/api-keys", body)
    assert made.status == 201, made.body
    async with directory(system) as clients:
        found = await clients.resolve_key(made.json["api_key"])
        assert found.expires_at == int(end.timestamp())
    with system.clock.advanced(timedelta(hours=1, seconds=1)):
        async with directory(system) as clients:
            assert await code_of(clients, made.json["api_key"]) == "invalid_api_key"
        statuses = {key["id"]: key["status"] for key in await listed(system, tenant)}
    assert statuses[made.json["key"]["id"]] == "expired"


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "name", "missing"),
        ({"name": "a", "kind": "admin"}, "kind", "enum"),
        ({"name": "a", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "not_in_future"),
        ({"name": "a", "expires_at": "2040-01-01T00:00:00"}, "expires_at", "timezone_aware"),
        ({"name": "a", "expires_at": "tomorrow"}, "expires_at", "datetime_from_date_parsing"),
    ],
)
async def test_create_when_body_is_bad_then_422_naming_the_field(
    system: System, tenant: Tenant, body: dict[str, Any], field: str, code: str
) -> None:
    answer = await call(system, tenant, "POST", "/api-keys", body)
    first = answer.json["errors"][0]
    assert (answer.status, first["field"], first["code"]) == (422, field, code)


async def test_create_when_body_names_another_client_then_ignored(system: System, tenant: Tenant) -> None:
    other = await system.tenant()
    body = {"name": "a", "client_id": str(other.id), "userId": str(new_id())}
    made = await call(system, tenant, "POST", "/api-keys", body)
    assert (made.status, made.json["key"]["client_id"]) == (201, str(tenant.id))
    assert len(await listed(system, other)) == 2


async def test_create_when_client_has_its_fill_then_409(system: System, tenant: Tenant) -> None:
    wanted = MAX_LIVE_KEYS - 2
    bodies = [{"name": f"key {number}"} for number in range(wanted + 5)]
    answers = await asyncio.gather(*(call(system, tenant, "POST", "/api-keys", body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [201] * wanted + [409] * 5
    assert {answer.code for answer in answers if answer.status == 409} == {"too_many_api_keys"}
    made = next(answer for answer in answers if answer.status == 201)
    assert (await call(system, tenant, "DELETE", f"/api-keys/{made.json['key']['id']}")).status == 204
    assert (await call(system, tenant, "POST", "/api-keys", {"name": "a"})).status == 201


async def test_revoke_when_answered_then_dead_for_who_remembers_it(system: System, tenant: Tenant) -> None:
    made = (await call(system, tenant, "POST", "/api-keys", {"name": "leaked"})).json
    async with directory(system) as clients:
        assert await code_of(clients, made["api_key"]) == str(tenant.id)
        revoked = await call(system, tenant, "DELETE", f"/api-keys/{made['key']['id']}")
        assert (revoked.status, revoked.body) == (204, b"")
        await until_refused(clients, made["api_key"])
        assert await code_of(clients, tenant.api_key) == str(tenant.id)
    shown = next(key for key in await listed(system, tenant) if key["id"] == made["key"]["id"])
    assert shown["status"] == "revoked"
    assert shown["revoked_at"] is not None
    event = await system.event("api_key_revoked", client_id=tenant.id)
    assert (event.target_id, event.data) == (made["key"]["id"], {"kind": "secret", "grace_seconds": 0})
    again = await call(system, tenant, "DELETE", f"/api-keys/{made['key']['id']}")
    assert (again.status, again.code) == (404, "api_key_not_found")


async def test_revoke_when_key_is_another_clients_then_404_and_it_lives(
    system: System, tenant: Tenant
) -> None:
    other = await system.tenant()
    key = (await listed(system, other))[0]
    answer = await call(system, tenant, "DELETE", f"/api-keys/{key['id']}")
    unknown = await call(system, tenant, "DELETE", f"/api-keys/{new_id()}")
    assert (answer.status, answer.code) == (404, "api_key_not_found")
    assert {**answer.json, "request_id": ""} == {**unknown.json, "request_id": ""}
    assert {key["status"] for key in await listed(system, other)} == {"active"}


@pytest.mark.parametrize("route", ["/rotate-api-key", "/rotate-key"])
async def test_rotate_when_no_grace_then_every_older_secret_key_is_dead(
    system: System, tenant: Tenant, route: str
) -> None:
    second = (await call(system, tenant, "POST", "/api-keys", {"name": "second"})).json["api_key"]
    async with directory(system) as clients:
        for key in (tenant.api_key, second):
            assert await code_of(clients, key) == str(tenant.id)
        rotated = await call(system, tenant, "POST", route)
        assert (rotated.status, set(rotated.json)) == (200, {"api_key"})
        for key in (tenant.api_key, second):
            await until_refused(clients, key)
        assert await code_of(clients, rotated.json["api_key"]) == str(tenant.id)
        assert await code_of(clients, tenant.publishable_key) == str(tenant.id)
    event = await system.event("api_key_rotated", client_id=tenant.id)
    assert event.data == {"prefix": rotated.json["api_key"][:12], "grace_seconds": 0}
    assert (event.target_type, event.target_id) == ("client", str(tenant.id))


async def test_rotate_when_grace_is_given_then_old_key_works_until_its_end(
    system: System, tenant: Tenant
) -> None:
    rotated = await call(system, tenant, "POST", "/rotate-api-key", {"grace_seconds": GRACE})
    assert rotated.status == 200, rotated.body
    end = int(system.clock.now().timestamp()) + GRACE
    async with directory(system) as clients:
        old = await clients.resolve_key(tenant.api_key)
        assert end - 5 <= old.expires_at <= end
        assert (await clients.resolve_key(rotated.json["api_key"])).expires_at == 0
    with system.clock.advanced(timedelta(seconds=GRACE + 1)):
        async with directory(system) as clients:
            assert await code_of(clients, tenant.api_key) == "invalid_api_key"
            assert await code_of(clients, rotated.json["api_key"]) == str(tenant.id)


async def test_rotate_when_in_a_grace_then_a_longer_one_does_not_extend_it_and_none_ends_it(
    system: System, tenant: Tenant
) -> None:
    await call(system, tenant, "POST", "/rotate-api-key", {"grace_seconds": 60})
    await call(system, tenant, "POST", "/rotate-api-key", {"grace_seconds": GRACE})
    async with directory(system) as clients:
        old = await clients.resolve_key(tenant.api_key)
    assert old.expires_at <= system.clock.now().timestamp() + 60
    last = await call(system, tenant, "POST", "/rotate-api-key")
    assert await live_secret_keys(system, tenant) == [sha256(last.json["api_key"])]
    async with directory(system) as clients:
        assert await code_of(clients, tenant.api_key) == "invalid_api_key"


async def test_rotate_when_twenty_at_once_then_exactly_one_secret_key_is_left(
    system: System, tenant: Tenant
) -> None:
    answers = await asyncio.gather(*(call(system, tenant, "POST", "/rotate-api-key") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    keys = {sha256(answer.json["api_key"]) for answer in answers}
    assert len(keys) == 20
    left = await live_secret_keys(system, tenant)
    assert len(left) == 1
    assert left[0] in keys
    async with directory(system) as clients:
        verdicts = [await code_of(clients, answer.json["api_key"]) for answer in answers]
    assert sorted(verdicts) == sorted([str(tenant.id), *["invalid_api_key"] * 19])


@pytest.mark.parametrize("grace", [-1, 604_801, "60", 1.5, True, None, [60], {"seconds": 1}])
async def test_rotate_when_grace_is_bad_then_422_and_no_key_dies(
    system: System, tenant: Tenant, grace: Any
) -> None:
    answer = await call(system, tenant, "POST", "/rotate-api-key", {"grace_seconds": grace})
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "grace_seconds")
    assert await live_secret_keys(system, tenant) == [sha256(tenant.api_key)]


async def test_rotate_when_repeated_with_its_idempotency_key_then_the_same_key(
    system: System, tenant: Tenant
) -> None:
    path = f"/api/admin/clients/{tenant.id}/rotate-api-key"
    headers = {"Idempotency-Key": str(new_id())}
    answers = [
        await system.call("orgs", "POST", path, caller=system.admin(), headers=headers, json={})
        for _ in range(2)
    ]
    assert answers[0].json == answers[1].json
    assert await live_secret_keys(system, tenant) == [sha256(answers[0].json["api_key"])]


async def test_suspend_when_answered_then_keys_open_nothing_until_activated(
    system: System, tenant: Tenant
) -> None:
    async with directory(system) as clients:
        assert await code_of(clients, tenant.api_key) == str(tenant.id)
        assert (await call(system, tenant, "PATCH", "", {"status": "suspended"})).status == 200
        await until_refused(clients, tenant.api_key)
        await until_refused(clients, tenant.publishable_key)
        assert not (await clients.get(tenant.id)).is_active
    await call(system, tenant, "PATCH", "", {"status": "active"})
    async with directory(system) as clients:
        assert await code_of(clients, tenant.api_key) == str(tenant.id)


async def test_resolve_when_used_then_last_used_is_written_later_and_never_goes_back(
    system: System, tenant: Tenant
) -> None:
    key = next(key for key in await listed(system, tenant) if key["kind"] == "secret")
    key_id = UUID(key["id"])
    async with system.db("orgs") as db:
        usage = LastUsed(db, system.clock, store.note_uses)
        usage.note(key_id)
        assert await last_used(system, tenant) is None
        await usage.flush()
        used_at = await last_used(system, tenant)
        assert used_at is not None
        with system.clock.advanced(timedelta(minutes=-5)):
            usage.note(key_id)
        await usage.flush()
        assert await last_used(system, tenant) == used_at
        with system.clock.advanced(timedelta(minutes=5)):
            usage.note(key_id)
        await usage.stop()
        assert await last_used(system, tenant) > used_at


async def last_used(system: System, tenant: Tenant) -> Any:
    rows = await system.sql(
        "orgs", "SELECT last_used_at FROM api_keys WHERE client_id = $1 AND kind = 'secret'", tenant.id
    )
    return rows[0]["last_used_at"]
