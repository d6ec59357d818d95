"""Every admin operation against every role and scope, at the services themselves; made from the contract.

The gateway is not asked here: what it forgot, the service refuses.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from chassis.ids import new_id
from contracts.admin_roles import PERMISSIONS, ROLES, Role
from tests.contract.operations import Operation, named, operations
from tests.harness import Answer, System, Tenant

OF_ADMINS = [operation for operation in operations() if operation.access == "admin"]
OF_SERVICES = [operation for operation in OF_ADMINS if operation.declared["x-owner"] != "gateway"]
OF_CLIENTS = [operation for operation in OF_SERVICES if operation.declared["x-scope"] == "client_id"]

DOCUMENTED = {
    Role.OWNER: set(PERMISSIONS),
    Role.SECURITY_ADMIN: set(PERMISSIONS) - {"clients:write", "users:impersonate", "users:import"},
    Role.SUPPORT_ADMIN: {
        *("apps:read", "audit:read", "clients:read", "machines:read", "security:read", "self:prove"),
        *("users:impersonate", "users:import", "users:read", "users:write"),
    },
    Role.BILLING_ADMIN: {"clients:read", "self:prove"},
    Role.READ_ONLY_AUDITOR: {name for name in PERMISSIONS if name.endswith((":read", ":export"))}
    - {"metrics:read"}
    | {"self:prove"},
}
"""Said a second time, so that a change of the table is one on purpose."""


async def call(system: System, operation: Operation, client_id: UUID, **admin: Any) -> Answer:
    """Call an operation on a client's objects that do not exist, with an acceptable body."""
    ids = {name: str(new_id()) for name in operation.path_parameters} | {"client_id": str(client_id)}
    return await system.call(
        operation.declared["x-owner"],
        operation.method,
        operation.path(ids),
        caller=system.admin(admin_id=new_id(), **admin),
        json=operation.body(),
    )


def test_roles_allow_what_is_documented() -> None:
    assert {role: set(allowed) for role, allowed in ROLES.items()} == DOCUMENTED


@pytest.mark.parametrize("operation", OF_SERVICES, ids=named)
async def test_operation_when_called_in_each_role_then_only_those_with_the_permission(
    system: System, tenant: Tenant, operation: Operation
) -> None:
    """A-02."""
    permission = operation.declared["x-permission"]
    for role, allowed in ROLES.items():
        answer = await call(system, operation, tenant.id, admin_permissions=tuple(allowed))
        is_refused = answer.status == 403 and answer.code == "permission_missing"
        assert is_refused is (permission not in DOCUMENTED[role]), (role, answer.status, answer.body)
    nobody = await call(system, operation, tenant.id, admin_permissions=())
    assert (nobody.status, nobody.code) == (403, "permission_missing")


@pytest.mark.parametrize("operation", OF_SERVICES, ids=named)
async def test_operation_when_the_admin_is_of_another_client_then_touches_nothing(
    system: System, tenant: Tenant, operation: Operation
) -> None:
    """A-01: by path here; by query, body and list below."""
    scope = operation.declared["x-scope"]
    for scopes in ((f"client:{new_id()}",), (f"organization:{tenant.id}",), ()):
        answer = await call(system, operation, tenant.id, admin_scopes=scopes)
        if scope == "client_id":
            assert (answer.status, answer.code) == (404, "not_found"), answer.body
        elif scope == "all":
            assert (answer.status, answer.code) == (403, "scope_too_narrow"), answer.body
        assert str(tenant.id).encode() not in answer.body
    own = await call(system, operation, tenant.id, admin_scopes=(f"client:{tenant.id}",))
    assert scope != "client_id" or own.status < 400 or own.code != "not_found", own.body


async def test_lists_when_the_admin_is_of_one_client_then_show_that_one(system: System) -> None:
    """A-01: lists, and ids in the query."""
    mine, other = await system.tenant(), await system.tenant()
    for tenant in (mine, other):
        await system.event("client_created", client_id=tenant.id)
    admin = system.admin(admin_id=new_id(), admin_scopes=(f"client:{mine.id}",))
    everyone = system.admin(admin_id=new_id())

    clients = await system.call("orgs", "GET", "/api/admin/clients", caller=admin)
    assert [client["id"] for client in clients.json["items"]] == [str(mine.id)]
    found = await system.call("orgs", "GET", f"/api/admin/clients?q={other.document['slug']}", caller=admin)
    assert found.json["items"] == []
    all_clients = await system.call("orgs", "GET", "/api/admin/clients?limit=2", caller=everyone)
    assert {client["id"] for client in all_clients.json["items"]} == {str(mine.id), str(other.id)}
    narrowed = await system.call(
        "orgs", "GET", f"/api/admin/clients?limit=1&cursor={all_clients.json['next_cursor']}", caller=admin
    )
    assert narrowed.status in (200, 400)
    assert str(other.id).encode() not in narrowed.body

    events = "/api/admin/audit-events"
    for path in (f"{events}?limit=1000", f"{events}?target_id={other.id}", f"{events}/checkpoints?limit=100"):
        shown = await system.call("audit", "GET", path, caller=admin)
        assert shown.status == 200, shown.body
        assert {item["client_id"] for item in shown.json["items"]} <= {str(mine.id)}
    for path in (
        f"{events}?client_id=",
        f"{events}/checkpoints?client_id=",
        f"{events}/chain/verify?client_id=",
    ):
        refused = await system.call("audit", "GET", f"{path}{other.id}", caller=admin)
        assert (refused.status, refused.code) == (404, "not_found"), path
        for caller, client in ((admin, mine), (everyone, other)):
            assert (await system.call("audit", "GET", f"{path}{client.id}", caller=caller)).status == 200
    platform = await system.call("audit", "GET", f"{events}/chain/verify", caller=admin)
    assert (platform.status, platform.code) == (403, "scope_too_narrow")
