"""What a proven login gets, by the client's policy and the risk: one table for every way in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contracts.security_policy import MfaMode, RiskLevel, SecurityPolicy


class Decision(StrEnum):
    """What becomes of a login whose proof was right."""

    ALLOW = "allow"
    NOTIFY = "notify"
    CHALLENGE = "challenge"
    ENROLL = "enroll"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision depends on beside the policy.

    `is_mfa`: the proof is two factors by itself. `mfa_enabled`: the user has switched on that it is asked.
    `has_factors`: there is a factor that it could show now. `is_demanded`: the app wants two factors.
    """

    risk: RiskLevel
    is_mfa: bool
    mfa_enabled: bool
    has_factors: bool
    is_trusted_device: bool
    is_demanded: bool = False


def decide(policy: SecurityPolicy, given: Circumstances) -> Decision:
    """Decide a login.

    A block comes first, whatever the proof. Who needs a second factor and has none must set one up where
    policy demands it of everybody, and is otherwise let in with a notice: a risk alone must not lock out
    those who never had the choice. Nobody is let in at high risk without a notice. What an app demands adds
    to the policy, and takes nothing from it.
    """
    if given.risk.is_at_least(policy.login_block_level):
        return Decision.BLOCK
    looks_risky = policy.mfa.mode is MfaMode.ADAPTIVE and given.risk.is_at_least(policy.login_challenge_level)
    admitted = Decision.ALLOW
    if given.risk.is_at_least(RiskLevel.HIGH) or (looks_risky and (given.is_mfa or not given.has_factors)):
        admitted = Decision.NOTIFY
    if given.is_mfa:
        return admitted
    if given.is_demanded and given.has_factors:
        return Decision.CHALLENGE
    has_none = not given.has_factors and not given.mfa_enabled
    if has_none and policy.mfa.enrollment_required:
        return Decision.ENROLL
    if not _is_needed(policy, given, looks_risky=looks_risky) or _may_skip(policy, given):
        return admitted
    if given.has_factors:
        return Decision.CHALLENGE
    return admitted if has_none and policy.mfa.mode is MfaMode.ADAPTIVE else Decision.ENROLL


def applied(policy: SecurityPolicy, given: Circumstances) -> dict[str, Any]:
    """Return what of the policy decided, for the explanation of a login."""
    return {
        "mode": str(policy.mfa.mode),
        "challenge_level": str(policy.login_challenge_level),
        "block_level": str(policy.login_block_level) if policy.login_block_level else None,
        "enrollment_required": policy.mfa.enrollment_required,
        "trusted_device": given.is_trusted_device,
        "trusted_device_bypass": policy.mfa.trusted_device_bypass,
    }


def _is_needed(policy: SecurityPolicy, given: Circumstances, *, looks_risky: bool) -> bool:
    """Whether the policy's mode asks for a second factor."""
    match policy.mfa.mode:
        case MfaMode.OFF:
            return False
        case MfaMode.ALLOW:
            return given.mfa_enabled
        case MfaMode.REQUIRED:
            return True
        case MfaMode.ADAPTIVE:
            return looks_risky


def _may_skip(policy: SecurityPolicy, given: Circumstances) -> bool:
    """Whether a trusted device spares the second factor: only of who has one, and never at high risk."""
    return (
        policy.mfa.trusted_device_bypass
        and given.is_trusted_device
        and given.has_factors
        and not given.risk.is_at_least(RiskLevel.HIGH)
    )
