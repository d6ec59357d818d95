"""An app that stops proving itself by a secret: what it had is dead, whatever it does next."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from services.orgs.tests.directories import app_directory
from services.orgs.tests.test_apps import Admin
from tests.harness import System


@pytest.mark.parametrize("method", ["none", "private_key_jwt"])
async def test_app_when_it_leaves_secrets_and_returns_then_the_old_one_stays_dead(
    system: System, method: str
) -> None:
    """O-21. Positive control: a change that keeps the method keeps the secret."""
    tenant = await system.tenant()
    admin = Admin(system, tenant)
    app_id, secret = await system.app(tenant)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    jwk = {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key)), "kid": "k1", "alg": "ES256"}

    async def lives() -> bool:
        async with app_directory(system) as apps:
            app = await apps.find(app_id)
            return app is not None and app.live_secret(secret) is not None

    for change, is_alive in (
        ({"token_endpoint_auth_method": "client_secret_post"}, True),
        ({"token_endpoint_auth_method": method, "jwks": {"keys": [jwk]}}, False),
        ({"token_endpoint_auth_method": "client_secret_basic"}, False),
    ):
        changed = await admin("PATCH", f"/{app_id}", change)
        assert changed.status == 200, changed.body
        assert await lives() is is_alive
    listed = await admin("GET", f"/{app_id}/secrets")
    assert [one["status"] for one in listed.json["items"]] == ["revoked"]
    await system.event("app_secret_revoked", client_id=tenant.id)
    assert (await admin("POST", f"/{app_id}/secrets")).status == 201
