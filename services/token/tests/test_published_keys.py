"""The key set of the whole installation: for small ones only."""

from __future__ import annotations

from dataclasses import replace

from chassis.probes import Probes
from services.token.tests.conftest import Token
from tests.harness import System

JWKS = "/.well-known/jwks.json"


async def test_jwks_of_all_when_there_are_more_clients_than_allowed_then_400_and_only_without_a_client(
    system: System, token: Token
) -> None:
    tenants = [await system.tenant() for _ in range(2)]
    for tenant in tenants:
        await token.open(tenant)
    anybody = system.admin(access="public")
    app = system.definitions["token"].build(system.settings("token", jwks_max_clients=1), system.clock)
    async with app.started():
        capped = replace(system, faces={"token": app.make_face(Probes(app.required, app.optional))})
        for _ in range(2):
            answer = await capped.call("token", "GET", JWKS, caller=anybody)
            assert (answer.status, answer.code) == (400, "client_id_required")
        named = await capped.call("token", "GET", f"{JWKS}?client_id={tenants[0].id}", caller=anybody)
        by_key = await capped.call("token", "GET", JWKS, caller=tenants[0].caller(access="public"))
        assert (named.status, by_key.status) == (200, 200)
        assert named.body == by_key.body
    # The control; on a process of its own, as one that gave the set keeps it for a second.
    app = system.definitions["token"].build(system.settings("token"), system.clock)
    async with app.started():
        roomy = replace(system, faces={"token": app.make_face(Probes(app.required, app.optional))})
        assert (await roomy.call("token", "GET", JWKS, caller=anybody)).status == 200
