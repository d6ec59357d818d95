"""Whose address a request comes from, when proxies stand before the gateway."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from gateway.config import ForwardedHeader, Network

_FOR = re.compile(r'(?:^|[;,])\s*for\s*=\s*("[^"]*"|[^;,\s]*)', re.IGNORECASE)
_MAX_HOPS = 32


class ClientAddresses:
    """Finds a client's address: the right-most hop that is not a trusted proxy.

    Whatever a client writes into the header that the proxies set, `X-Forwarded-For` or `Forwarded` (RFC
    7239), stands left of what the first trusted proxy appended, so it is never reached. The other header is
    never read: the proxies pass it on as the client wrote it. From a peer that is not trusted both are
    ignored.
    """

    def __init__(self, trusted: Sequence[Network], header: ForwardedHeader) -> None:
        """Take the networks of the proxies that are believed, and the `header` that they set."""
        self._trusted = tuple(trusted)
        self.header = header

    def is_trusted(self, address: str) -> bool:
        """Whether an address is a trusted proxy's."""
        return bool(self._trusted) and _is_within(address, self._trusted)

    def client(self, peer: str, hops: str) -> str:
        """Return the client's address in its canonical form; the peer's when nobody else is believed.

        `hops` is the value of `header`.
        """
        address = canonical(peer) or peer
        if not self.is_trusted(address):
            return address
        named = _FOR.findall(hops) if self.header == "forwarded" else hops.split(",")
        for hop in reversed(named[-_MAX_HOPS:]):
            parsed = canonical(hop.strip().strip('"'))
            if parsed is None:
                break
            address = parsed
            if not self.is_trusted(address):
                break
        return address


@lru_cache(maxsize=4096)
def canonical(text: str) -> str | None:
    """Return an address without port and brackets, IPv4 when it is mapped into IPv6; None when it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


@lru_cache(maxsize=4096)
def limit_key(address: str) -> str:
    """Return what limits count by: the address, or of IPv6 the /64 that one subscriber has as a whole."""
    parsed = canonical(address)
    if parsed is None or ":" not in parsed:
        return parsed or address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False).network_address)


@lru_cache(maxsize=4096)
def _is_within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
