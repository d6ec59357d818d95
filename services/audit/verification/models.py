"""What a verification finds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.audit.ingest.models import Head


class Reason(StrEnum):
    """How a chain is broken."""

    ROW_CHANGED = "row_changed"
    ROW_MISSING = "row_missing"
    ROW_INSERTED = "row_inserted"
    ROW_MOVED = "row_moved"
    HEAD_MISMATCH = "head_mismatch"
    CHECKPOINT_MISMATCH = "checkpoint_mismatch"
    KEY_UNKNOWN = "key_unknown"


@dataclass(frozen=True, slots=True)
class Break:
    """The first position that is not as it was written; `event_id` is of the row that stands there."""

    position: int
    reason: Reason
    event_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A chain's ends, as one statement saw them; a position is 0 where there is nothing."""

    head: Head | None
    last_row: int
    last_checkpoint: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was checked and found."""

    client_id: UUID
    checked: int
    first_position: int
    last_position: int
    head_hash: bytes | None
    checkpoints_checked: int
    verified_at: datetime
    broken: Break | None
