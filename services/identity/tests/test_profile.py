"""The own profile: what it shows, what may be changed, and who else learns of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from chassis.ids import new_id
from services.identity.tests.conftest import Person, another_identity, no_duties
from tests.harness import System, Tenant


async def patch(person: Person, body: Any) -> Any:
    """Call the route as the user."""
    return await person.system.call("identity", "PATCH", "/api/auth/me", caller=person.caller(), json=body)


async def refreshed(person: Person) -> dict[str, Any]:
    """The user as the next refresh shows it."""
    answer = await person.system.call(
        "token",
        "POST",
        "/api/auth/refresh",
        caller=person.tenant.caller(),
        json={"refresh_token": person.document["refresh_token"], "token_transport": "json"},
    )
    assert answer.status == 200, answer.body
    user: dict[str, Any] = answer.json["user"]
    return user


async def test_me_shows_the_user_of_the_token(system: System, person: Person) -> None:
    answer = await system.call("identity", "GET", "/api/auth/me", caller=person.caller())

    assert answer.status == 200
    assert answer.json == {**person.document["user"], "locale": None, "phone": None}


async def test_me_refuses_whoever_is_no_user_of_this_client(system: System, person: Person) -> None:
    other = await system.tenant()
    strangers = [
        other.user_caller(person.id, person.session_id),
        person.tenant.user_caller(new_id(), person.session_id),
    ]

    for method in ("GET", "PATCH"):
        body = None if method == "GET" else {"display_name": "Eve"}
        for caller in strangers:
            answer = await system.call("identity", method, "/api/auth/me", caller=caller, json=body)
            assert (answer.status, answer.code) == (401, "unauthenticated")
        answer = await system.call(
            "identity", method, "/api/auth/me", caller=person.tenant.caller(), json=body
        )
        assert answer.status == 403


async def test_patch_changes_the_named_fields_and_the_next_refresh_shows_them(
    system: System, person: Person
) -> None:
    first = await patch(
        person, {"display_name": " Grace ", "metadata": {"theme": {"dark": True}}, "locale": "pt-BR"}
    )
    second = await patch(person, {"phone": "+4915112345678"})

    assert (first.status, second.status) == (200, 200)
    user = second.json
    assert (user["display_name"], user["metadata"]) == ("Grace", {"theme": {"dark": True}})
    assert (user["locale"], user["phone"]) == ("pt-BR", "+4915112345678")
    assert user["updated_at"] > user["created_at"]
    assert (await refreshed(person))["display_name"] == "Grace"
    event = await system.event("user_updated", client_id=person.tenant.id)
    assert event.data == {"changed": ["display_name", "locale", "metadata"]}
    assert (event.actor_id, event.target_id) == (person.id, person.id)


async def test_patch_replaces_metadata_and_removes_by_null(person: Person) -> None:
    await patch(person, {"metadata": {"a": 1, "b": 2}, "locale": "en", "phone": "+12025550123"})

    answer = await patch(person, {"metadata": {"c": 3}, "locale": None, "phone": None})

    assert answer.json["metadata"] == {"c": 3}
    assert (answer.json["locale"], answer.json["phone"]) == (None, None)


async def test_patch_ignores_what_only_the_service_decides(person: Person) -> None:
    forged = {
        "email": "eve@example.com",
        "role": "admin",
        "status": "suspended",
        "email_verified": True,
        "id": "x",
    }

    alone, beside = await patch(person, forged), await patch(person, {**forged, "display_name": "Ada L."})

    assert (alone.status, alone.code) == (422, "validation_failed")
    user = beside.json
    assert (user["email"], user["role"], user["status"]) == (person.email, "user", "active")
    assert (user["email_verified"], user["id"], user["display_name"]) == (False, person.id, "Ada L.")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"display_name": None}, "display_name"),
        ({"metadata": None}, "metadata"),
        ({"display_name": "x" * 201}, "display_name"),
        ({"display_name": "a\nb"}, "display_name"),
        ({"display_name": ["x"]}, "display_name"),
        ({"metadata": {"x": "y" * 8192}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"locale": "english"}, "locale"),
        ({"locale": "en_US"}, "locale"),
        ({"locale": "en-"}, "locale"),
        ({"phone": "0151 123"}, "phone"),
        ({"phone": "+49151x"}, "phone"),
        ({"phone": "+1234567890123456"}, "phone"),
        ({"phone": "+٤٩١٥١١٢٣٤٥"}, "phone"),
    ],
)
async def test_patch_names_the_field_that_breaks_its_rule(person: Person, body: Any, field: str) -> None:
    answer = await patch(person, body)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert {fault["field"].split(".")[0] for fault in answer.json["errors"]} == {field}


async def test_patch_of_a_suspended_user_is_refused(system: System, person: Person) -> None:
    await system.sql("identity", "UPDATE users SET status = 'suspended' WHERE id = $1", UUID(person.id))

    answer = await patch(person, {"display_name": "Eve"})

    assert (answer.status, answer.code) == (401, "unauthenticated")


async def test_patch_while_token_is_away_reaches_it_later(system: System, person: Person) -> None:
    async with another_identity(system, token_grpc="127.0.0.1:1"):
        answer = await patch(person, {"display_name": "Grace"})
    assert answer.status == 200

    await no_duties(person)

    assert (await refreshed(person))["display_name"] == "Grace"


async def test_users_are_invisible_to_a_transaction_of_another_tenant(
    system: System, person: Person, tenant: Tenant
) -> None:
    other = await system.tenant()
    async with system.db("identity") as db:
        async with db.tenant(tenant.id) as tx:
            assert await tx.fetchval("SELECT count(*) FROM users") == 1
        for table in ("users", "passwords", "login_attempts", "session_duties"):
            async with db.tenant(other.id) as tx:
                assert await tx.fetchval(f"SELECT count(*) FROM {table}") == 0
