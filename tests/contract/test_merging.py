"""The merged contract is complete, fresh, and refuses what cannot be routed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chassis.context import Access
from contracts.admin_roles import PERMISSIONS
from gateway.config import GatewaySettings
from gateway.contract import DOCUMENT, METHODS, Contract
from gateway.limits import UNLIMITED
from scripts.merge_contract import ContractConflict, build, merge


def _service(path: str = "/a", schema: dict[str, Any] | None = None, **operation: Any) -> dict[str, Any]:
    declared = {
        "operationId": "handler" + path.replace("/", "_") + "_get",
        "x-access": "public",
        "x-limit": "default",
        "x-body-limit": 0,
        "responses": {
            "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/View"}}}}
        },
        **operation,
    }
    view = schema or {"type": "object", "title": "View"}
    return {"paths": {path: {"get": declared}}, "components": {"schemas": {"View": view}}}


def test_committed_contract_is_what_the_code_says() -> None:
    fresh = json.dumps(build(), indent=2, ensure_ascii=False) + "\n"

    assert DOCUMENT.read_text() == fresh, "run `make contract`"


def test_every_operation_says_what_it_needs() -> None:
    contract = Contract.load()
    known = {name.removeprefix("rate_limit_") for name in GatewaySettings.model_fields} | {UNLIMITED}

    assert len(contract.operations()) > 20
    for operation in contract.operations():
        assert operation.owner in {"identity", "token", "orgs", "federation", "audit", "gateway"}
        assert operation.access in Access
        assert operation.limit in known, operation
        assert operation.body_limit == 0 or operation.method != "GET", operation


def test_every_operation_is_documented() -> None:
    document = json.loads(DOCUMENT.read_text())

    ids = []
    for path, item in document["paths"].items():
        for method in METHODS:
            operation = item.get(method.lower())
            if operation is None:
                continue
            ids.append(operation["operationId"])
            assert operation.get("description"), f"{method} {path} has no description"
            form = "application/json" if operation.get("x-errors") == "oauth" else "application/problem+json"
            refused = operation["responses"]["default"]["content"].keys()
            shows_pages = any(
                "text/html" in each.get("content", {}) for each in operation["responses"].values()
            )
            forms = {form, "text/html"} if shows_pages else {form}
            # Of a path that the gateway does not know it cannot tell what it was meant for.
            assert refused == (forms | {"application/problem+json"} if "{" in path else forms)
            assert operation["security"] is not None
    assert len(ids) == len(set(ids))


def test_admin_and_user_routes_need_what_their_paths_say() -> None:
    for operation in Contract.load().operations():
        if operation.template.startswith("/api/admin/auth/"):
            assert (operation.access, operation.limit) == (Access.PUBLIC, "login"), operation
        elif operation.template.startswith("/api/admin/"):
            assert operation.access is Access.ADMIN, operation
        if operation.template.startswith("/api/auth/me"):
            assert operation.access is Access.USER, operation


def test_every_admin_operation_declares_a_permission_and_a_scope() -> None:
    needed = set()
    for path, item in json.loads(DOCUMENT.read_text())["paths"].items():
        for method, operation in item.items():
            if operation["x-access"] == "admin":
                assert operation.get("x-permission") in PERMISSIONS, f"{method} {path}: declare `permission=`"
                assert operation["x-scope"] in ("all", "listed") or f"{{{operation['x-scope']}}}" in path
                needed.add(operation["x-permission"])
            else:
                assert "x-permission" not in operation, f"{method} {path} is not for admins"
    assert needed <= set(PERMISSIONS)


def test_operation_without_a_credential_class_fails() -> None:
    broken = _service()
    del broken["paths"]["/a"]["get"]["x-access"]

    with pytest.raises(ContractConflict, match="GET /a"):
        merge({"orgs": broken})


def test_operation_of_two_services_fails() -> None:
    with pytest.raises(ContractConflict, match="GET /a is declared twice"):
        merge({"orgs": _service(), "audit": _service()})


def test_operation_of_the_gateway_cannot_be_taken() -> None:
    with pytest.raises(ContractConflict, match="GET /healthz"):
        merge({"orgs": _service("/healthz")})


def test_same_schema_is_shared_and_another_of_its_name_is_renamed() -> None:
    other = {"type": "object", "title": "View", "properties": {"x": {"type": "string"}}}

    merged = merge({"orgs": _service("/a"), "token": _service("/b"), "audit": _service("/c", other)})

    schemas = merged["components"]["schemas"]
    assert schemas["View"] == {"type": "object", "title": "View"}
    assert schemas["AuditView"] == other
    for path, name in (("/a", "View"), ("/b", "View"), ("/c", "AuditView")):
        answer = merged["paths"][path]["get"]["responses"]["200"]
        assert answer["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}


def test_credential_classes_become_security_schemes() -> None:
    merged = merge(
        {
            "orgs": _service("/a", **{"x-access": "admin"}),
            "identity": _service("/b", **{"x-access": "user"}),
            "token": _service("/c", **{"x-access": "api_key"}),
            "audit": _service("/d"),
        }
    )

    found = {path: merged["paths"][path]["get"]["security"] for path in ("/a", "/b", "/c", "/d")}
    assert found == {
        "/a": [{"AdminToken": []}, {"AdminKey": []}],
        "/b": [{"ApiKey": [], "AccessToken": []}],
        "/c": [{"ApiKey": []}],
        "/d": [],
    }
