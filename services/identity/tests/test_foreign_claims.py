"""Access tokens that a client wrote by itself, with the secret that it knows."""

from __future__ import annotations

from typing import Any

import jwt

from chassis.errors import Kind
from contracts.gen.auth.v1 import auth_pb2
from services.identity.tests.conftest import address, sign_up
from services.identity.tests.test_rpc import auth, gateway, refusal  # noqa: F401 - fixtures
from tests.harness import System


async def test_profile_when_sub_is_no_id_then_unauthenticated(system: System, auth: Any) -> None:  # noqa: F811
    tenant = await system.tenant(token_mode="v1_hs256")
    path = f"/api/admin/clients/{tenant.id}/rotate-secret"
    secret = (await system.call("token", "POST", path, caller=system.admin())).json["jwt_secret"]
    token = (await sign_up(system, tenant, address())).json["access_token"]
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    for sub in (claims["sub"], "x"):
        written = jwt.encode({**claims, "sub": sub}, secret, "HS256", headers=header)
        call = auth.GetProfile(auth_pb2.GetProfileRequest(api_key=tenant.api_key, access_token=written))
        if sub == claims["sub"]:
            assert (await call).id == sub
        else:
            assert (await refusal(call)).kind is Kind.UNAUTHENTICATED
