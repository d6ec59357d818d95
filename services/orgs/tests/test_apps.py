"""Apps: what admins do with them, and what other processes are told of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from chassis.ids import new_id
from chassis.probes import Probes
from contracts.apps import DEFAULT_SCOPES
from contracts.gen.internal.orgs.v1 import apps_pb2
from contracts.gen.internal.orgs.v1.apps_pb2_grpc import AppServiceStub
from services.orgs.tests.directories import app_directory, process
from tests.harness import Answer, System, Tenant

_SECONDS = 5.0
CALLBACK = "https://rp.example/callback"
RESOURCE = "https://api.example/v1"


async def test_directory_when_asked_then_knows_apps_and_tenants(system: System) -> None:
    tenant = await system.tenant(settings={"oidc_redirect_uris": ["https://rp.example/cb"]})
    app_id, secret = await system.app(tenant, name="Shop", scopes=["openid", "email"])
    async with app_directory(system) as apps:
        app = await apps.find(app_id)
        assert app is not None
        assert (app.id, app.client.id, app.name, app.is_usable) == (app_id, tenant.id, "Shop", True)
        assert (app.scopes, app.auth_method) == (("openid", "email"), "client_secret_basic")
        assert app.allows_redirect("https://app.example.com/callback")
        assert app.live_secret(secret) is not None
        assert app.live_secret(f"{secret}x") is None
        own = await apps.find(str(tenant.id))
        assert own is not None
        assert own.is_tenant
        assert own.is_trusted
        assert own.redirect_uris == ("https://rp.example/cb",)
        for unknown in (str(new_id()), "x", "", app_id.upper(), "https://mcp.example/client"):
            assert await apps.find(unknown) is None


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin routes of a tenant's apps."""

    system: System
    tenant: Tenant

    async def __call__(self, method: str, path: str = "", body: Any = None, **options: Any) -> Answer:
        """Call one, with the break-glass key unless told otherwise."""
        url = f"/api/admin/clients/{self.tenant.id}/apps{path}"
        options = {"caller": self.system.admin(), **options}
        return await self.system.call("orgs", method, url, json=body, **options)

    async def patch_settings(self, **settings: Any) -> Answer:
        """Change the tenant's settings."""
        url = f"/api/admin/clients/{self.tenant.id}"
        return await self.system.call(
            "orgs", "PATCH", url, caller=self.system.admin(), json={"settings": settings}
        )


@pytest.fixture(scope="module")
async def tenant(system: System) -> Tenant:
    """One for the whole file, with a resource."""
    return await system.tenant(settings={"oidc_audiences": [RESOURCE]})


@pytest.fixture
def admin(system: System, tenant: Tenant) -> Admin:
    """The routes."""
    return Admin(system, tenant)


def faults(answer: Answer) -> set[tuple[str, str]]:
    """Field and code of each fault."""
    assert answer.status == 422, answer.body
    return {(fault["field"].partition(".")[0], fault["code"]) for fault in answer.json["errors"]}


async def test_app_when_created_changed_and_deleted_then_every_process_follows(
    system: System, tenant: Tenant, admin: Admin
) -> None:
    body = {
        "name": " Shop ",
        "redirect_uris": [CALLBACK, CALLBACK],
        "scopes": ["openid", "email"],
        "audiences": [RESOURCE],
        # What nobody can set.
        "id": str(new_id()),
        "client_id": str(new_id()),
        "client_secret": "acs_mine",
        "status": "disabled",
        "registered": True,
    }
    made = await admin("POST", body=body)
    assert made.status == 201, made.body
    app, secret = made.json["app"], made.json["client_secret"]
    app_id = app["id"]
    assert (app["name"], app["redirect_uris"], app["status"]) == ("Shop", [CALLBACK], "active")
    assert (app["client_id"], app["registered"], app["trusted"]) == (str(tenant.id), False, False)
    assert app_id != body["id"]
    assert secret.startswith("acs_")
    assert (await admin("GET", f"/{app_id}")).json == app
    created = await system.event("app_created", client_id=tenant.id)
    assert (created.target_id, created.data["method"]) == (app_id, "admin")

    async with app_directory(system) as apps:
        found = await apps.find(app_id)
        assert found is not None
        assert found.live_secret(secret) is not None
        changed = await admin("PATCH", f"/{app_id}", {"redirect_uris": ["https://new.example/cb"]})
        assert (changed.status, changed.json["scopes"]) == (200, ["openid", "email"])
        # The answer comes after every process was told.
        found = await apps.find(app_id)
        assert found is not None
        assert found.redirect_uris == ("https://new.example/cb",)
        assert (await admin.patch_settings(oidc_allowed_scopes=["openid"])).status == 200
        async with asyncio.timeout(_SECONDS):
            while (await apps.find(app_id)).scopes != ("openid",):  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        assert (await admin.patch_settings(oidc_allowed_scopes=None)).status == 200
        assert (await admin("PATCH", f"/{app_id}", {"status": "disabled"})).status == 200
        found = await apps.find(app_id)
        assert found is not None
        assert not found.is_usable
        assert (await admin("DELETE", f"/{app_id}")).status == 204
        assert await apps.find(app_id) is None
    updated = await system.event("app_updated", client_id=tenant.id)
    assert updated.data["before"] == {"redirect_uris": [CALLBACK]}
    assert updated.data["after"] == {"redirect_uris": ["https://new.example/cb"]}
    await system.event("app_deleted", client_id=tenant.id)
    for method, rest, change in (("GET", "", None), ("PATCH", "", {"name": "x"}), ("DELETE", "", None)):
        gone = await admin(method, f"/{app_id}{rest}", change)
        assert (gone.status, gone.code) == (404, "app_not_found")
    said = "".join(str(event.data) for event in system.events if event.client_id == tenant.id)
    assert secret not in said


async def test_secrets_when_added_rotated_and_revoked_then_only_live_ones_work(
    system: System, tenant: Tenant, admin: Admin
) -> None:
    app_id, first = await system.app(tenant)
    secrets = f"/{app_id}/secrets"
    added = await admin("POST", secrets, {"name": "ci"})
    assert added.status == 201, added.body
    second = added.json["client_secret"]
    rotated = await admin("POST", f"{secrets}/{added.json['secret']['id']}/rotate", {"grace_seconds": 60})
    assert rotated.status == 200, rotated.body
    third = rotated.json["client_secret"]
    async with app_directory(system) as apps:

        async def live() -> list[bool]:
            found = await apps.find(app_id)
            assert found is not None
            return [found.live_secret(secret) is not None for secret in (first, second, third)]

        assert await live() == [True, True, True]
        listed = await admin("GET", secrets)
        # what was shown once is nowhere again.
        for shown in (listed, await admin("GET", f"/{app_id}"), await admin("GET")):
            assert not [raw for raw in (first, second, third) if raw.encode() in shown.body]
        stored = await system.sql("orgs", "SELECT * FROM app_secrets WHERE client_id = $1", tenant.id)
        assert not [raw for raw in (first, second, third) if raw in str(stored)]
        by_prefix = {item["prefix"]: item for item in listed.json["items"]}
        assert {raw[:12] for raw in (first, second, third)} == set(by_prefix)
        assert by_prefix[second[:12]]["expires_at"] is not None
        first_id = by_prefix[first[:12]]["id"]
        assert (await admin("DELETE", f"{secrets}/{first_id}")).status == 204
        assert await live() == [False, True, True]
        again = await admin("DELETE", f"{secrets}/{first_id}")
        assert (again.status, again.code) == (404, "app_secret_not_found")
        at_once = await admin("POST", f"{secrets}/{by_prefix[third[:12]]['id']}/rotate")
        assert await live() == [False, True, False]
        assert (await admin("POST", f"{secrets}/{first_id}/rotate")).code == "app_secret_not_found"
        found = await apps.find(app_id)
        assert found is not None
        used = found.live_secret(at_once.json["client_secret"])
        assert used is not None
    # A process writes uses once a minute, and when it stops.
    async with process(system) as port, system.channel("orgs", caller="token", port=port) as channel:
        noted = apps_pb2.NoteSecretUsesRequest(secret_ids=[str(used.id)])
        await AppServiceStub(channel.for_stubs).NoteSecretUses(noted)
    by_id = {item["id"]: item["last_used_at"] for item in (await admin("GET", secrets)).json["items"]}
    assert {secret_id for secret_id, at in by_id.items() if at} == {str(used.id)}
    past = {"expires_at": "2020-01-01T00:00:00Z"}
    assert faults(await admin("POST", secrets, past)) == {("expires_at", "not_in_future")}
    public, _ = await system.app(tenant, token_endpoint_auth_method="none")
    assert (await admin("POST", f"/{public}/secrets")).code == "app_without_secrets"
    for name in ("app_secret_created", "app_secret_rotated", "app_secret_revoked"):
        await system.event(name, client_id=tenant.id)


async def test_secrets_when_many_are_asked_for_at_once_then_stay_bounded(
    system: System, tenant: Tenant, admin: Admin
) -> None:
    app_id, _ = await system.app(tenant)
    answers = await asyncio.gather(*(admin("POST", f"/{app_id}/secrets") for _ in range(20)))
    assert Counter(answer.status for answer in answers) == {201: 9, 409: 11}
    assert {answer.code for answer in answers if answer.status == 409} == {"too_many_app_secrets"}


async def test_create_when_sent_again_with_its_idempotency_key_then_is_one_app(
    system: System, tenant: Tenant, admin: Admin
) -> None:
    body, headers = {"name": "Once", "redirect_uris": [CALLBACK]}, {"idempotency-key": str(new_id())}
    answers = [await admin("POST", body=body, headers=headers) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json["app"]["id"] == answers[1].json["app"]["id"]
    listed = await admin("GET", "?limit=100")
    assert len([app for app in listed.json["items"] if app["name"] == "Once"]) == 1


async def test_list_when_longer_than_a_page_then_goes_on_with_its_own_cursor(
    system: System, admin: Admin
) -> None:
    """A-08."""
    mine, other = await system.tenant(), await system.tenant()
    ids = [(await system.app(mine))[0] for _ in range(3)]
    admin = Admin(system, mine)
    first = (await admin("GET", "?limit=2")).json
    second = (await admin("GET", f"?limit=2&cursor={first['next_cursor']}")).json
    assert [app["id"] for app in (*first["items"], *second["items"])] == ids[::-1]
    assert second["next_cursor"] is None
    stolen = await Admin(system, other)("GET", f"?cursor={first['next_cursor']}")
    assert (stolen.status, stolen.code) == (400, "invalid_cursor")


async def test_app_when_of_another_client_then_is_not_there(
    system: System, tenant: Tenant, admin: Admin
) -> None:
    """A-01, by ids of the path: the app is of the client that is named, or is nothing."""
    other = await system.tenant()
    app_id, _ = await system.app(other)
    theirs = Admin(system, other)
    secret_id = (await theirs("GET", f"/{app_id}/secrets")).json["items"][0]["id"]
    own, _ = await system.app(tenant)
    for method, path, body in (
        ("GET", f"/{app_id}", None),
        ("PATCH", f"/{app_id}", {"name": "x"}),
        ("DELETE", f"/{app_id}", None),
        ("GET", f"/{app_id}/secrets", None),
        ("POST", f"/{app_id}/secrets", None),
        ("DELETE", f"/{app_id}/secrets/{secret_id}", None),
        ("POST", f"/{app_id}/secrets/{secret_id}/rotate", None),
        ("DELETE", f"/{own}/secrets/{secret_id}", None),
        ("POST", f"/{own}/secrets/{secret_id}/rotate", None),
    ):
        answer = await admin(method, path, body)
        assert (answer.status, answer.code.endswith("not_found")) == (404, True), (method, path)
    assert (await theirs("GET", f"/{app_id}")).status == 200
    assert (await theirs("DELETE", f"/{app_id}/secrets/{secret_id}")).status == 204
    # neither without a credential nor with one of another kind, whatever the body names.
    wanted = {"name": "x", "redirect_uris": [CALLBACK], "client_id": str(tenant.id)}
    for caller in (None, tenant.caller(), tenant.user_caller(new_id(), new_id())):
        assert (await admin("POST", body=wanted, caller=caller)).status in (401, 403)
    unknown = f"/api/admin/clients/{new_id()}/apps"
    for method, sent in (("GET", None), ("POST", wanted)):
        answer = await system.call("orgs", method, unknown, caller=system.admin(), json=sent)
        assert (answer.status, answer.code) == (404, "client_not_found")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"redirect_uris": []}, {("redirect_uris", "redirect_uri_missing")}),
        ({"redirect_uris": ["http://rp.example/cb"]}, {("redirect_uris", "redirect_uri_not_secure")}),
        ({"redirect_uris": ["javascript:alert(1)"]}, {("redirect_uris", "redirect_uri_scheme")}),
        ({"redirect_uris": ["com.example.app:/cb"]}, {("redirect_uris", "redirect_uri_scheme")}),
        ({"redirect_uris": [CALLBACK] * 101}, {("redirect_uris", "too_long")}),
        (
            {"post_logout_redirect_uris": ["https://rp.example/#x"]},
            {("post_logout_redirect_uris", "uri_invalid")},
        ),
        ({"grant_types": ["password"]}, {("grant_types", "grant_type_unknown")}),
        ({"grant_types": ["refresh_token"]}, {("grant_types", "grant_type_not_allowed")}),
        ({"grant_types": []}, {("grant_types", "grant_type_missing")}),
        ({"token_endpoint_auth_method": "private_key_jwt"}, {("jwks", "jwks_missing")}),
        (
            {"token_endpoint_auth_method": "none", "grant_types": ["client_credentials"]},
            {("grant_types", "grant_type_not_allowed")},
        ),
        ({"token_endpoint_auth_method": "none", "require_pkce": False}, {("require_pkce", "pkce_required")}),
        ({"scopes": ["openid", "admin"]}, {("scopes", "scope_not_allowed")}),
        ({"scopes": ["a b"]}, {("scopes", "scope_invalid")}),
        ({"audiences": ["https://other.example/"]}, {("audiences", "audience_not_allowed")}),
        ({"trusted": "yes"}, {("trusted", "bool_type")}),
        ({"id_token_signed_response_alg": "none"}, {("id_token_signed_response_alg", "enum")}),
        ({"name": "Evil\u202egnp"}, {("name", "name_invalid")}),
        ({"logo_uri": "javascript:alert(1)"}, {("logo_uri", "url_not_secure")}),
        ({"jwks": {"keys": [{"kty": "oct", "kid": "1", "alg": "HS256"}]}}, {("jwks", "jwks_invalid")}),
    ],
)
async def test_app_when_it_breaks_a_rule_then_is_refused_when_created_and_when_changed(
    system: System, tenant: Tenant, admin: Admin, members: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    body: dict[str, Any] = {"name": "App", "redirect_uris": [CALLBACK]}
    assert faults(await admin("POST", body={**body, **members})) == expected
    app_id, _ = await system.app(tenant, **body)
    assert faults(await admin("PATCH", f"/{app_id}", members)) == expected


async def test_app_when_native_and_public_then_may_have_a_scheme_of_its_own(
    system: System, tenant: Tenant, admin: Admin
) -> None:
    uris = ["com.example.app:/cb", "http://127.0.0.1/cb"]
    public = {"token_endpoint_auth_method": "none", "application_type": "native"}
    app_id, secret = await system.app(tenant, redirect_uris=uris, **public)
    assert secret == ""
    for change in ({"application_type": "web"}, {"token_endpoint_auth_method": "client_secret_basic"}):
        assert ("redirect_uris", "redirect_uri_scheme") in faults(await admin("PATCH", f"/{app_id}", change))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"oidc_redirect_uris": ["http://rp.example/cb"]}, "settings.oidc_redirect_uris.0"),
        ({"oidc_redirect_uris": "https://rp.example/cb"}, "settings.oidc_redirect_uris"),
        ({"oidc_redirect_uris": ["com.example.app:/cb"]}, "settings"),
        ({"oidc_post_logout_redirect_uris": ["javascript:x"]}, "settings.oidc_post_logout_redirect_uris.0"),
        ({"oidc_allowed_scopes": ["a b"]}, "settings.oidc_allowed_scopes.0"),
        ({"oidc_audiences": ["api"]}, "settings.oidc_audiences.0"),
        ({"oidc_trusted": "true"}, "settings.oidc_trusted"),
        ({"oidc_public_client": True, "oidc_require_pkce": False}, "settings"),
        ({"oidc_backchannel_logout_uri": "ftp://rp.example/"}, "settings.oidc_backchannel_logout_uri"),
        ({"oidc_client_id_metadata_documents": 1}, "settings.oidc_client_id_metadata_documents"),
    ],
)
async def test_settings_when_they_break_a_rule_of_the_tenant_as_an_app_then_are_refused(
    admin: Admin, settings: dict[str, Any], field: str
) -> None:
    refused = await admin.patch_settings(**settings)
    assert refused.status == 422, refused.body
    assert [fault["field"] for fault in refused.json["errors"]] == [field]


async def test_settings_when_public_then_the_tenant_is_a_public_app(system: System) -> None:
    tenant = await system.tenant(
        settings={
            "oidc_public_client": True,
            "oidc_redirect_uris": ["com.example.app:/cb"],
            "oidc_require_par": True,
            "oidc_dpop_bound_access_tokens": True,
            "oidc_trusted": False,
            "oidc_require_consent": True,
            "oidc_backchannel_logout_uri": "https://rp.example/logout",
        }
    )
    async with app_directory(system) as apps:
        app = await apps.find(str(tenant.id))
    assert app is not None
    assert (app.is_public, app.requires_pkce, app.requires_par, app.is_dpop_bound) == (True, True, True, True)
    assert (app.is_trusted, app.requires_consent) == (False, True)
    assert app.backchannel_logout_uri == "https://rp.example/logout"
    assert "urn:ietf:params:oauth:grant-type:token-exchange" not in app.grant_types


async def test_settings_when_stored_before_they_were_checked_then_a_broken_one_counts_as_absent(
    system: System,
) -> None:
    tenant = await system.tenant()
    broken = '{"oidc_redirect_uris": "x", "oidc_trusted": false, "oidc_allowed_scopes": [7]}'
    await system.sql("orgs", "UPDATE clients SET settings = $2::jsonb WHERE id = $1", tenant.id, broken)
    async with app_directory(system) as apps:
        app = await apps.find(str(tenant.id))
    assert app is not None
    assert (app.redirect_uris, app.is_trusted, app.scopes) == ((), False, DEFAULT_SCOPES)


async def test_urls_when_private_are_not_allowed_then_only_public_ones_are_taken(
    system: System, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H-01: what we call or show is a public https URL, unless development says otherwise."""
    app = system.definitions["orgs"].build(system.settings("orgs", oidc_allow_private=False), system.clock)
    admin = Admin(system, tenant)
    private = (
        "http://rp.example/x",
        "https://127.0.0.1/x",
        "https://169.254.169.254/x",
        "https://rp.internal/x",
    )
    async with app.started():
        monkeypatch.setitem(system.faces, "orgs", app.make_face(Probes(app.required, app.optional)))
        app_id, _ = await system.app(tenant)
        for url in private:
            for name in ("backchannel_logout_uri", "logo_uri", "client_uri", "policy_uri", "tos_uri"):
                refused = await admin("PATCH", f"/{app_id}", {name: url})
                assert {field for field, _ in faults(refused)} == {name}, url
            assert (await admin.patch_settings(oidc_backchannel_logout_uri=url)).status == 422
        good = {"backchannel_logout_uri": "https://rp.example/x", "logo_uri": "https://rp.example/l.png"}
        assert (await admin("PATCH", f"/{app_id}", good)).status == 200
        with pytest.raises(ValidationError, match="OIDC_ALLOW_PRIVATE"):
            system.settings("orgs", oidc_allow_private=True, environment="production")
