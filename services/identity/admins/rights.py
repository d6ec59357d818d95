"""What an admin may do and where, as a value that can be compared: nobody gives more than it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chassis.context import ALL
from contracts.admin_roles import PERMISSIONS, permissions_of


@dataclass(frozen=True, slots=True)
class Rights:
    """Permissions within scopes."""

    permissions: frozenset[str]
    scopes: frozenset[str]

    @classmethod
    def of(cls, roles: Iterable[str], scopes: Iterable[str]) -> Rights:
        """Add up what roles and scopes give."""
        return cls(permissions_of(roles), frozenset(scopes))

    def sees(self, other: Rights) -> bool:
        """Whether the other is of nothing beyond these scopes."""
        return ALL in self.scopes or other.scopes <= self.scopes

    def covers(self, other: Rights) -> bool:
        """Whether the other can do nothing, anywhere, that these cannot."""
        return self.sees(other) and other.permissions <= self.permissions


EVERYTHING = Rights(frozenset(PERMISSIONS), frozenset({ALL}))
"""Of the break-glass key."""
