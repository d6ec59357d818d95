"""Creating a client, through the HTTP face."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any
from uuid import UUID

import pytest

from chassis.context import Access
from tests.harness import Answer, System, Tenant

PATH = "/api/admin/clients"


async def create(system: System, headers: dict[str, str] | None = None, **members: Any) -> Answer:
    return await system.call("orgs", "POST", PATH, caller=system.admin(), json=members, headers=headers)


def fault(answer: Answer) -> tuple[int, str, str]:
    """Status, field and code of a refusal's first fault."""
    assert answer.status == 422, answer.body
    first = answer.json["errors"][0]
    return answer.status, first["field"], first["code"]


async def test_create_when_only_named_then_defaults_and_both_keys_once(system: System) -> None:
    name = f"  Acmé & Söhne {secrets.token_hex(4)} "
    answer = await create(system, name=name)
    assert answer.status == 201, answer.body
    assert set(answer.json) == {"client", "api_key", "publishable_key"}
    assert re.fullmatch(r"ask_[\w-]{43}", answer.json["api_key"])
    assert re.fullmatch(r"apk_[\w-]{43}", answer.json["publishable_key"])
    client = answer.json["client"]
    assert client == {
        "id": client["id"],
        "name": name.strip(),
        "slug": f"acme-sohne-{name.split()[-1]}",
        "status": "active",
        "token_mode": "v2_jwks",
        "allowed_origins": [],
        "webhook_url": None,
        "settings": {},
        "cell": "default",
        "created_at": client["created_at"],
        "updated_at": client["created_at"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", client["created_at"])
    assert UUID(client["id"]).version == 7
    read = await system.call("orgs", "GET", f"{PATH}/{client['id']}", caller=system.admin())
    assert (read.status, read.json) == (200, client)


async def test_create_when_everything_is_given_then_kept(system: System) -> None:
    slug = f"own-{secrets.token_hex(4)}"
    wanted: dict[str, Any] = {
        "name": "Own",
        "slug": slug,
        "allowed_origins": ["https://app.example.com", "http://localhost:3000"],
        "webhook_url": "https://hooks.example.com/in?tenant=1",
        "settings": {"brand_name": "Own", "nested": {"a": [1, 2.5, None, True]}},
        "token_mode": "v3_eddsa",
    }
    answer = await create(system, **wanted)
    assert answer.status == 201, answer.body
    assert {name: answer.json["client"][name] for name in wanted} == wanted


async def test_create_then_events_name_client_keys_and_actor_without_secrets(system: System) -> None:
    tenant = await system.tenant(
        settings={"smtp": {"password": "hunter2-hunter2"}, "api_token": "tok-123", "brand": "B"},
        webhook_url="https://hooks.example.com/services/T000/capability",
    )
    event = await system.event("client_created", client_id=tenant.id)
    assert (event.actor_type, event.target_type, event.target_id) == ("admin_key", "client", str(tenant.id))
    assert (event.ip, event.user_agent) == ("203.0.113.1", "pytest")
    assert event.data["after"] == {
        "name": tenant.document["name"],
        "slug": tenant.document["slug"],
        "status": "active",
        "token_mode": "v3_es256",
        "allowed_origins": ["https://app.example.com"],
        "webhook_url": "https://hooks.example.com/********",
        "settings": {"smtp": {"password": "********"}, "api_token": "********", "brand": "B"},
    }
    secret = await system.event("api_key_created", client_id=tenant.id, kind="secret")
    publishable = await system.event("api_key_created", client_id=tenant.id, kind="publishable")
    assert (secret.data["prefix"], publishable.data["prefix"]) == (
        tenant.api_key[:12],
        tenant.publishable_key[:12],
    )
    told = b"".join(event.encode() for event in system.events if event.client_id == tenant.id)
    for kept_quiet in (tenant.api_key, tenant.publishable_key, "hunter2", "tok-123", "capability"):
        assert kept_quiet.encode() not in told


async def test_create_when_slug_is_taken_then_409_and_nothing_is_made(system: System, tenant: Tenant) -> None:
    answer = await create(system, name="Thief", slug=tenant.document["slug"])
    assert (answer.status, answer.code) == (409, "slug_taken")
    rows = await system.sql("orgs", "SELECT id FROM clients WHERE slug = $1", tenant.document["slug"])
    assert [row["id"] for row in rows] == [tenant.id]


async def test_create_when_derived_slug_is_taken_or_reserved_then_made_distinct(system: System) -> None:
    name = f"Twin {secrets.token_hex(4)}"
    first, second = await create(system, name=name), await create(system, name=name)
    assert (first.status, second.status) == (201, 201)
    base = first.json["client"]["slug"]
    assert re.fullmatch(rf"{base}-[0-9a-f]{{6}}", second.json["client"]["slug"])
    reserved = await create(system, name="Admin")
    assert re.fullmatch(r"admin-[0-9a-f]{6}", reserved.json["client"]["slug"])
    unwritable = await create(system, name="株式会社")
    assert re.fullmatch(r"client(-[0-9a-f]{6})?", unwritable.json["client"]["slug"])


async def test_create_when_twenty_want_one_slug_at_once_then_one_gets_it(system: System) -> None:
    slug = f"race-{secrets.token_hex(4)}"
    answers = await asyncio.gather(*(create(system, name="Racer", slug=slug) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 19
    assert {answer.code for answer in answers if answer.status == 409} == {"slug_taken"}
    rows = await system.sql(
        "orgs",
        "SELECT k.kind FROM clients AS c JOIN api_keys AS k ON k.client_id = c.id WHERE c.slug = $1",
        slug,
    )
    assert sorted(row["kind"] for row in rows) == ["publishable", "secret"]


@pytest.mark.parametrize(
    ("slug", "code"),
    [
        ("admin", "slug_reserved"),
        ("api", "slug_reserved"),
        ("well-known", "slug_reserved"),
        ("0190b6a8-7c1e-7000-8000-000000000000", "slug_reserved"),
        ("Admin", "slug_invalid"),
        ("..", "slug_invalid"),
        (".", "slug_invalid"),
        ("", "slug_invalid"),
        ("a/b", "slug_invalid"),
        ("a b", "slug_invalid"),
        ("-a", "slug_invalid"),
        ("a-", "slug_invalid"),
        ("xn--pple-43d", "slug_invalid"),
        ("\u0430cme", "slug_invalid"),
        ("acme\u200b", "slug_invalid"),
        ("acme\n", "slug_invalid"),
        ("admin\u0131", "slug_invalid"),
        ("a" * 64, "slug_invalid"),
        (7, "string_type"),
        (["a"], "string_type"),
    ],
)
async def test_create_when_slug_is_unfit_then_422(system: System, slug: Any, code: str) -> None:
    assert fault(await create(system, name="Slug", slug=slug)) == (422, "slug", code)


@pytest.mark.parametrize("slug", ["a", "7", "a" * 57, "acme-2-go"])
async def test_create_when_slug_is_fit_then_taken_as_it_is(system: System, slug: str) -> None:
    wanted = f"{slug}{secrets.token_hex(3)}"
    answer = await create(system, name="Slug", slug=wanted)
    assert (answer.status, answer.json["client"]["slug"]) == (201, wanted)


@pytest.mark.parametrize(
    ("members", "field", "code"),
    [
        ({}, "name", "missing"),
        ({"name": None}, "name", "string_type"),
        ({"name": "  "}, "name", "string_too_short"),
        ({"name": "a" * 121}, "name", "string_too_long"),
        ({"name": "a\u202eb"}, "name", "name_invalid"),
        ({"name": "a\r\nb"}, "name", "name_invalid"),
        ({"name": "a\u0000"}, "body", "value_error"),
        ({"name": ["a"]}, "name", "string_type"),
        ({"name": "a", "token_mode": "none"}, "token_mode", "enum"),
        ({"name": "a", "token_mode": "V2_JWKS"}, "token_mode", "enum"),
        ({"name": "a", "allowed_origins": "https://a.example"}, "allowed_origins", "list_type"),
        (
            {"name": "a", "allowed_origins": ["https://a.example", "*"]},
            "allowed_origins.1",
            "origin_not_exact",
        ),
        ({"name": "a", "allowed_origins": ["http://a.example"]}, "allowed_origins.0", "origin_not_secure"),
        ({"name": "a", "allowed_origins": [None]}, "allowed_origins.0", "string_type"),
        (
            {"name": "a", "allowed_origins": [f"https://a{n}.example" for n in range(101)]},
            "allowed_origins",
            "too_long",
        ),
        ({"name": "a", "webhook_url": "http://hooks.example.com"}, "webhook_url", "url_not_secure"),
        ({"name": "a", "webhook_url": "https://127.0.0.1/"}, "webhook_url", "url_private"),
        ({"name": "a", "settings": []}, "settings", "dict_type"),
        ({"name": "a", "settings": None}, "settings", "dict_type"),
        (
            {"name": "a", "settings": {"a": "x" * 15_000, "b": "x" * 15_000, "c": "é" * 2_000}},
            "settings",
            "too_large",
        ),
        ({"name": "a", "settings": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}}}, "", ""),
        (
            {"name": "a", "settings": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {}}}}}}}}}},
            "settings",
            "too_deep",
        ),
        ({"name": "a", "settings": {"n": 2**53}}, "settings", "number_invalid"),
        # PostgreSQL writes numbers out: of 1e300 it makes three hundred digits.
        ({"name": "a", "settings": {"n": [1e300]}}, "settings", "number_invalid"),
        ({"name": "a", "settings": {"n": [-1e-300]}}, "settings", "number_invalid"),
        ({"name": "a", "settings": {"api_token": "********"}}, "settings", "mask_without_secret"),
        ({"name": "a", "settings": {"": 1}}, "settings", "name_invalid"),
        ({"name": "a", "settings": {"k" * 129: 1}}, "settings", "name_invalid"),
    ],
)
async def test_create_when_body_is_bad_then_422_naming_the_field(
    system: System, members: dict[str, Any], field: str, code: str
) -> None:
    answer = await create(system, **members)
    if not field:  # the positive control of the case after it
        assert answer.status == 201, answer.body
        return
    assert fault(answer) == (422, field, code)


async def test_create_when_body_is_over_64_kib_then_413(system: System) -> None:
    answer = await create(system, name="a", settings={"a": "x" * 70_000})
    assert (answer.status, answer.code) == (413, "body_too_large")


async def test_create_when_body_sets_what_is_not_its_to_set_then_ignored(system: System) -> None:
    forged: dict[str, Any] = {
        "id": "0190b6a8-7c1e-7000-8000-000000000000",
        "status": "suspended",
        "cell": "gold",
        "created_at": "2020-01-01T00:00:00.000000Z",
    }
    answer = await create(system, name="Mass", api_key="ask_mine", **forged)
    assert answer.status == 201
    assert answer.json["api_key"] != "ask_mine"
    for name, value in forged.items():
        assert answer.json["client"][name] != value


async def test_create_when_repeated_with_its_idempotency_key_then_the_same_client(system: System) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    name = f"Once {secrets.token_hex(4)}"
    first = await create(system, headers=headers, name=name)
    again = await create(system, headers=headers, name=name)
    assert (first.status, again.status, again.json) == (201, 201, first.json)
    assert again.headers["idempotent-replayed"] == "true"
    other = await create(system, headers=headers, name="Other")
    assert (other.status, other.code) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("access", "status"),
    [(Access.PUBLIC, 401), (Access.API_KEY, 403), (Access.USER, 403), (Access.SCIM, 403)],
)
async def test_admin_routes_when_caller_is_no_admin_then_refused(
    system: System, tenant: Tenant, access: Access, status: int
) -> None:
    caller = tenant.caller(access=access)
    own = f"{PATH}/{tenant.id}"
    for method, path, body in (
        ("GET", PATH, None),
        ("POST", PATH, {"name": "x"}),
        ("GET", own, None),
        ("PATCH", own, {"status": "active"}),
        ("GET", f"{own}/api-keys", None),
        ("POST", f"{own}/api-keys", {"name": "x", "client_id": str(tenant.id)}),
        ("DELETE", f"{own}/api-keys/{tenant.id}", None),
        ("POST", f"{own}/rotate-api-key", None),
        ("POST", f"{own}/rotate-key", None),
    ):
        answer = await system.call("orgs", method, path, caller=caller, json=body)
        assert answer.status == status, (method, path)
        unsigned = await system.call("orgs", method, path, json=body)
        assert unsigned.status == 401, (method, path)
    assert (await system.call("orgs", "GET", own, caller=system.admin())).json == tenant.document
