"""Walking a chain and comparing it with what only this service could have written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from chassis.clock import Clock
from chassis.database import Database
from chassis.sealing import SealBroken
from services.audit.checkpoints import store as checkpoint_store
from services.audit.checkpoints.models import Checkpoint
from services.audit.checkpoints.service import Checkpoints
from services.audit.checkpoints.signing import CheckpointKey
from services.audit.errors import RangeReversed
from services.audit.ingest.chain import Chains
from services.audit.ingest.models import GENESIS, Link
from services.audit.verification import store
from services.audit.verification.diagnosis import diagnose
from services.audit.verification.models import Break, Reason, Snapshot, Verdict

_CHUNK = 500
"""Positions per step: some milliseconds of hashing between two awaits."""


@dataclass(slots=True)
class _Walk:
    """How far a verification came."""

    client_id: UUID
    first: int
    last: int
    previous: bytes = GENESIS
    checked: int = 0
    last_signed: str | None = None
    checkpoints: int = 0
    hashes: dict[int, bytes] = field(default_factory=dict)

    @property
    def next(self) -> int:
        return self.first + self.checked


class Verification:
    """Proves a chain: its rows by their keyed hashes, its end by its head, both by the signed checkpoints."""

    def __init__(self, db: Database, chains: Chains, checkpoints: Checkpoints, clock: Clock) -> None:
        """Take the log and what proves it."""
        self._db = db
        self._chains = chains
        self._checkpoints = checkpoints
        self._clock = clock

    async def verify(self, client_id: UUID, first: int, last: int | None) -> Verdict:
        """Check the chain from `first` to `last` (None: to its end) in steps of bounded memory.

        Rows are read in several transactions: they never change, and the end is where one snapshot saw it.

        Raises:
            RangeReversed: `last` is before `first`.
        """
        if last is not None and last < first:
            raise RangeReversed
        async with self._db.platform() as tx:
            ends = await store.snapshot(tx, client_id)
        end = ends.head.position if ends.head is not None else ends.last_row
        walk = _Walk(client_id, first, end if last is None else min(last, end))
        broken = await self._begin(walk)
        key = await self._checkpoints.key()
        while broken is None and walk.next <= walk.last:
            broken = await self._step(walk, key)
        if broken is None and walk.last == end and first <= end + 1:
            broken = await self._check_end(walk, ends)
        return Verdict(
            client_id=client_id,
            checked=walk.checked,
            first_position=first,
            last_position=max(walk.last, first - 1),
            head_hash=ends.head.hash if ends.head is not None else None,
            checkpoints_checked=walk.checkpoints,
            verified_at=self._clock.now(),
            broken=broken,
        )

    async def _begin(self, walk: _Walk) -> Break | None:
        """Find the hash and the checkpoint before the first position."""
        if walk.first == 1 or walk.first > walk.last:
            return None
        before = walk.first - 1
        async with self._db.platform() as tx:
            found = await store.links(tx, walk.client_id, before, before, 1)
            walk.last_signed = await checkpoint_store.last_before(tx, walk.client_id, walk.first)
        if not found:
            return Break(before, Reason.ROW_MISSING)
        walk.previous = found[0].hash
        return None

    async def _step(self, walk: _Walk, key: CheckpointKey) -> Break | None:
        """Check the next positions, and then the checkpoints that lie on them."""
        first, last = walk.next, min(walk.next + _CHUNK - 1, walk.last)
        async with self._db.platform() as tx:
            rows = await store.links(tx, walk.client_id, first, last, 2 * _CHUNK)
            checkpoints = await checkpoint_store.of_chain(tx, walk.client_id, first, last)
        walk.hashes.clear()
        broken = self._check_rows(walk, rows, last)
        contradicted = _check_checkpoints(walk, checkpoints, key)
        if contradicted is not None and (broken is None or contradicted.position < broken.position):
            return contradicted
        if broken is not None and broken.reason is Reason.ROW_CHANGED:
            return await self._explain(walk, broken)
        return broken

    def _check_rows(self, walk: _Walk, rows: Sequence[Link], last: int) -> Break | None:
        for row in rows:
            if row.position > walk.next:
                return Break(walk.next, Reason.ROW_MISSING)
            if row.position < walk.next:
                return Break(row.position, Reason.ROW_INSERTED, row.record.event_id)
            try:
                is_whole = self._chains.follows(row, walk.previous) == row.hash
            except SealBroken:
                return Break(row.position, Reason.KEY_UNKNOWN, row.record.event_id)
            if not is_whole:
                return Break(row.position, Reason.ROW_CHANGED, row.record.event_id)
            walk.previous = walk.hashes[row.position] = row.hash
            walk.checked += 1
        return Break(walk.next, Reason.ROW_MISSING) if walk.next <= last else None

    async def _explain(self, walk: _Walk, broken: Break) -> Break:
        async with self._db.platform() as tx:
            rows = await store.links(
                tx, walk.client_id, broken.position, broken.position + _CHUNK, 2 * _CHUNK
            )
        if not rows:
            return broken
        reason = diagnose(self._chains, rows[0], walk.previous, rows[1:])
        return Break(broken.position, reason, rows[0].record.event_id)

    async def _check_end(self, walk: _Walk, ends: Snapshot) -> Break | None:
        """Check that the chain ends where its head says, and that the head is ours."""
        head, behind = ends.head, walk.last + 1
        if ends.last_row > walk.last:
            return await self._rows_behind(walk, behind)
        if ends.last_checkpoint > walk.last:
            return Break(behind, Reason.CHECKPOINT_MISMATCH)
        if head is None:
            return Break(behind, Reason.HEAD_MISMATCH) if ends.last_row else None
        if head.broken_position is not None:
            return Break(head.broken_position, Reason.HEAD_MISMATCH)
        if not self._chains.can_tell(head):
            return Break(behind, Reason.KEY_UNKNOWN)
        if not self._chains.proves(head) or (walk.checked and head.hash != walk.previous):
            return Break(behind, Reason.HEAD_MISMATCH)
        if head.checkpoint_position != ends.last_checkpoint:
            return Break(head.checkpoint_position, Reason.CHECKPOINT_MISMATCH)
        return None

    async def _rows_behind(self, walk: _Walk, behind: int) -> Break:
        """Rows lie behind the head: ours, then the head was set back, or foreign ones."""
        async with self._db.platform() as tx:
            rows = await store.links(tx, walk.client_id, behind, behind, 1)
        if not rows:
            return Break(behind, Reason.ROW_MISSING)
        try:
            is_ours = self._chains.follows(rows[0], walk.previous) == rows[0].hash
        except SealBroken:
            is_ours = False
        reason = Reason.HEAD_MISMATCH if is_ours else Reason.ROW_INSERTED
        return Break(behind, reason, rows[0].record.event_id)


def _check_checkpoints(walk: _Walk, checkpoints: Sequence[Checkpoint], key: CheckpointKey) -> Break | None:
    """Compare the checkpoints with the rows that verified; one at a row that did not is that row's matter."""
    for checkpoint in checkpoints:
        digest = walk.hashes.get(checkpoint.position)
        if digest is None:
            continue
        if digest != checkpoint.hash or not key.confirms(checkpoint, walk.last_signed):
            return Break(checkpoint.position, Reason.CHECKPOINT_MISMATCH)
        walk.last_signed = checkpoint.signed
        walk.checkpoints += 1
    return None
