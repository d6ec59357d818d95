"""The roles of admins: one table, which code, documentation and tests follow.

A route declares the permission that it needs; a role is the set of permissions it gives. Several roles of an
admin add up. The break-glass key has no role and may do everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Role(StrEnum):
    """What an admin is there for."""

    OWNER = "owner"
    SECURITY_ADMIN = "security_admin"
    SUPPORT_ADMIN = "support_admin"
    BILLING_ADMIN = "billing_admin"
    READ_ONLY_AUDITOR = "read_only_auditor"


PERMISSIONS: Final = MappingProxyType(
    {
        "admins:read": "see admins, their roles and scopes",
        "admins:write": "add, change and remove admins; never beyond one's own rights",
        "apps:read": "see the OAuth apps of clients and their secrets",
        "apps:write": "create, change and delete OAuth apps, their secrets and what lets apps register",
        "audit:export": "take audit events out in bulk",
        "audit:read": "read audit events, verify the chain",
        "audit:write": "put events on hold, purge by retention",
        "clients:read": "see clients and their settings",
        "clients:write": "create, change and suspend clients",
        "keys:read": "see which API and signing keys there are",
        "keys:write": "create, rotate and revoke keys and secrets",
        "machines:read": "see service accounts and their keys",
        "machines:write": "create, change and delete service accounts, rotate and revoke their keys",
        "metrics:read": "read the metrics of the gateway",
        "self:prove": "show one's own second factor for what asks for it",
        "security:read": "see security policies",
        "security:write": "change security policies",
        "users:impersonate": "get a session in a user's name",
        "users:import": "bring users in, in bulk",
        "users:read": "search and see users and their sessions",
        "users:write": "change, suspend, unlock and delete users, end their sessions",
    }
)
"""Every permission, and what it allows."""

_OWN: Final = frozenset({"self:prove"})
_READING: Final = _OWN | frozenset({"apps:read", "clients:read", "machines:read", "users:read"})

ROLES: Final = MappingProxyType(
    {
        Role.OWNER: frozenset(PERMISSIONS),
        Role.SECURITY_ADMIN: _READING
        | {
            *(
                "admins:read",
                "admins:write",
                "apps:write",
                "audit:read",
                "audit:export",
                "audit:write",
                "keys:read",
            ),
            *(
                "keys:write",
                "machines:write",
                "metrics:read",
                "security:read",
                "security:write",
                "users:write",
            ),
        },
        Role.SUPPORT_ADMIN: _READING
        | {"audit:read", "security:read", "users:impersonate", "users:import", "users:write"},
        Role.BILLING_ADMIN: _OWN | {"clients:read"},
        Role.READ_ONLY_AUDITOR: _READING
        | {"admins:read", "audit:read", "audit:export", "keys:read", "security:read"},
    }
)
"""Role → its permissions."""


def permissions_of(roles: Iterable[str]) -> frozenset[str]:
    """Return what roles allow together; one that is not known allows nothing."""
    known = (ROLES[Role(role)] for role in roles if role in set(Role))
    return frozenset[str]().union(*known)
