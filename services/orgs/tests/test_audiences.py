"""A resource by which a client is found is of one client: nobody breaks or imitates another's."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from tests.harness import Answer, System, Tenant


async def patch(system: System, tenant: Tenant, **settings: Any) -> Answer:
    """Change a tenant's settings."""
    path = f"/api/admin/clients/{tenant.id}"
    return await system.call("orgs", "PATCH", path, caller=system.admin(), json={"settings": settings})


def resource() -> str:
    """A resource that nobody has yet."""
    return f"https://api.example/{secrets.token_hex(8)}"


async def test_audience_when_another_client_takes_documents_for_it_then_is_refused(system: System) -> None:
    """A-01. Positive control: a resource of one's own, and again what one has."""
    mine, other = resource(), resource()
    taking = {"oidc_client_id_metadata_documents": True, "oidc_audiences": [mine]}
    tenant, attacker = await system.tenant(settings=taking), await system.tenant()
    created = await system.call(
        "orgs", "POST", "/api/admin/clients", caller=system.admin(), json={"name": "Twin", "settings": taking}
    )
    assert (created.status, created.code) == (409, "audience_taken")
    for settings in (taking, {"oidc_audiences": [other, mine]}):
        refused = await patch(system, attacker, **settings)
        assert (refused.status, refused.code) == (409, "audience_taken")
    assert (await patch(system, attacker, **{**taking, "oidc_audiences": [other]})).status == 200
    again = await patch(system, tenant, oidc_audiences=[mine, resource()])
    assert again.status == 200, again.body


async def test_audience_when_another_client_has_it_then_documents_are_not_taken_for_it(
    system: System,
) -> None:
    """A-01. Positive control: without documents nobody is found by it, so both may have it."""
    shared = resource()
    await system.tenant(settings={"oidc_audiences": [shared]})
    attacker = await system.tenant(settings={"oidc_audiences": [shared]})
    refused = await patch(system, attacker, oidc_client_id_metadata_documents=True)
    assert (refused.status, refused.code) == (409, "audience_taken")


async def test_audience_when_five_ask_at_once_then_one_client_has_it(system: System) -> None:
    mine = resource()
    tenants = [await system.tenant() for _ in range(5)]
    taking = {"oidc_client_id_metadata_documents": True, "oidc_audiences": [mine]}
    answers = await asyncio.gather(*(patch(system, tenant, **taking) for tenant in tenants))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
