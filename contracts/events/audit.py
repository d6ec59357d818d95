"""What `audit` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chassis.events import DomainEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditChainChecked(DomainEvent):
    """Someone verified an audit chain."""

    type: ClassVar[str] = "audit_chain_checked"
    intact: bool
