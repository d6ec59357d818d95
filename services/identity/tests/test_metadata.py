"""Numbers in metadata: only those that every face can show again."""

from __future__ import annotations

import pytest

from services.identity.tests.conftest import PASSWORD, address
from tests.harness import System, Tenant


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**400, 1e300, 1e-300])
async def test_metadata_when_a_number_is_not_the_same_everywhere_then_refused(
    system: System, tenant: Tenant, number: float
) -> None:
    # gRPC's numbers are doubles: with 10^400 in it the user could not log in over gRPC any more. PostgreSQL
    # writes numbers out: of 1e300 it makes three hundred digits.
    body = {"email": address(), "password": PASSWORD, "metadata": {"list": [{"deep": number}]}}
    answer = await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body)
    assert (answer.status, answer.code) == (422, "validation_failed")


async def test_metadata_when_numbers_are_exact_everywhere_then_kept(system: System, tenant: Tenant) -> None:
    metadata = {"most": 2**53 - 1, "least": 1 - 2**53, "yes": True, "share": -0.25, "tiny": 1e-9, "none": 0.0}
    body = {"email": address(), "password": PASSWORD, "metadata": metadata}
    answer = await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body)
    assert (answer.status, answer.json["user"]["metadata"]) == (201, metadata)
