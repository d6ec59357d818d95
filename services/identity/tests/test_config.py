"""Settings of identity: accepted bounds, and lists that operators bring."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.identity.tests.conftest import address, another_identity, sign_up
from tests.harness import System, Tenant


@pytest.mark.parametrize(
    "wrong",
    [
        {"bcrypt_cost": 9},
        {"bcrypt_cost": 17},
        {"password_hash": "md5"},
        {"password_max_length": 73},
        {"hash_queue": 0},
        {"lockout_threshold": 60},
        {"lockout_longest": "10s"},
        {"lockout_shortest": "0s"},
        {"webauthn_rp_id": "https://example.com"},
        {"webauthn_rp_id": "example.com"},
        {"webauthn_rp_origin": "http://example.com"},
    ],
)
def test_a_setting_out_of_bounds_is_refused(system: System, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        system.settings("identity", **wrong)


async def test_an_operators_list_of_domains_replaces_the_built_in_one(system: System, tenant: Tenant) -> None:
    async with another_identity(system, blocked_email_domains="Blocked.example, other.example"):
        blocked = await sign_up(system, tenant, "a@sub.blocked.example")
        allowed = await sign_up(system, tenant, "a@mailinator.com")

    assert (blocked.status, blocked.code) == (422, "email_domain_blocked")
    assert allowed.status == 201


async def test_the_password_rules_follow_the_settings(system: System, tenant: Tenant) -> None:
    rules = {"password_min_length": 6, "password_min_unique": 1}
    unblocked = {"password_block_common": False, "password_block_low_entropy": False}
    async with another_identity(system, **rules, **unblocked):
        assert (await sign_up(system, tenant, address(), "111111")).status == 201
