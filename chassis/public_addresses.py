"""Which addresses are of the public Internet: where what tenants name may lead, and nothing else."""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# All that is given out of IPv6 (RFC 4291 §2.4), and its part that is for documents (RFC 9637).
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: IpAddress) -> bool:
    """Whether a packet to the address ends on the public Internet, and nowhere inside.

    False for loopback, private, link-local (cloud metadata), site-local, shared, multicast and reserved
    addresses, for IPv6 addresses outside of 2000::/3, and for those that wrap such an IPv4 one.
    """
    return all(
        place.is_global
        and not (place.is_multicast or place.is_reserved or place.is_unspecified)
        and _is_given_out(place)
        for place in _places(address)
    )


def _is_given_out(place: IpAddress) -> bool:
    return isinstance(place, ipaddress.IPv4Address) or (place in _GIVEN_OUT and place not in _DOCUMENTATION)


def _places(address: IpAddress) -> list[IpAddress]:
    """Where a packet to the address may end: itself, or the IPv4 address that is wrapped in it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    wrapped = [address.sixtofour] if address.sixtofour else []
    return [address, *wrapped, *(address.teredo or ())]
