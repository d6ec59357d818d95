"""Changing a client: what may change, who is told, and what stays secret."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import nats
import pytest

from chassis.ids import new_id
from contracts.clients import INVALIDATE
from services.orgs.tests.directories import directory
from tests.harness import Answer, System, Tenant


async def patch(system: System, tenant: Tenant, **members: Any) -> Answer:
    path = f"/api/admin/clients/{tenant.id}"
    return await system.call("orgs", "PATCH", path, caller=system.admin(), json=members)


async def read(system: System, tenant: Tenant) -> dict[str, Any]:
    answer = await system.call("orgs", "GET", f"/api/admin/clients/{tenant.id}", caller=system.admin())
    assert answer.status == 200, answer.body
    return dict(answer.json)


async def test_patch_when_every_field_changes_then_answered_stored_and_audited(
    system: System, tenant: Tenant
) -> None:
    changes = {
        "name": "New name",
        "allowed_origins": ["https://new.example.com"],
        "webhook_url": "https://hooks.example.com/secret-path",
        "settings": {"brand": "New"},
        "status": "suspended",
        "token_mode": "v3_eddsa",
    }
    with system.clock.advanced(timedelta(seconds=5)):
        answer = await patch(system, tenant, **changes)
    assert answer.status == 200, answer.body
    assert answer.json == {**tenant.document, **changes, "updated_at": answer.json["updated_at"]}
    assert answer.json["updated_at"] > tenant.document["updated_at"]
    assert await read(system, tenant) == answer.json
    event = await system.event("client_updated", client_id=tenant.id)
    shown = {**changes, "webhook_url": "https://hooks.example.com/********"}
    before = {name: tenant.document[name] for name in changes}
    assert (event.data["before"], event.data["after"]) == (before, shown)
    assert (event.actor_type, event.target_id) == ("admin_key", str(tenant.id))


async def test_patch_when_one_field_is_sent_then_only_it_changes(system: System, tenant: Tenant) -> None:
    answer = await patch(system, tenant, name="Only")
    assert answer.json == {**tenant.document, "name": "Only", "updated_at": answer.json["updated_at"]}
    event = await system.event("client_updated", client_id=tenant.id)
    assert event.data == {"before": {"name": tenant.document["name"]}, "after": {"name": "Only"}}


async def test_patch_when_nothing_changes_then_no_event(system: System, tenant: Tenant) -> None:
    answer = await patch(system, tenant, name=tenant.document["name"], status="active")
    assert (answer.status, answer.json) == (200, tenant.document)
    await patch(system, tenant, name="Changed")
    event = await system.event("client_updated", client_id=tenant.id)
    assert event.data["after"] == {"name": "Changed"}


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"unknown": 1},
        {"id": "0190b6a8-7c1e-7000-8000-000000000000"},
        {"slug": "other", "api_key_hash": "00", "jwt_secret": "s", "cell": "gold"},
        {"allow_token_mode_downgrade": True},
    ],
)
async def test_patch_when_nothing_of_it_may_change_then_422(
    system: System, tenant: Tenant, members: dict[str, Any]
) -> None:
    answer = await patch(system, tenant, **members)
    assert (answer.status, answer.json["errors"][0]["code"]) == (422, "empty_patch")
    assert await read(system, tenant) == tenant.document


async def test_patch_when_it_smuggles_fields_then_they_are_ignored(system: System, tenant: Tenant) -> None:
    smuggled = {
        "id": str(new_id()),
        "slug": "stolen",
        "cell": "gold",
        "created_at": "2020-01-01T00:00:00Z",
        "api_key": "ask_mine",
        "api_key_hash": "00",
        "jwt_secret": "mine",
    }
    keys = "SELECT id, key_sha256 FROM api_keys WHERE client_id = $1 ORDER BY id"
    keys_before = await system.sql("orgs", keys, tenant.id)
    answer = await patch(system, tenant, name="Renamed", **smuggled)
    assert answer.json == {**tenant.document, "name": "Renamed", "updated_at": answer.json["updated_at"]}
    assert await system.sql("orgs", keys, tenant.id) == keys_before


@pytest.mark.parametrize("mode", ["v2_jwks", "v3_es256", "v3_eddsa"])
async def test_patch_when_token_mode_is_weakened_then_only_by_name(system: System, mode: str) -> None:
    tenant = await system.tenant(token_mode=mode)
    refused = await patch(system, tenant, token_mode="v1_hs256", name="Never")
    assert (refused.status, refused.code) == (409, "token_mode_downgrade")
    assert await read(system, tenant) == tenant.document
    asked = await patch(system, tenant, token_mode="v1_hs256", allow_token_mode_downgrade=True)
    assert (asked.status, asked.json["token_mode"]) == (200, "v1_hs256")
    back = await patch(system, tenant, token_mode=mode)
    assert (back.status, back.json["token_mode"]) == (200, mode)


async def test_patch_when_settings_are_sent_then_merged_at_the_top_and_null_removes(system: System) -> None:
    tenant = await system.tenant(settings={"keep": 1, "replace": {"a": 1, "b": 2}, "remove": True})
    answer = await patch(
        system, tenant, settings={"replace": {"a": 3}, "remove": None, "add": [], "never": None}
    )
    assert answer.json["settings"] == {"keep": 1, "replace": {"a": 3}, "add": []}
    event = await system.event("client_updated", client_id=tenant.id)
    assert event.data == {
        "before": {"settings": {"replace": {"a": 1, "b": 2}, "remove": True}},
        "after": {"settings": {"replace": {"a": 3}, "add": []}},
    }


async def test_patch_when_merged_settings_are_too_large_then_422(system: System) -> None:
    tenant = await system.tenant(settings={"a": "x" * 16_000})
    fits = await patch(system, tenant, settings={"b": "x" * 16_000})
    assert fits.status == 200
    answer = await patch(system, tenant, settings={"c": "x" * 16_000})
    assert answer.status == 422
    assert (answer.json["errors"][0]["field"], answer.json["errors"][0]["code"]) == ("settings", "too_large")


async def test_settings_when_they_hold_secrets_then_never_read_again_but_given_to_services(
    system: System,
) -> None:
    settings = {
        "oauth_providers": {"google": {"client_id": "g-1", "client_secret": "shh-google"}},
        "smtp_password": "shh-smtp",
        "hooks": [{"token": "shh-hook", "name": "n"}],
        "access_token_ttl": 900,
        "token_transport": "json",
    }
    tenant = await system.tenant(settings=settings)
    masked = {
        "oauth_providers": {"google": {"client_id": "g-1", "client_secret": "********"}},
        "smtp_password": "********",
        "hooks": [{"token": "********", "name": "n"}],
        "access_token_ttl": 900,
        "token_transport": "json",
    }
    assert tenant.document["settings"] == masked
    assert (await read(system, tenant))["settings"] == masked
    # Whoever writes back what was read keeps the secrets; a new one replaces its own only.
    masked["oauth_providers"]["google"]["client_id"] = "g-2"  # type: ignore[index]  # a nested literal
    masked["smtp_password"] = "shh-new"
    answer = await patch(system, tenant, settings=masked)
    assert "shh" not in answer.body.decode()
    rows = await system.sql("orgs", "SELECT settings FROM clients WHERE id = $1", tenant.id)
    for kept in ("shh-google", "shh-hook", "shh-new", "g-2"):
        assert kept in rows[0]["settings"]
    assert "shh-smtp" not in rows[0]["settings"]
    async with directory(system) as clients:
        seen = await clients.get(tenant.id)
    assert seen.settings["smtp_password"] == "shh-new"
    await system.event("client_updated", client_id=tenant.id)
    ours = [event for event in system.events if event.client_id == tenant.id]
    assert not [event for event in ours if b"shh" in event.encode()]


@pytest.mark.parametrize(
    ("members", "field", "code"),
    [
        ({"name": None}, "name", "string_type"),
        ({"name": ""}, "name", "string_too_short"),
        ({"allowed_origins": None}, "allowed_origins", "list_type"),
        ({"allowed_origins": ["https://a.example/path"]}, "allowed_origins.0", "origin_not_exact"),
        ({"settings": None}, "settings", "dict_type"),
        ({"status": None}, "status", "enum"),
        ({"status": "deleted"}, "status", "enum"),
        ({"status": "Active"}, "status", "enum"),
        ({"token_mode": None}, "token_mode", "enum"),
        ({"webhook_url": "https://10.0.0.1/"}, "webhook_url", "url_private"),
        ({"name": "a", "allow_token_mode_downgrade": "maybe"}, "allow_token_mode_downgrade", "bool_parsing"),
    ],
)
async def test_patch_when_body_is_bad_then_422_naming_the_field(
    system: System, tenant: Tenant, members: dict[str, Any], field: str, code: str
) -> None:
    answer = await patch(system, tenant, **members)
    first = answer.json["errors"][0]
    assert (answer.status, first["field"], first["code"]) == (422, field, code)
    assert await read(system, tenant) == tenant.document


async def test_patch_when_webhook_url_is_null_then_removed(system: System) -> None:
    tenant = await system.tenant(webhook_url="https://hooks.example.com/")
    answer = await patch(system, tenant, webhook_url=None)
    assert (answer.status, answer.json["webhook_url"]) == (200, None)


async def test_client_when_unknown_then_404(system: System) -> None:
    path = f"/api/admin/clients/{new_id()}"
    for method, where, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("GET", "/api-keys", None),
        ("POST", "/api-keys", {"name": "x"}),
        ("POST", "/rotate-api-key", None),
        ("POST", "/rotate-key", {"grace_seconds": 5}),
    ):
        answer = await system.call("orgs", method, path + where, caller=system.admin(), json=body)
        assert (answer.status, answer.code) == (404, "client_not_found"), (method, where)
    malformed = await system.call("orgs", "GET", "/api/admin/clients/me", caller=system.admin())
    assert (malformed.status, malformed.json["errors"][0]["field"]) == (422, "client_id")


async def test_patch_when_twenty_at_once_then_no_change_is_lost(system: System, tenant: Tenant) -> None:
    changes = [patch(system, tenant, settings={f"member_{number}": number}) for number in range(20)]
    assert {answer.status for answer in await asyncio.gather(*changes)} == {200}
    expected = {f"member_{number}": number for number in range(20)}
    assert (await read(system, tenant))["settings"] == expected


async def test_change_when_answered_then_caches_have_been_told(system: System, tenant: Tenant) -> None:
    told: list[str] = []
    listener = await nats.connect(system.servers.nats_url("gateway"))

    async def hear(message: Any) -> None:
        told.append(message.data.decode())

    await listener.subscribe(INVALIDATE, cb=hear)
    await listener.flush()
    own = f"/api/admin/clients/{tenant.id}"
    for number, (method, path, body) in enumerate(
        [
            ("PATCH", own, {"status": "suspended"}),
            ("POST", f"{own}/rotate-api-key", None),
            ("POST", f"{own}/api-keys", {"name": "x"}),
        ]
    ):
        assert (await system.call("orgs", method, path, caller=system.admin(), json=body)).status < 300
        # One connection delivers in order: after the round trip, what the server had has been heard.
        await listener.flush()
        assert told.count(str(tenant.id)) == number + 1, path
    await listener.close()
