"""Admin routes behind the step-up guard, whichever service owns them."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.ids import new_id
from tests.admins import new_admin
from tests.harness import Answer, System


@pytest.mark.parametrize(
    ("service", "method", "path", "body", "done"),
    [
        ("orgs", "POST", "rotate-api-key", {"grace_seconds": 60}, 200),
        ("orgs", "POST", "rotate-key", None, 200),
        ("orgs", "POST", "api-keys", {"name": "ci", "kind": "secret"}, 201),
        ("orgs", "DELETE", "api-keys/{key}", None, 204),
        ("orgs", "POST", "apps", {"name": "x", "redirect_uris": ["https://rp.example/cb"]}, 201),
        ("orgs", "PATCH", "apps/{app}", {"redirect_uris": ["https://other.example/cb"]}, 200),
        ("orgs", "POST", "apps/{app}/secrets", None, 201),
        ("orgs", "POST", "apps/{app}/secrets/{app_secret}/rotate", {}, 200),
        ("orgs", "POST", "initial-access-tokens", None, 201),
        ("token", "POST", "rotate-secret", None, 200),
        ("token", "POST", "rotate-signing-key?force=true", None, 200),
        ("token", "POST", "signing-keys/{kid}/revoke", None, 200),
        ("token", "POST", "revoke-tokens", None, 200),
        ("token", "POST", "service-accounts", {"name": "ci"}, 201),
        ("token", "PATCH", "service-accounts/{account}", {"scopes": ["a"]}, 200),
        ("token", "PATCH", "service-accounts/{account}", {"jwks": None}, 200),
        ("token", "POST", "service-accounts/{account}/keys", {"name": "ci"}, 201),
        ("token", "POST", "service-accounts/{account}/keys/{account_key}/rotate", {}, 200),
    ],
)
async def test_route_when_called_by_an_admin_then_asks_for_a_proof_of_this_client(
    system: System, service: str, method: str, path: str, body: Any, done: int
) -> None:
    tenant, other, admin = await system.tenant(), await system.tenant(), await new_admin(system)
    await admin.token()
    assert admin.app is not None
    ids = {"key": "", "account": "", "account_key": "", "kid": "", "app": "", "app_secret": ""}
    keys = f"/api/admin/clients/{tenant.id}/api-keys"
    if "{key}" in path:
        made = await system.call("orgs", "POST", keys, caller=system.admin(), json={"name": "x"})
        ids["key"] = made.json["key"]["id"]
    if "{kid}" in path:
        await system.call("token", "GET", "/.well-known/jwks.json", caller=tenant.caller(access="public"))
        path_of_all = f"/api/admin/clients/{tenant.id}/signing-keys"
        listed = await system.call("token", "GET", path_of_all, caller=system.admin())
        ids["kid"] = listed.json["items"][0]["kid"]
    if "{account}" in path:
        accounts = f"/api/admin/clients/{tenant.id}/service-accounts"
        made = await system.call("token", "POST", accounts, caller=system.admin(), json={"name": "x"})
        ids["account"] = (made.json.get("service_account") or made.json["account"])["id"]
        listed = await system.call("token", "GET", f"{accounts}/{ids['account']}/keys", caller=system.admin())
        ids["account_key"] = listed.json["items"][0]["id"] if listed.json["items"] else ""

    if "{app}" in path:
        ids["app"], _ = await system.app(tenant)
        secrets = f"/api/admin/clients/{tenant.id}/apps/{ids['app']}/secrets"
        listed = await system.call("orgs", "GET", secrets, caller=system.admin())
        ids["app_secret"] = listed.json["items"][0]["id"]

    async def call(client_id: Any, token: str | None = None, query: str = "") -> Answer:
        target = f"/api/admin/clients/{client_id}/{path.format(**ids)}{query}"
        headers = {"x-step-up-token": token} if token else None
        return await system.call(service, method, target, caller=admin.caller(), json=body, headers=headers)

    async def proof(refused: Answer) -> str:
        assert (refused.status, refused.code) == (403, "step_up_required"), refused.body
        assert admin.app is not None
        shown = {
            "challenge_token": refused.json["challenge_token"],
            "factor": "totp",
            "code": admin.app.code(),
        }
        answer = await system.call(
            "identity", "POST", "/api/admin/step-up/verify", caller=admin.caller(), json=shown
        )
        assert answer.status == 200, answer.body
        return str(answer.json["step_up_token"])

    refused = await call(tenant.id)
    assert refused.json["factors"] == ["totp"]
    token = await proof(refused)
    if "{" not in path:
        assert (await call(other.id, token)).code == "step_up_required"
        assert (await call(new_id(), token)).status == 404
    assert (await call(tenant.id, token)).status == done
    assert (await call(tenant.id, token)).status in (403, 404)


async def test_issuer_keys_when_changed_by_an_admin_then_ask_for_a_proof_of_their_own(system: System) -> None:
    tenant, admin = await system.tenant(), await new_admin(system)
    await admin.token()
    assert admin.app is not None

    async def call(path: str, token: str | None = None) -> Answer:
        headers = {"x-step-up-token": token} if token else None
        return await system.call("token", "POST", path, caller=admin.caller(), headers=headers)

    rotate = "/api/admin/signing-keys/rotate?alg=EdDSA&force=true"
    refused = await call(rotate)
    assert (refused.status, refused.code) == (403, "step_up_required")
    shown = {"challenge_token": refused.json["challenge_token"], "factor": "totp", "code": admin.app.code()}
    verify = "/api/admin/step-up/verify"
    proof = await system.call("identity", "POST", verify, caller=admin.caller(), json=shown)
    token = proof.json["step_up_token"]
    of_client = f"/api/admin/clients/{tenant.id}/rotate-signing-key?force=true"
    assert (await call(of_client, token)).code == "step_up_required"
    done = await call(rotate, token)
    assert done.status == 200, done.body
    assert (await call(rotate, token)).code == "step_up_required"
    kid = done.json["items"][0]["active_kid"]
    assert (await call(f"/api/admin/signing-keys/{kid}/revoke")).code == "step_up_required"
