"""From what is known to signals: the table of levels, and the rule of each. Pure; asks nobody.

The level of a login is that of its heaviest signal. The same facts always give the same level.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator, Sequence
from datetime import timedelta

from chassis.geo import Place
from contracts.security_policy import RiskLevel, RiskPolicy
from services.identity.risk.models import (
    Background,
    PastLogin,
    ProviderVerdict,
    Signal,
    SignalName,
    Visit,
)

LEVELS: dict[SignalName, RiskLevel] = {
    SignalName.TRUSTED_NETWORK: RiskLevel.LOW,
    SignalName.NEW_IP: RiskLevel.LOW,
    SignalName.NEW_DEVICE: RiskLevel.MEDIUM,
    SignalName.FAILED_VELOCITY: RiskLevel.MEDIUM,
    SignalName.VPN: RiskLevel.MEDIUM,
    SignalName.PROXY: RiskLevel.MEDIUM,
    SignalName.IMPOSSIBLE_TRAVEL: RiskLevel.HIGH,
    SignalName.HIGH_RISK_ASN: RiskLevel.HIGH,
    SignalName.REFRESH_TOKEN_REUSE: RiskLevel.HIGH,
    SignalName.TOR: RiskLevel.HIGH,
    SignalName.BOT: RiskLevel.HIGH,
    SignalName.BLOCKED_IP: RiskLevel.CRITICAL,
}
"""What each weighs; `provider` weighs what the provider says, and five times the failures are high."""

_MANY_TIMES = 5
_FASTEST_KMH = 900.0
_SHORTEST_KM = 300.0
"""Databases place an address within a region: less is no travel."""
_EARTH_KM = 6371.0
_IPV4_NETWORK_BITS = 24
_IPV6_NETWORK_BITS = 64


def signals(
    policy: RiskPolicy, background: Background, visit: Visit, verdict: ProviderVerdict
) -> tuple[Signal, ...]:
    """Return what is noticed of a login, the heaviest first.

    From a trusted network nothing counts that only says where the user is; what is said of the account
    (failures, reuse), of the request (bot) and by the blocked list counts everywhere.
    """
    found = list(_of_account(policy, background))
    if is_listed(visit.ip, policy.blocked_ip_cidrs):
        found.append(_signal(SignalName.BLOCKED_IP, "The address is on the client's list of blocked ones."))
    if is_listed(visit.ip, policy.trusted_ip_cidrs) or visit.asn in policy.trusted_asns:
        found.append(_signal(SignalName.TRUSTED_NETWORK, "The network is one that the client trusts."))
        found += _of_provider(verdict, but=(SignalName.TOR, SignalName.VPN, SignalName.PROXY))
    else:
        found += _of_network(policy, visit)
        found += _of_history(background.logins, visit)
        found += _of_provider(verdict, but=tuple(signal.name for signal in found))
    return tuple(sorted(found, key=lambda signal: -signal.level.rank))


def network_of(ip: str) -> str:
    """Return the network that an address is compared by: /24 of IPv4, /64 of IPv6; empty for no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = _IPV4_NETWORK_BITS if address.version == 4 else _IPV6_NETWORK_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))


def is_listed(ip: str, cidrs: Sequence[str]) -> bool:
    """Whether an address is within one of some networks."""
    if not cidrs:
        return False
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(cidr) for cidr in cidrs)


def _of_account(policy: RiskPolicy, background: Background) -> Iterator[Signal]:
    if background.reuses:
        yield _signal(SignalName.REFRESH_TOKEN_REUSE, "A used refresh token of the user came back lately.")
    if background.failures >= policy.failed_velocity_threshold:
        is_high = background.failures >= policy.failed_velocity_threshold * _MANY_TIMES
        level = RiskLevel.HIGH if is_high else LEVELS[SignalName.FAILED_VELOCITY]
        detail = f"{background.failures} logins of the user failed within minutes."
        yield Signal(SignalName.FAILED_VELOCITY, level, detail)


def _of_network(policy: RiskPolicy, visit: Visit) -> Iterator[Signal]:
    if is_listed(visit.ip, policy.tor_ip_cidrs):
        yield _signal(SignalName.TOR, "The address is on the client's list of Tor exits.")
    if visit.asn is not None and visit.asn in policy.high_risk_asns:
        yield _signal(
            SignalName.HIGH_RISK_ASN, f"The network AS{visit.asn} is one that the client distrusts."
        )


def _of_history(logins: Sequence[PastLogin], visit: Visit) -> Iterator[Signal]:
    """What differs from earlier logins; a first login differs from nothing."""
    if not logins:
        return
    is_new_network = visit.network not in {login.network for login in logins}
    if is_new_network:
        yield _signal(SignalName.NEW_IP, "The user has not logged in from this network lately.")
    # A browser that lost its cookie is the same one while it comes from where it came from.
    is_same_browser = any(
        (login.network, login.user_agent) == (visit.network, visit.user_agent) for login in logins
    )
    if visit.is_known_device is False and not is_same_browser:
        yield _signal(SignalName.NEW_DEVICE, "The user has not logged in with this browser before.")
    last = logins[0]
    distance = _kilometres(last.place, visit.place)
    hours = max(visit.at - last.at, timedelta(seconds=1)) / timedelta(hours=1)
    if distance is not None and distance > _SHORTEST_KM and distance / hours > _FASTEST_KMH:
        detail = f"{distance:.0f} km from the login {hours:.1f} hours before."
        yield _signal(SignalName.IMPOSSIBLE_TRAVEL, detail)


def _of_provider(verdict: ProviderVerdict, but: Sequence[str]) -> Iterator[Signal]:
    for name in (SignalName.TOR, SignalName.VPN, SignalName.PROXY, SignalName.BOT):
        if name in verdict.flags and name not in but:
            yield _signal(name, f"The risk provider says that it is {name}.")
    if verdict.level is not None and verdict.level is not RiskLevel.LOW:
        reasons = ", ".join(verdict.signals) or "no reason given"
        yield Signal(
            SignalName.PROVIDER, verdict.level, f"The risk provider says {verdict.level}: {reasons}."
        )


def _signal(name: SignalName, detail: str) -> Signal:
    return Signal(name, LEVELS[name], detail)


def _kilometres(first: Place, second: Place) -> float | None:
    """Return the distance on the great circle (haversine); None where a place is not known."""
    if None in (first.latitude, first.longitude, second.latitude, second.longitude):
        return None
    degrees = (first.latitude, first.longitude, second.latitude, second.longitude)
    a, b, c, d = (math.radians(value) for value in degrees if value is not None)
    half = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * _EARTH_KM * math.asin(math.sqrt(half))
