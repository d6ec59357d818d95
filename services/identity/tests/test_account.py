"""A copy of all that is held on a user, and the end of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

from chassis.context import CallerContext
from services.identity.tests.conftest import PASSWORD, Person, another_identity, no_duties, sign_up
from services.identity.tests.pages import register
from services.identity.tests.second_factors import new_person, new_protected
from services.identity.tests.step_ups import proof
from tests.harness import Answer, System, Tenant
from tests.webauthn_device import Device


async def call(
    system: System, method: str, path: str, caller: CallerContext, token: str | None = None
) -> Answer:
    """Call a route of the account with a proof, if there is one."""
    headers = {"x-step-up-token": token} if token else None
    return await system.call("identity", method, f"/api/auth/{path}", caller=caller, headers=headers)


async def proven(system: System, method: str, path: str, caller: CallerContext, **shown: Any) -> Answer:
    """Call a protected route of the account, refused first and then with the proof."""
    token = await proof(system, caller, await call(system, method, path, caller), **shown)
    return await call(system, method, path, caller, token)


async def test_export_has_everything_of_the_user_no_secret_and_nothing_of_others(
    system: System, tenant: Tenant
) -> None:
    user = await new_protected(system, tenant)
    person, other = user.person, await new_person(system, tenant)
    caller = person.caller()
    assert (await person.log_in()).json["mfa_required"]

    answer = await proven(system, "GET", "me/export", caller, factor="totp", code=user.app.code())

    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    held = answer.json
    assert held["user"]["email"] == person.email
    assert [session["id"] for session in held["sessions"]] == [person.session_id]
    assert held["login_history"][0]["method"] == "signup"
    factors = held["factors"]
    assert factors["recovery_codes_remaining"] == 10
    assert factors["totp_enabled_at"]
    assert factors["password_changed_at"]
    text = answer.body.decode()
    for secret in (PASSWORD, "$2", user.app.secret, *user.recovery_codes, other.id, other.email):
        assert secret not in text
    event = await system.event("data_exported", client_id=tenant.id)
    assert (event.actor_id, event.target_id, event.data) == (person.id, person.id, {})


async def test_deleted_user_is_gone_and_its_address_begins_anew(  # C-13
    system: System, tenant: Tenant
) -> None:
    person = await new_person(system, tenant)
    device = Device()
    assert (await register(person, device)).status == 201
    await system.sql("identity", "DELETE FROM passkeys WHERE user_id = $1", UUID(person.id))
    bystander = await new_person(system, tenant)
    caller = person.caller()
    refresh_token = person.document["refresh_token"]

    assert (await proven(system, "DELETE", "me", caller)).status == 204

    assert (await call(system, "GET", "me", caller)).status == 401
    assert (await person.log_in()).code == "invalid_credentials"
    body = {"refresh_token": refresh_token, "token_transport": "json"}
    refreshed = await system.call("token", "POST", "/api/auth/refresh", caller=tenant.caller(), json=body)
    assert refreshed.status == 401
    sessions = await system.call("token", "GET", "/api/auth/sessions", caller=caller)
    assert sessions.json["items"] == []
    event = await system.event("user_deleted", client_id=tenant.id)
    assert (event.actor_id, event.target_id, event.data) == (person.id, person.id, {})
    ended = await system.event("session_revoked", client_id=tenant.id, reason="user_deleted")
    assert ended.target_id == person.session_id
    assert (await system.mails(person.email, "account_deleted"))[0].subject
    assert (await bystander.log_in()).status == 200

    again = await sign_up(system, tenant, person.email, PASSWORD)
    assert again.status == 201
    assert again.json["user"]["id"] != person.id
    reborn = Person(system, tenant, person.email, again.json)
    assert (again.json["user"]["display_name"], again.json["user"]["email_verified"]) == ("", False)
    assert (await call(system, "GET", "devices", reborn.caller())).json["items"] == []
    assert (await call(system, "GET", "passkeys", reborn.caller())).json["items"] == []
    sessions = await system.call("token", "GET", "/api/auth/sessions", caller=reborn.caller())
    assert [session["id"] for session in sessions.json["items"]] == [reborn.session_id]
    assert (await call(system, "GET", "me", caller)).status == 401


async def test_nothing_personal_of_a_deleted_user_stays_in_any_table(system: System, tenant: Tenant) -> None:
    person = await new_person(system, tenant)
    marker = "Zaphod-Beeblebrox-Browser"
    assert (await person.log_in(user_agent=marker, ip="203.0.113.77")).status == 200
    assert (await proven(system, "DELETE", "me", person.caller())).status == 204
    await no_duties(person)

    # Mail to the user and events on the way to the audit log are there for their own time only.
    passing = {"local_inbox", "outbox"}
    for service in ("identity", "token"):
        for table in await system.sql(service, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            name = table["tablename"]
            if name in passing:
                continue
            rows = await system.sql(service, f"SELECT to_jsonb(t)::text AS text FROM {name} AS t")
            text = json.dumps([row["text"] for row in rows])
            for personal in (person.email, person.email.encode().hex(), marker):
                assert personal not in text, f"{service}.{name} still has {personal}"
    tombstones = await system.sql(
        "identity", "SELECT * FROM deleted_users WHERE user_id = $1", UUID(person.id)
    )
    assert len(tombstones) == 1


async def test_user_deleted_while_the_token_service_is_away_is_forgotten_later(
    system: System, person: Person
) -> None:
    token = await proof(system, person.caller(), await call(system, "DELETE", "me", person.caller()))
    async with another_identity(system, token_grpc="127.0.0.1:1"):
        assert (await call(system, "DELETE", "me", person.caller(), token)).status == 204
        assert (await call(system, "GET", "me", person.caller())).status == 401
    await no_duties(person)
    sessions = await system.call("token", "GET", "/api/auth/sessions", caller=person.caller())
    assert sessions.json["items"] == []


async def test_of_twenty_deletions_at_once_one_deletes(system: System, person: Person) -> None:
    caller = person.caller()
    tokens = [await proof(system, caller, await call(system, "DELETE", "me", caller)) for _ in range(4)]
    answers = await asyncio.gather(
        *(call(system, "DELETE", "me", caller, token) for token in tokens for _ in range(5))
    )
    statuses = [answer.status for answer in answers]
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 401, 403}
