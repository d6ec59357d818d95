"""The security policy of a client: its routes, its faults by path, and how an override only tightens."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from chassis.context import Access
from contracts.security_policy import (
    ActionMode,
    MfaMode,
    RiskLevel,
    SecurityPolicy,
    check_policy,
    tightened,
)
from tests.harness import Answer, System, Tenant

EXAMPLE: dict[str, Any] = {
    "mfa": {
        "mode": "adaptive",
        "challenge_risk_level": "medium",
        "block_risk_level": "critical",
        "remember_device_days": 30,
        "trusted_device_bypass": True,
        "enrollment_required": True,
    },
    "risk": {
        "challenge_level": "medium",
        "block_level": "critical",
        "failed_velocity_threshold": 3,
        "blocked_ip_cidrs": ["203.0.113.10/32"],
        "tor_ip_cidrs": ["198.51.100.0/24"],
        "high_risk_asns": [64512],
    },
    "actions": {
        "client.key.rotate": {"mode": "block", "risk_block_level": "high"},
        "organization.member.role_change": {"mode": "challenge", "max_age_seconds": 600},
        "audit.export": {"mode": "challenge", "risk_challenge_level": "medium"},
    },
}


async def policy_route(
    system: System, tenant: Tenant, method: str, body: Any = None, **changes: Any
) -> Answer:
    path = f"/api/admin/clients/{changes.pop('client_id', tenant.id)}/security-policy"
    return await system.call("identity", method, path, caller=system.admin(**changes), json=body)


async def test_policy_when_put_patched_and_read_then_is_whole_and_audited(
    system: System, tenant: Tenant
) -> None:
    empty = await policy_route(system, tenant, "GET")
    assert empty.json["policy"] == {}
    assert empty.json["effective"]["mfa"]["mode"] == "allow"

    put = await policy_route(system, tenant, "PUT", EXAMPLE)
    patch = {"mfa": {"mode": "required", "block_risk_level": None}, "actions": {"audit.export": None}}
    patched = await policy_route(system, tenant, "PATCH", patch)
    read = await policy_route(system, tenant, "GET")

    assert (put.status, put.json["policy"]) == (200, EXAMPLE)
    assert patched.json == read.json
    assert patched.json["policy"]["mfa"] == {
        "mode": "required",
        **{k: v for k, v in EXAMPLE["mfa"].items() if k not in ("mode", "block_risk_level")},
    }
    assert sorted(patched.json["policy"]["actions"]) == [
        "client.key.rotate",
        "organization.member.role_change",
    ]
    assert patched.json["effective"]["mfa"]["block_risk_level"] == "critical", "of the risk part"
    event = await system.event("client_updated", client_id=tenant.id, after=1)
    assert event.actor_type == "admin_key"
    assert event.data["before"] == {"settings": {"adaptive_security": EXAMPLE}}
    assert event.data["after"] == {"settings": {"adaptive_security": patched.json["policy"]}}


FAULTS: list[tuple[Any, str, str]] = [
    ([], "", "model_type"),
    ({"nfa": {}}, "nfa", "extra_forbidden"),
    ({"mfa": {"mode": "always"}}, "mfa.mode", "enum"),
    ({"mfa": {"remember_device_days": 400}}, "mfa.remember_device_days", "less_than_equal"),
    ({"mfa": {"trusted_device_bypass": True, "remember_device_days": 0}}, "mfa.trusted_device_bypass", ""),
    ({"mfa": {"mode": "off", "enrollment_required": True}}, "mfa.enrollment_required", ""),
    ({"mfa": {"challenge_risk_level": "high", "block_risk_level": "medium"}}, "mfa.challenge_risk_level", ""),
    ({"risk": {"challenge_level": "critical", "block_level": "high"}}, "risk.challenge_level", ""),
    (
        {"risk": {"challenge_level": "high"}, "mfa": {"block_risk_level": "medium"}},
        "mfa.challenge_risk_level",
        "",
    ),
    ({"risk": {"blocked_ip_cidrs": ["10.0.0.0/33"]}}, "risk.blocked_ip_cidrs.0", "cidr_invalid"),
    ({"risk": {"high_risk_asns": [0]}}, "risk.high_risk_asns.0", "greater_than_equal"),
    ({"risk": {"trusted_asns": [1], "high_risk_asns": [1]}}, "risk.trusted_asns", ""),
    (
        {"risk": {"trusted_ip_cidrs": ["10.1.0.0/16"], "blocked_ip_cidrs": ["10.0.0.0/8"]}},
        "risk.trusted_ip_cidrs",
        "",
    ),
    ({"actions": {"make.tea": {}}}, "actions.make.tea", "action_unknown"),
    (
        {"actions": {"audit.export": {"mode": "off", "max_age_seconds": 5}}},
        "actions.audit.export.max_age_seconds",
        "",
    ),
]


@pytest.mark.parametrize(("policy", "path", "code"), FAULTS)
async def test_policy_when_faulty_then_is_422_with_the_path_and_nothing_is_stored(
    system: System, shared_tenant: Tenant, policy: Any, path: str, code: str
) -> None:
    refused = await policy_route(system, shared_tenant, "PUT", policy)

    assert (refused.status, refused.code) == (422, "validation_failed")
    assert [(fault["field"], fault["code"]) for fault in refused.json["errors"]] == [
        (path, code or "unreachable")
    ]
    by_orgs = await system.call(
        "orgs",
        "PATCH",
        f"/api/admin/clients/{shared_tenant.id}",
        caller=system.admin(),
        json={"settings": {"adaptive_security": policy}},
    )
    assert by_orgs.status == 422
    inside = f"settings.adaptive_security.{path}".rstrip(".")
    assert [fault["field"] for fault in by_orgs.json["errors"]] == [inside]
    assert (await policy_route(system, shared_tenant, "GET")).json["policy"] == {}


async def test_policy_when_client_is_unknown_or_caller_is_no_admin_then_refused(
    system: System, shared_tenant: Tenant
) -> None:
    for method, body in (("GET", None), ("PUT", {}), ("PATCH", {})):
        unknown = await policy_route(system, shared_tenant, method, body, client_id=uuid4())
        assert (unknown.status, unknown.code) == (404, "client_not_found")
        path = f"/api/admin/clients/{shared_tenant.id}/security-policy"
        by_key = await system.call("identity", method, path, caller=shared_tenant.caller(), json=body)
        assert by_key.status == 403
        as_nobody = shared_tenant.caller(access=Access.PUBLIC)
        assert (await system.call("identity", method, path, caller=as_nobody, json=body)).status == 401


def test_override_when_weaker_then_changes_nothing() -> None:
    """R-10."""
    base = check_policy(EXAMPLE)
    weaker = check_policy(
        {
            "mfa": {"mode": "off", "remember_device_days": 365},
            "risk": {"challenge_level": "critical", "trusted_ip_cidrs": ["0.0.0.0/0"], "trusted_asns": [1]},
            "actions": {
                "client.key.rotate": {"mode": "off"},
                "audit.export": {"risk_challenge_level": "high"},
            },
        }
    )

    merged = tightened(base, weaker)

    expected = base.model_copy(update={"mfa": base.mfa.model_copy(update={"trusted_device_bypass": False})})
    assert merged == expected
    assert tightened(base, SecurityPolicy()).mfa.mode is MfaMode.ADAPTIVE


def test_override_when_stricter_then_wins() -> None:
    base = check_policy({"risk": {"trusted_ip_cidrs": ["10.0.0.0/8"], "blocked_ip_cidrs": ["192.0.2.0/24"]}})
    stricter = check_policy(
        {
            "mfa": {"mode": "required", "block_risk_level": "high", "remember_device_days": 1},
            "risk": {
                "failed_velocity_threshold": 1,
                "blocked_ip_cidrs": ["198.51.100.0/24"],
                "trusted_ip_cidrs": ["10.1.0.0/16", "172.16.0.0/12"],
            },
            "actions": {"audit.export": {"mode": "block"}},
        }
    )

    merged = tightened(base, stricter)

    assert merged.mfa.mode is MfaMode.REQUIRED
    assert merged.login_block_level is RiskLevel.HIGH
    assert merged.mfa.remember_device_days == 1
    assert merged.risk.failed_velocity_threshold == 1
    assert merged.risk.blocked_ip_cidrs == ["192.0.2.0/24", "198.51.100.0/24"]
    assert merged.risk.trusted_ip_cidrs == ["10.1.0.0/16"]
    assert merged.actions["audit.export"].mode is ActionMode.BLOCK
    assert check_policy(merged.model_dump(mode="json")) == merged


def test_policy_when_stored_unchecked_and_unreadable_then_demands_mfa() -> None:
    assert (
        SecurityPolicy.of({"adaptive_security": {"mfa": {"mode": "sometimes"}}}).mfa.mode is MfaMode.REQUIRED
    )
    partly = SecurityPolicy.of({"adaptive_security": {"mfa": {"mode": "off"}, "risk": {"x": 1}}})
    assert (partly.mfa.mode, partly.risk.block_level) == (MfaMode.OFF, None)
    assert SecurityPolicy.of({}).mfa.mode is MfaMode.ALLOW
