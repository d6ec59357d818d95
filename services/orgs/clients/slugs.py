"""Slugs: the short name of a client in URLs, in plain ASCII so that no two look alike."""

from __future__ import annotations

import re
import secrets
import unicodedata

from pydantic_core import PydanticCustomError

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DERIVED_LENGTH = 48
_RESERVED = frozenset(
    {
        *("account", "admin", "api", "app", "assets", "audit", "auth", "authservice", "billing", "default"),
        *("docs", "gateway", "health", "healthz", "help", "internal", "login", "logout", "mail", "metrics"),
        *("null", "oauth", "portal", "public", "readyz", "root", "saml", "scim", "security", "signup", "sso"),
        *("static", "status", "support", "system", "test", "undefined", "well-known", "www"),
    }
)


def parse_slug(value: str) -> str:
    """Return a slug that someone chose, unchanged.

    Raises:
        PydanticCustomError: it has other characters than a DNS label, or stands for something else.
    """
    # `--` begins the ASCII form of international names (RFC 5890 §2.3.1), which can look like any other name.
    if not _SLUG.fullmatch(value) or "--" in value:
        raise PydanticCustomError(
            "slug_invalid", "must be 1 to 63 of a-z, 0-9 and single hyphens, with none at its ends"
        )
    if _is_reserved(value):
        raise PydanticCustomError("slug_reserved", "is reserved")
    return value


def slug_from(name: str) -> str:
    """Return a slug made of a name; never a reserved one."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:_DERIVED_LENGTH].strip("-") or "client"
    return distinct(slug) if _is_reserved(slug) else slug


def distinct(slug: str) -> str:
    """Return the slug with a random ending, for a name that more than one client has."""
    return f"{slug}-{secrets.token_hex(3)}"


def _is_reserved(slug: str) -> bool:
    return slug in _RESERVED or _UUID.fullmatch(slug) is not None
