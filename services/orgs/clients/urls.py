"""URLs an administrator gives us: exact browser origins, and what we may call.

Both are judged by their text alone. What a name resolves to is checked again when it is called.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from pydantic_core import PydanticCustomError

from chassis.public_addresses import IpAddress, is_public

_MAX_ORIGIN_LENGTH = 300
_MAX_URL_LENGTH = 2048
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?")
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e]+")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa")


def parse_origin(value: str) -> str:
    """Return an origin as browsers send it (RFC 6454 §6.2): lower-cased, without a default port.

    Raises:
        PydanticCustomError: it is not one exact origin (a path, a wildcard, a user, `null`), or it is plain
            http to anywhere but this machine.
    """
    match = _ORIGIN.fullmatch(value.lower()) if len(value) <= _MAX_ORIGIN_LENGTH else None
    if match is None or not value.isascii():
        raise PydanticCustomError(
            "origin_not_exact", "must be one exact origin: scheme://host or scheme://host:port, nothing more"
        )
    scheme, host, port = match[1], canonical_host(match[2]), match[3]
    if host is None or (port and not 0 < int(port) <= _MAX_PORT):
        raise PydanticCustomError("origin_not_exact", "has a host or a port that does not exist")
    if scheme == "http" and not _is_loopback(host):
        raise PydanticCustomError("origin_not_secure", "must use https, except for a loopback address")
    return f"{scheme}://{host}" + (f":{int(port)}" if port and int(port) != _DEFAULT_PORTS[scheme] else "")


def parse_public_url(value: str) -> str:
    """Return a URL that we may call (a webhook, a back-channel logout) or show to users, unchanged.

    Raises:
        PydanticCustomError: it is not plain https, carries a user or a fragment, or names a private place.
    """
    if not _PRINTABLE_ASCII.fullmatch(value) or "\\" in value or len(value) > _MAX_URL_LENGTH:
        raise PydanticCustomError("url_invalid", "must be an absolute https URL in printable ASCII")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise PydanticCustomError("url_invalid", "must be an absolute https URL") from None
    if parts.scheme != "https" or not parts.hostname:
        raise PydanticCustomError("url_not_secure", "must be an absolute https URL")
    if "@" in parts.netloc or parts.fragment:
        raise PydanticCustomError("url_invalid", "must have no user, password or fragment")
    if not _is_public(parts):
        raise PydanticCustomError("url_private", "must name a public host")
    return value


def canonical_host(host: str) -> str | None:
    """Return a host as browsers write it; None when there can be no such host.

    The host is in lower case already; an IPv6 address stands in brackets.
    """
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    if not _HOST.fullmatch(host):
        return None
    # A last label that is a number makes it an IPv4 address (WHATWG URL §3.5), which has one canonical form.
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and _ip(host) is None:
        return None
    return host


def _is_loopback(host: str) -> bool:
    address = _ip(host.strip("[]"))
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _is_public(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    address = _ip(host)
    if address is not None:
        return is_public(address)
    # Odd spellings of IPv4 (2130706433, 0x7f.1, 127.1) fail here: some resolvers take them for addresses.
    if canonical_host(host) is None or "." not in host:
        return False
    return not host.endswith(_PRIVATE_SUFFIXES)


def _ip(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
