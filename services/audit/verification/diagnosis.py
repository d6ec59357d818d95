"""Naming what happened to the first row that does not verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chassis.sealing import SealBroken
from services.audit.ingest.chain import Chains
from services.audit.ingest.models import Link
from services.audit.verification.models import Reason


def diagnose(chains: Chains, row: Link, previous: bytes, following: Sequence[Link]) -> Reason:
    """Say why `row` is not what follows `previous`; `following` are the rows behind it, as far as looked at.

    Each guess is proven by a hash that only this service could have made; without a proof the row counts as
    changed.
    """
    try:
        chains.follows(row, previous)
    except SealBroken:
        return Reason.KEY_UNKNOWN
    if any(other.position == row.position for other in following):
        return Reason.ROW_INSERTED
    hashes = {other.position: other.hash for other in (row, *following)}
    if _stood_behind(chains, row, hashes):
        return Reason.ROW_MOVED
    if _stood_here(chains, row, previous, following):
        return Reason.ROW_INSERTED
    return Reason.ROW_CHANGED


def _stood_here(chains: Chains, row: Link, previous: bytes, following: Sequence[Link]) -> bool:
    """The next row was written for this place: a foreign one was pushed in before it."""
    return any(
        _follows(chains, other, previous, row.position) == other.hash
        for other in following
        if other.position == row.position + 1
    )


def _stood_behind(chains: Chains, row: Link, hashes: Mapping[int, bytes]) -> bool:
    """The row was written for a later place, with or without its hash brought along.

    The hash before that place is the one that stands there now, or, when neighbours were swapped, the one
    behind.
    """
    return any(
        _follows(chains, row, before, position) in (row.hash, digest)
        for position, digest in hashes.items()
        if position != row.position
        for before in (hashes.get(position - 1), digest)
        if before is not None
    )


def _follows(chains: Chains, link: Link, previous: bytes, position: int) -> bytes | None:
    try:
        return chains.follows(link, previous, position)
    except SealBroken:
        return None
