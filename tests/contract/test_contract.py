"""The merged contract: what every operation declares, and that none of them ever fails on our side."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chassis.context import Access
from chassis.ids import new_id
from contracts.topology import GATEWAY, SERVICES
from gateway.config import GatewaySettings
from gateway.limits import UNLIMITED
from tests.contract.operations import CONTRACT, Operation, named, operations
from tests.e2e.stack import PASSWORD, Login, Stack

ALL = list(operations())
EXAMPLES = 20
LIMITS = {
    name.removeprefix("rate_limit_")
    for name in GatewaySettings.model_fields
    if name.startswith("rate_limit_")
} | {UNLIMITED}

schema = schemathesis.openapi.from_dict(CONTRACT).exclude(
    func=lambda context: context.operation.definition.raw.get("x-endless", False)
)


@schemathesis.serializer("application/x-ndjson")
def _lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Send what was generated as it is, for whatever lines it holds."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@pytest.mark.parametrize("operation", ALL, ids=named)
def test_operation_when_declared_then_says_all_that_the_gateway_and_a_reader_need(
    operation: Operation,
) -> None:
    declared = operation.declared
    assert declared["x-access"] in set(Access)
    assert declared["x-owner"] in {*SERVICES, GATEWAY}
    assert declared["x-limit"] in LIMITS
    assert isinstance(declared["x-body-limit"], int)
    assert declared["x-body-limit"] == 0 or "GET" not in operation.method
    assert declared["summary"]
    assert declared["description"]
    assert declared["tags"]
    success = [status for status in declared["responses"] if status.startswith(("2", "3"))]
    assert success
    is_oauth = declared.get("x-errors") == "oauth"
    form = "application/json" if is_oauth else "application/problem+json"
    refusal = {"$ref": f"#/components/schemas/{'OAuthError' if is_oauth else 'Problem'}"}
    for status, response in declared["responses"].items():
        assert response["description"], status
        if status == "default" or status.startswith(("4", "5")):
            assert response["content"][form]["schema"] == refusal, status
    assert "default" in declared["responses"]
    if operation.access == "user":
        assert declared["security"] == [{"ApiKey": [], "AccessToken": []}]
    for parameter in declared.get("parameters", []):
        assert parameter["schema"]
        if parameter["in"] == "path":
            assert parameter["required"]


def test_operation_ids_when_listed_then_are_unique() -> None:
    counted = Counter(operation.declared["operationId"] for operation in ALL)
    assert [name for name, count in counted.items() if count > 1] == []


async def test_contract_when_served_then_is_the_committed_one(stack: Stack) -> None:
    for gateway in (0, 1):
        served = await stack.call("GET", "/docs/openapi.json", gateway=gateway)
        assert served.json() == CONTRACT


@dataclass
class Credentials:
    """Valid credentials of each class, renewed when an operation has used them up."""

    gateway: str
    admin_key: str
    user: Login
    machine: str
    http: requests.Session

    def of(self, access: str) -> dict[str, str]:
        """The headers of a class."""
        match access:
            case "admin":
                return {"x-admin-key": self.admin_key}
            case "user":
                return self.user.headers
            case "api_key":
                return self.user.tenant.headers
            case "oauth":
                return {"authorization": self.machine}
            case _:
                return {}

    def renew(self) -> None:
        """Make another user: its session was ended, or its password changed."""
        email = f"contract-{new_id()}@example.org"
        body = {"email": email, "password": PASSWORD, "token_transport": "json"}
        with httpx.Client(base_url=self.gateway, timeout=30, trust_env=False) as http:
            answer = http.post("/api/auth/signup", json=body, headers=self.user.tenant.headers)
        assert answer.status_code == 201, answer.text
        self.user = Login.of(self.user.tenant, answer)

    def ids(self) -> dict[str, str]:
        """Ids that exist, for path parameters of these names."""
        return {"session_id": self.user.session_id}


@pytest.fixture(scope="session")
async def credentials(stack: Stack) -> AsyncIterator[Credentials]:
    """A client and user for the generated requests."""
    user = await stack.sign_up(await stack.tenant())
    accounts = f"/api/admin/clients/{user.tenant.id}/service-accounts"
    made = (await stack.call("POST", accounts, stack.admin, json={"name": "Worker"})).json()
    pair = f"{made['service_account']['id']}:{made['client_secret']}"
    basic = "Basic " + base64.b64encode(pair.encode()).decode()
    with requests.Session() as http:
        yield Credentials(stack.gateways[0], stack.admin.key, user, basic, http)


@pytest.mark.timeout(300)
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_operation_when_called_with_anything_then_answers_as_declared(
    case: Any, credentials: Credentials
) -> None:
    """No 5xx, and no answer that the contract does not describe."""
    access: str = case.operation.definition.raw["x-access"]
    existing: dict[str, Any] = {
        name: value for name, value in credentials.ids().items() if name in (case.path_parameters or {})
    }
    if existing and case.meta and not case.meta.generation.mode.is_negative:
        case.path_parameters = {**(case.path_parameters or {}), **existing}
    answer = case.call(base_url=credentials.gateway, headers=credentials.of(access), session=credentials.http)
    if answer.status_code == 401 and access == "user":
        credentials.renew()
    checks = [
        not_a_server_error,
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    ]
    case.validate_response(answer, checks=checks)
