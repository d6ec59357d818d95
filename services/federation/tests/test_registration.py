"""Dynamic client registration (RFC 7591) and its management (RFC 7592), through the provider's face."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from chassis.context import Access, CallerContext
from chassis.ids import new_id
from contracts.apps import DEVICE_CODE
from tests.harness import BASE_URL, Answer, System, Tenant

CALLBACK = "https://rp.example/callback"
METADATA = {"redirect_uris": [CALLBACK], "client_name": "Relying party"}


def anybody() -> CallerContext:
    """Whoever calls the endpoint, as the gateway passes it on."""
    return CallerContext(access=Access.OAUTH, request_id="test-app", ip="203.0.113.21", user_agent="rp")


async def initial_token(system: System, tenant: Tenant, **members: Any) -> tuple[str, str]:
    """Let apps register; the token and its id."""
    path = f"/api/admin/clients/{tenant.id}/initial-access-tokens"
    made = await system.call("orgs", "POST", path, caller=system.admin(), json=members)
    assert made.status == 201, made.body
    return made.json["token"], made.json["initial_access_token"]["id"]


async def call(system: System, method: str, path: str, token: str | None, body: Any = None) -> Answer:
    """Call the endpoint with a bearer token."""
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    return await system.call("federation", method, path, caller=anybody(), json=body, headers=headers)


async def register(system: System, token: str | None, metadata: Any = METADATA) -> Answer:
    """Register an app."""
    return await call(system, "POST", "/register", token, metadata)


async def stored(system: System, tenant: Tenant, app_id: str) -> Answer:
    """Show an app to an admin."""
    return await system.call(
        "orgs", "GET", f"/api/admin/clients/{tenant.id}/apps/{app_id}", caller=system.admin()
    )


def error(answer: Answer) -> tuple[int, str]:
    """Status and OAuth error of a refusal, which is never stored."""
    assert answer.headers["cache-control"] == "no-store"
    return answer.status, str(answer.json["error"])


@pytest.fixture(scope="module")
async def tenant(system: System) -> Tenant:
    """One for the whole file."""
    return await system.tenant()


async def test_register_when_let_then_the_app_lives_changes_and_deletes_itself(
    system: System, tenant: Tenant
) -> None:
    token, _ = await initial_token(system, tenant)
    made = await register(system, token, {**METADATA, "scope": "openid email", "unknown_member": 1})
    assert made.status == 201, made.body
    assert made.headers["cache-control"] == "no-store"
    shown = made.json
    app_id, own = shown["client_id"], shown["registration_access_token"]
    path = f"/register/{app_id}"
    assert shown["registration_client_uri"] == f"{BASE_URL}{path}"
    assert shown["client_secret"].startswith("acs_")
    assert own.startswith("rat_")
    assert {name: shown[name] for name in ("client_secret_expires_at", "redirect_uris", "scope")} == {
        "client_secret_expires_at": 0,
        "redirect_uris": [CALLBACK],
        "scope": "openid email",
    }
    assert (shown["grant_types"], shown["response_types"]) == (["authorization_code"], ["code"])
    kept = (await stored(system, tenant, app_id)).json
    assert (kept["trusted"], kept["require_consent"], kept["require_pkce"], kept["registered"]) == (
        False,
        True,
        True,
        True,
    )
    created = await system.event("app_created", client_id=tenant.id, method="registration")
    assert created.target_id == app_id
    trusting = await system.call(
        "orgs",
        "PATCH",
        f"/api/admin/clients/{tenant.id}/apps/{app_id}",
        caller=system.admin(),
        json={"trusted": True},
    )
    assert trusting.status == 422

    read = await call(system, "GET", path, own)
    assert read.status == 200
    assert {"client_secret", "registration_access_token"} & set(read.json) == set()
    change = {**METADATA, "client_id": app_id, "client_name": "Renamed", "token_endpoint_auth_method": "none"}
    for name in ("registration_access_token", "client_secret_expires_at", "client_id_issued_at"):
        refused = await call(system, "PUT", path, own, {**change, name: 0})
        assert error(refused) == (400, "invalid_client_metadata")
    assert error(await call(system, "PUT", path, own, METADATA)) == (400, "invalid_client_metadata")
    changed = await call(system, "PUT", path, own, change)
    assert changed.status == 200, changed.body
    assert (changed.json["client_name"], changed.json["scope"]) == ("Renamed", "openid email")
    renewed = changed.json["registration_access_token"]
    assert error(await call(system, "GET", path, own)) == (401, "invalid_token")
    assert (await call(system, "GET", path, renewed)).status == 200
    assert (await call(system, "DELETE", path, renewed)).status == 204
    assert error(await call(system, "GET", path, renewed)) == (401, "invalid_token")
    assert (await stored(system, tenant, app_id)).status == 404


async def test_register_when_the_token_opens_nothing_then_is_401(system: System, tenant: Tenant) -> None:
    """O-21: neither no credential, nor another kind of one, nor one that is used up registers an app."""
    token, token_id = await initial_token(system, tenant, max_uses=2)
    made = await register(system, token)
    own = made.json["registration_access_token"]
    for bad in (None, "", "x", f"{token}x", token[:-1], own, tenant.api_key, tenant.publishable_key):
        answer = await register(system, bad)
        assert error(answer) == (401, "invalid_token"), bad
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    basic = await system.call(
        "federation",
        "POST",
        "/register",
        caller=anybody(),
        json=METADATA,
        headers={"authorization": "Basic eDp5"},
    )
    assert error(basic) == (401, "invalid_token")
    in_query = await call(system, "POST", f"/register?access_token={token}", None, METADATA)
    assert error(in_query) == (401, "invalid_token")
    # A refusal uses nothing up: the second use is still there, and the last.
    assert error(await register(system, token, {"redirect_uris": []})) == (400, "invalid_redirect_uri")
    assert (await register(system, token)).status == 201
    assert error(await register(system, token)) == (401, "invalid_token")
    tokens = f"/api/admin/clients/{tenant.id}/initial-access-tokens"
    listed = await system.call("orgs", "GET", tokens, caller=system.admin())
    mine = next(item for item in listed.json["items"] if item["id"] == token_id)
    assert (mine["status"], mine["uses"]) == ("used_up", 2)
    assert token not in listed.body.decode()

    revoked, revoked_id = await initial_token(system, tenant)
    gone = await system.call("orgs", "DELETE", f"{tokens}/{revoked_id}", caller=system.admin())
    assert gone.status == 204
    assert error(await register(system, revoked)) == (401, "invalid_token")
    late, _ = await initial_token(system, tenant)
    with system.clock.advanced(timedelta(days=8)):
        assert error(await register(system, late)) == (401, "invalid_token")
    assert (await register(system, late)).status == 201


async def test_register_when_twenty_have_a_token_of_one_use_then_one_app_is_registered(
    system: System, tenant: Tenant
) -> None:
    token, _ = await initial_token(system, tenant)
    answers = await asyncio.gather(*(register(system, token) for _ in range(20)))
    assert Counter(answer.status for answer in answers) == {201: 1, 401: 19}
    (winner,) = (answer for answer in answers if answer.status == 201)
    app_id, own = winner.json["client_id"], winner.json["registration_access_token"]
    change = {**METADATA, "client_id": app_id}
    puts = await asyncio.gather(*(call(system, "PUT", f"/register/{app_id}", own, change) for _ in range(20)))
    assert Counter(answer.status for answer in puts) == {200: 1, 401: 19}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"redirect_uris": ["http://rp.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://rp.example/cb#x"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://*.rp.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://rp.example/cb"}, "invalid_redirect_uri"),
        ({"redirect_uris": ["com.example.app:/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        (
            {"token_endpoint_auth_method": "none", "grant_types": ["client_credentials"]},
            "invalid_client_metadata",
        ),
        ({"grant_types": ["password"]}, "invalid_client_metadata"),
        ({"grant_types": []}, "invalid_client_metadata"),
        ({"grant_types": [], "response_types": []}, "invalid_client_metadata"),
        ({"grant_types": ["implicit"], "response_types": ["token"]}, "invalid_client_metadata"),
        ({"response_types": ["id_token"]}, "invalid_client_metadata"),
        ({"scope": "openid admin"}, "invalid_client_metadata"),
        ({"scope": 'openid "'}, "invalid_client_metadata"),
        ({"jwks_uri": "https://rp.example/jwks"}, "invalid_client_metadata"),
        (
            {"jwks": {"keys": [{"kty": "oct", "k": "AAAA", "kid": "1", "alg": "HS256"}]}},
            "invalid_client_metadata",
        ),
        ({"subject_type": "pairwise"}, "invalid_client_metadata"),
        ({"id_token_signed_response_alg": "none"}, "invalid_client_metadata"),
        ({"id_token_encrypted_response_alg": "RSA-OAEP"}, "invalid_client_metadata"),
        ({"logo_uri": "data:image/png;base64,AA"}, "invalid_client_metadata"),
        ({"client_name": "Evil\u202egnp"}, "invalid_client_metadata"),
        ({"software_statement": "eyJhbGciOiJub25lIn0.e30."}, "unapproved_software_statement"),
        ([], "invalid_client_metadata"),
        ("x", "invalid_client_metadata"),
    ],
)
async def test_register_when_the_metadata_is_not_acceptable_then_says_why(
    system: System, tenant: Tenant, members: Any, code: str
) -> None:
    """RFC 7591 §3.2.2; the token stays as it was. Positive control: the same without the fault."""
    token, _ = await initial_token(system, tenant)
    metadata = {**METADATA, **members} if isinstance(members, dict) else members
    assert error(await register(system, token, metadata)) == (400, code)
    assert (await register(system, token)).status == 201


async def test_register_when_the_body_is_no_json_then_is_refused(system: System, tenant: Tenant) -> None:
    token, _ = await initial_token(system, tenant)
    for content, kind in (
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 5000, "application/json"),
        (b"redirect_uris=x", "application/x-www-form-urlencoded"),
        (b'{"client_name": "\\ud800"}', "application/json"),
    ):
        answer = await system.call(
            "federation",
            "POST",
            "/register",
            caller=anybody(),
            content=content,
            headers={"authorization": f"Bearer {token}", "content-type": kind},
        )
        assert error(answer) == (400, "invalid_client_metadata"), content
    assert (await register(system, token)).status == 201


async def test_management_when_the_token_is_of_another_app_or_tenant_then_is_401(
    system: System, tenant: Tenant
) -> None:
    """A-01, O-21: each app has power over itself alone, and none without its tenant."""
    other = await system.tenant()
    mine = (await register(system, (await initial_token(system, tenant))[0])).json
    theirs = (await register(system, (await initial_token(system, other))[0])).json
    by_admin, secret = await system.app(tenant)
    for app_id, token in (
        (mine["client_id"], theirs["registration_access_token"]),
        (theirs["client_id"], mine["registration_access_token"]),
        (mine["client_id"], mine["client_secret"]),
        (mine["client_id"], ""),
        (by_admin, secret),
        (by_admin, mine["registration_access_token"]),
        (str(new_id()), mine["registration_access_token"]),
        ("x", mine["registration_access_token"]),
        (str(tenant.id), tenant.api_key),
    ):
        for method, body in (("GET", None), ("PUT", {**METADATA, "client_id": app_id}), ("DELETE", None)):
            assert error(await call(system, method, f"/register/{app_id}", token, body)) == (
                401,
                "invalid_token",
            )
    own, path = mine["registration_access_token"], f"/register/{mine['client_id']}"
    assert (await call(system, "GET", path, own)).status == 200
    await system.call(
        "orgs",
        "PATCH",
        f"/api/admin/clients/{tenant.id}/apps/{mine['client_id']}",
        caller=system.admin(),
        json={"status": "disabled"},
    )
    assert error(await call(system, "GET", path, own)) == (401, "invalid_token")
    suspend = {"status": "suspended"}
    await system.call("orgs", "PATCH", f"/api/admin/clients/{other.id}", caller=system.admin(), json=suspend)
    path = f"/register/{theirs['client_id']}"
    assert error(await call(system, "GET", path, theirs["registration_access_token"])) == (
        401,
        "invalid_token",
    )


@pytest.mark.parametrize("grant", ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"])
async def test_grant_that_asks_nobody_for_consent_is_for_no_app_that_registers_itself(
    system: System, tenant: Tenant, grant: str
) -> None:
    """O-21: neither at once nor by a change. Positive control: an admin's own app may have it."""
    token, _ = await initial_token(system, tenant)
    wanted = {**METADATA, "grant_types": ["authorization_code", grant]}
    assert error(await register(system, token, wanted)) == (400, "invalid_client_metadata")
    made = (await register(system, token)).json
    path, own = f"/register/{made['client_id']}", made["registration_access_token"]
    change = {**wanted, "client_id": made["client_id"]}
    assert error(await call(system, "PUT", path, own, change)) == (400, "invalid_client_metadata")
    assert (await call(system, "GET", path, own)).json["grant_types"] == ["authorization_code"]
    await system.app(tenant, grant_types=["authorization_code", grant])


async def test_management_when_an_admin_restricted_the_app_then_undoes_nothing_of_it(
    system: System, tenant: Tenant
) -> None:
    """O-21. Positive control: before that it may have all of it, and what is less is taken."""
    token, _ = await initial_token(system, tenant)
    wide = {
        **METADATA,
        "scope": "openid profile email",
        "grant_types": ["authorization_code", "refresh_token"],
        "require_pushed_authorization_requests": False,
        "dpop_bound_access_tokens": False,
    }
    made = (await register(system, token, {**wide, "scope": None})).json
    path, app_id = f"/register/{made['client_id']}", made["client_id"]
    own, wide["client_id"] = made["registration_access_token"], app_id

    async def put(**members: Any) -> tuple[str, list[str], bool, bool]:
        nonlocal own
        answer = await call(system, "PUT", path, own, {**wide, **members})
        assert answer.status == 200, answer.body
        own = answer.json["registration_access_token"]
        return (
            answer.json["scope"],
            answer.json["grant_types"],
            answer.json["require_pushed_authorization_requests"],
            answer.json["dpop_bound_access_tokens"],
        )

    assert await put() == ("openid profile email", wide["grant_types"], False, False)
    restricted = {
        "scopes": ["openid", "email"],
        "grant_types": ["authorization_code"],
        "require_par": True,
        "dpop_bound_access_tokens": True,
    }
    admins = f"/api/admin/clients/{tenant.id}/apps/{app_id}"
    narrowing = await system.call("orgs", "PATCH", admins, caller=system.admin(), json=restricted)
    assert narrowing.status == 200, narrowing.body
    for members in ({}, {"scope": None}, {"scope": "openid profile email org"}):
        assert await put(**members) == ("openid email", ["authorization_code"], True, True)
    kept = (await stored(system, tenant, app_id)).json
    assert {name: kept[name] for name in restricted} == restricted
    assert (await put(scope="email"))[0] == "email"


async def test_management_when_no_grant_would_be_left_then_is_refused_and_changes_nothing(
    system: System, tenant: Tenant
) -> None:
    """RFC 7591 §2: left out, `grant_types` is the code's, which an app on devices does not get by itself."""
    token, _ = await initial_token(system, tenant)
    device = {"grant_types": [DEVICE_CODE, "refresh_token"], "response_types": []}
    made = (await register(system, token, {**METADATA, **device})).json
    path, own = f"/register/{made['client_id']}", made["registration_access_token"]
    change = {**METADATA, "client_id": made["client_id"], "client_name": "Other"}
    lefts: tuple[dict[str, list[str]], ...] = (
        {},
        {"grant_types": []},
        {"grant_types": ["authorization_code"]},
    )
    for left in lefts:
        refused = await call(system, "PUT", path, own, {**change, **left})
        assert error(refused) == (400, "invalid_client_metadata"), left
    shown = (await call(system, "GET", path, own)).json
    assert (shown["grant_types"], shown["client_name"]) == (device["grant_types"], made["client_name"])
    narrowed = await call(system, "PUT", path, own, {**change, **device, "grant_types": [DEVICE_CODE]})
    assert (narrowed.status, narrowed.json["grant_types"]) == (200, [DEVICE_CODE])


async def test_management_when_the_app_leaves_secrets_and_returns_then_only_the_new_one_lives(
    system: System, tenant: Tenant
) -> None:
    """O-21. Positive control: a change that keeps the method keeps the secret."""
    token, _ = await initial_token(system, tenant)
    made = (await register(system, token)).json
    app_id, own = made["client_id"], made["registration_access_token"]
    path = f"/api/admin/clients/{tenant.id}/apps/{app_id}/secrets"
    for method, states in (
        ("client_secret_post", ["active"]),
        ("none", ["revoked"]),
        ("client_secret_basic", ["active", "revoked"]),
    ):
        change = {**METADATA, "client_id": app_id, "token_endpoint_auth_method": method}
        changed = await call(system, "PUT", f"/register/{app_id}", own, change)
        assert changed.status == 200, changed.body
        own = changed.json["registration_access_token"]
        assert ("client_secret" in changed.json) is (method == "client_secret_basic")
        listed = await system.call("orgs", "GET", path, caller=system.admin())
        assert [secret["status"] for secret in listed.json["items"]] == states
