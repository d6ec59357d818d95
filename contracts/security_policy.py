"""A client's security policy, as stored at `settings.adaptive_security`: its fields, its faults, its merge.

Read by everyone who decides: `identity` at logins, the step-up guard at protected actions. `orgs` checks it
before it is stored, so whoever reads it may trust it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from chassis.errors import UnprocessableRequest
from chassis.models import field_error
from contracts.actions import Action

SETTING = "adaptive_security"
"""The member of a client's settings."""

ACTIONS = tuple(map(str, Action))
"""The protected actions that a policy may name."""

_MAX_LIST = 1000
_MAX_ASN = 2**32 - 1
_MAX_DEVICE_DAYS = 365
_MAX_AGE_SECONDS = 7 * 86_400


class RiskLevel(StrEnum):
    """How risky something looks; ordered as listed."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The place in the order, from 0."""
        return _RANKS[self]

    def is_at_least(self, other: RiskLevel | None) -> bool:
        """Whether it reaches a threshold; None is never reached."""
        return other is not None and self.rank >= other.rank

    @staticmethod
    def highest(levels: Iterable[RiskLevel]) -> RiskLevel:
        """Return the highest of some levels, `low` of none."""
        return max(levels, key=lambda level: level.rank, default=RiskLevel.LOW)


_RANKS = {level: rank for rank, level in enumerate(RiskLevel)}


class MfaMode(StrEnum):
    """Who is asked for a second factor; from the laxest to the strictest.

    `off` nobody, `allow` (the default) the users who have set one up, `adaptive` whose login looks risky,
    `required` everybody.
    """

    OFF = "off"
    ALLOW = "allow"
    ADAPTIVE = "adaptive"
    REQUIRED = "required"


class ActionMode(StrEnum):
    """What becomes of a protected action; from the laxest to the strictest."""

    OFF = "off"
    NOTIFY = "notify"
    CHALLENGE = "challenge"
    BLOCK = "block"


def _cidr(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value.strip(), strict=False))
    except ValueError:
        raise PydanticCustomError(
            "cidr_invalid", "must be an IP address or a network such as 203.0.113.0/24"
        ) from None


Cidrs = Annotated[list[Annotated[str, AfterValidator(_cidr)]], Field(max_length=_MAX_LIST)]
"""IPv4 and IPv6 networks; a plain address is a network of one."""

Asns = Annotated[list[Annotated[int, Field(ge=1, le=_MAX_ASN)]], Field(max_length=_MAX_LIST)]
"""Autonomous system numbers (RFC 6793)."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MfaPolicy(_Part):
    """When logins need a second factor.

    The levels are those of `risk` where they are not given. `enrollment_required`: whoever has no second
    factor must set one up at the next login. `trusted_device_bypass`: a remembered device is not asked unless
    the risk is high.
    """

    mode: MfaMode = MfaMode.ALLOW
    challenge_risk_level: RiskLevel | None = None
    block_risk_level: RiskLevel | None = None
    remember_device_days: int = Field(30, ge=0, le=_MAX_DEVICE_DAYS)
    trusted_device_bypass: bool = False
    enrollment_required: bool = False

    @model_validator(mode="after")
    def _refuse_unreachable(self) -> Self:
        _check_order(
            self.challenge_risk_level, self.block_risk_level, "challenge_risk_level", "block_risk_level"
        )
        if self.mode is MfaMode.OFF:
            for name in ("trusted_device_bypass", "enrollment_required", "challenge_risk_level"):
                if getattr(self, name):
                    raise _unreachable(name, "has no effect while mode is off")
        if self.trusted_device_bypass and self.remember_device_days == 0:
            raise _unreachable("trusted_device_bypass", "needs remember_device_days over 0")
        return self


class RiskPolicy(_Part):
    """What makes a request risky, and from which level on it is challenged or blocked."""

    challenge_level: RiskLevel = RiskLevel.MEDIUM
    block_level: RiskLevel | None = None
    failed_velocity_threshold: int = Field(3, ge=1, le=1000)
    blocked_ip_cidrs: Cidrs = Field(default_factory=list)
    trusted_ip_cidrs: Cidrs = Field(default_factory=list)
    tor_ip_cidrs: Cidrs = Field(default_factory=list)
    high_risk_asns: Asns = Field(default_factory=list)
    trusted_asns: Asns = Field(default_factory=list)

    @model_validator(mode="after")
    def _refuse_unreachable(self) -> Self:
        _check_order(self.challenge_level, self.block_level, "challenge_level", "block_level")
        for trusted in self.trusted_ip_cidrs:
            for name in ("blocked_ip_cidrs", "tor_ip_cidrs"):
                if _is_within(trusted, getattr(self, name)):
                    raise _unreachable("trusted_ip_cidrs", f"{trusted} is within {name}, which comes first")
        if set(self.trusted_asns) & set(self.high_risk_asns):
            raise _unreachable("trusted_asns", "has a number that is in high_risk_asns, which comes first")
        return self


class ActionPolicy(_Part):
    """What a protected action asks for; `max_age_seconds` is how old the last strong proof may be."""

    mode: ActionMode | None = None
    risk_challenge_level: RiskLevel | None = None
    risk_block_level: RiskLevel | None = None
    max_age_seconds: int | None = Field(None, ge=1, le=_MAX_AGE_SECONDS)

    @model_validator(mode="after")
    def _refuse_unreachable(self) -> Self:
        _check_order(
            self.risk_challenge_level, self.risk_block_level, "risk_challenge_level", "risk_block_level"
        )
        if self.mode is ActionMode.OFF:
            for name in ("risk_challenge_level", "risk_block_level", "max_age_seconds"):
                if getattr(self, name) is not None:
                    raise _unreachable(name, "has no effect while mode is off")
        return self


class SecurityPolicy(_Part):
    """The whole policy; a policy with nothing in it is the default."""

    mfa: MfaPolicy = Field(default_factory=MfaPolicy)
    risk: RiskPolicy = Field(default_factory=RiskPolicy)
    actions: dict[str, ActionPolicy] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _refuse_unknown_actions(self) -> Self:
        unknown = next((name for name in self.actions if name not in ACTIONS), None)
        if unknown is not None:
            raise _fault("action_unknown", f"actions.{unknown}", f"is none of {', '.join(ACTIONS)}")
        _check_order(
            self.login_challenge_level, self.login_block_level, "mfa.challenge_risk_level", "block_risk_level"
        )
        return self

    @property
    def login_challenge_level(self) -> RiskLevel:
        """From which level on an adaptive login needs a second factor."""
        return self.mfa.challenge_risk_level or self.risk.challenge_level

    @property
    def login_block_level(self) -> RiskLevel | None:
        """From which level on a login is refused; None when none is."""
        return self.mfa.block_risk_level or self.risk.block_level

    def resolved(self) -> SecurityPolicy:
        """Return the policy with the levels that it takes from elsewhere written out."""
        levels = {"block_risk_level": self.login_block_level}
        if self.mfa.mode is not MfaMode.OFF:
            levels["challenge_risk_level"] = self.login_challenge_level
        return self.model_copy(update={"mfa": self.mfa.model_copy(update=levels)})

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> SecurityPolicy:
        """Read the policy out of a client's settings.

        Settings that were stored before the policy was checked may hold anything: of a policy that cannot be
        read, each part that can be counts, and MFA is required where its own part cannot.
        """
        stored = settings.get(SETTING)
        return _read(json.dumps(stored or {}))


def check_policy(document: object, *, where: str = SETTING) -> SecurityPolicy:
    """Parse a policy that somebody wants to store; `where` is the path of the document in the request.

    Raises:
        UnprocessableRequest: a field is unknown or unacceptable, or a combination has no effect; `errors`
            names the path of each fault.
    """
    try:
        return SecurityPolicy.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=True)
        prefix = where.split(".") if where else []
        raise UnprocessableRequest(
            errors=tuple(
                field_error(fault, [*prefix, *fault["loc"], *_named_field(fault)]) for fault in faults
            )
        ) from None


def tightened(base: SecurityPolicy, override: SecurityPolicy) -> SecurityPolicy:
    """Return `base` made stricter by `override`, and never laxer: what an organization may do to its client.

    Each field takes the stricter of both: the stricter mode, the lower level, the shorter time, both lists of
    what is refused and only the common part of what is trusted.
    """
    first, second = base.mfa, override.mfa
    mfa = MfaPolicy.model_construct(
        mode=_stricter(MfaMode, first.mode, second.mode),
        challenge_risk_level=_lower(base.login_challenge_level, second.challenge_risk_level),
        block_risk_level=_lower(base.login_block_level, override.login_block_level),
        remember_device_days=min(first.remember_device_days, second.remember_device_days),
        trusted_device_bypass=first.trusted_device_bypass and second.trusted_device_bypass,
        enrollment_required=first.enrollment_required or second.enrollment_required,
    )
    old, new = base.risk, override.risk
    risk = RiskPolicy.model_construct(
        challenge_level=_lower(old.challenge_level, new.challenge_level) or old.challenge_level,
        block_level=_lower(old.block_level, new.block_level),
        failed_velocity_threshold=min(old.failed_velocity_threshold, new.failed_velocity_threshold),
        blocked_ip_cidrs=_both(old.blocked_ip_cidrs, new.blocked_ip_cidrs),
        trusted_ip_cidrs=_within(old.trusted_ip_cidrs, new.trusted_ip_cidrs),
        tor_ip_cidrs=_both(old.tor_ip_cidrs, new.tor_ip_cidrs),
        high_risk_asns=_both(old.high_risk_asns, new.high_risk_asns),
        trusted_asns=[asn for asn in old.trusted_asns if asn in new.trusted_asns],
    )
    names = sorted({*base.actions, *override.actions})
    actions = {name: _tightened_action(base.actions.get(name), override.actions.get(name)) for name in names}
    return SecurityPolicy.model_construct(mfa=mfa, risk=risk, actions=actions)


def _tightened_action(base: ActionPolicy | None, override: ActionPolicy | None) -> ActionPolicy:
    if base is None or override is None:
        return base or override or ActionPolicy()
    ages = [age for age in (base.max_age_seconds, override.max_age_seconds) if age is not None]
    modes = [mode for mode in (base.mode, override.mode) if mode is not None]
    return ActionPolicy.model_construct(
        mode=max(modes, key=list(ActionMode).index, default=None),
        risk_challenge_level=_lower(base.risk_challenge_level, override.risk_challenge_level),
        risk_block_level=_lower(base.risk_block_level, override.risk_block_level),
        max_age_seconds=min(ages, default=None),
    )


Ordered = TypeVar("Ordered", bound=StrEnum)
Item = TypeVar("Item")


def _stricter(order: type[Ordered], first: Ordered, second: Ordered) -> Ordered:
    return max(first, second, key=list(order).index)


def _lower(first: RiskLevel | None, second: RiskLevel | None) -> RiskLevel | None:
    return min((level for level in (first, second) if level), key=lambda level: level.rank, default=None)


def _both(first: Sequence[Item], second: Sequence[Item]) -> list[Item]:
    return list(dict.fromkeys((*first, *second)))


def _within(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return the networks that both lists trust: of two that overlap, the smaller."""
    kept = [cidr for cidr in first if _is_within(cidr, second)]
    return _both(kept, [cidr for cidr in second if _is_within(cidr, first)])


def _is_within(cidr: str, others: Sequence[str]) -> bool:
    network = ipaddress.ip_network(cidr)
    return any(
        network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]  # same version
        for other in map(ipaddress.ip_network, others)
    )


def _check_order(challenge: RiskLevel | None, block: RiskLevel | None, name: str, block_name: str) -> None:
    if challenge is not None and block is not None and challenge.rank > block.rank:
        raise _unreachable(name, f"must not be above {block_name}: what is blocked is never challenged")


def _unreachable(field: str, detail: str) -> PydanticCustomError:
    return _fault("unreachable", field, detail)


def _fault(code: str, field: str, detail: str) -> PydanticCustomError:
    # The field is told by the context: pydantic gives a validator of a whole model the model's path.
    return PydanticCustomError(code, "{detail}", {"field": field, "detail": detail})


def _named_field(fault: Mapping[str, Any]) -> list[str]:
    named = (fault.get("ctx") or {}).get("field")
    return [named] if named else []


@lru_cache(maxsize=1024)
def _read(text: str) -> SecurityPolicy:
    """Parse a stored policy once; logins come by the thousand."""
    stored = json.loads(text)
    try:
        return SecurityPolicy.model_validate(stored)
    except ValidationError:
        parts = stored if isinstance(stored, dict) else {}
    return SecurityPolicy.model_construct(
        mfa=_part(MfaPolicy, parts.get("mfa"), MfaPolicy(mode=MfaMode.REQUIRED)),
        risk=_part(RiskPolicy, parts.get("risk"), RiskPolicy()),
        actions={},
    )


PartModel = TypeVar("PartModel", bound=_Part)


def _part(model: type[PartModel], stored: object, otherwise: PartModel) -> PartModel:
    if stored is None:
        return model()
    try:
        return model.model_validate(stored)
    except ValidationError:
        return otherwise
