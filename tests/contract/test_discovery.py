"""What discovery names, in the contract: nothing is advertised that the gateway does not route."""

from __future__ import annotations

from chassis.context import Access
from gateway.contract import Contract
from services.federation.discovery.document import ENDPOINTS


def test_endpoints_when_advertised_then_in_the_contract_with_their_class() -> None:
    """Each is routed by the gateway, for the callers it is meant for."""
    contract = Contract.load()
    for name, path in ENDPOINTS.items():
        route = contract.find(path.encode())
        assert route is not None, name
        is_of_apps = name not in ("authorization_endpoint", "jwks_uri", "end_session_endpoint")
        expected = Access.OAUTH if is_of_apps else Access.PUBLIC
        assert {operation.access for operation in route.operations.values()} == {expected}, name
