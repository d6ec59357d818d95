"""Which places of the status lists are dead now, in memory; kept up to date by the feed of revocations.

A place is a session's, and stands for the access tokens it has given out. The session that ends takes it
along. One that goes on after its tokens were revoked, with its client's or key's or alone, is given another
place when this one dies, so that a place never comes back to life while a token that names it lives.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

LIST_BITS: Final = 17
LIST_SIZE: Final = 1 << LIST_BITS
"""Places of one list: 16 KiB before compression."""

LIST_BYTES: Final = LIST_SIZE // 8
_PLACE: Final = LIST_SIZE - 1


def uri_of(issuer: str, number: int) -> str:
    """Return where a list is."""
    return f"{issuer}/.well-known/status-lists/{number}"


def status_claim(issuer: str, index: int) -> dict[str, object]:
    """Return the claim by which a token names its place (draft-ietf-oauth-status-list-21 §6)."""
    return {"status_list": {"idx": index & _PLACE, "uri": uri_of(issuer, index >> LIST_BITS)}}


@dataclass(slots=True)
class Bits:
    """One list: its bits, least significant first; each change gives it a `version` that none has had."""

    octets: bytearray = field(default_factory=lambda: bytearray(LIST_BYTES))
    expiries: dict[int, float] = field(default_factory=dict)
    version: int = 0


class StatusBits:
    """The lists that have a dead place. A place is forgotten when no token that names it can live."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lists: dict[int, Bits] = {}
        self._versions = itertools.count(1)
        self._expiries: list[tuple[float, int]] = []

    def of(self, number: int) -> Bits | None:
        """Return a list; None for one whose places all live."""
        return self._lists.get(number)

    def kill(self, indices: Sequence[int], expires_at: datetime) -> None:
        """Set bits, until `expires_at`."""
        expiry = expires_at.timestamp()
        for index in indices:
            number, place = index >> LIST_BITS, index & _PLACE
            bits = self._lists.setdefault(number, Bits())
            known = bits.expiries.get(place)
            if known is not None and known >= expiry:
                continue
            if known is None:
                bits.octets[place >> 3] |= 1 << (place & 7)
                bits.version = next(self._versions)
            bits.expiries[place] = expiry
            heapq.heappush(self._expiries, (expiry, index))

    def forget_expired(self, now: float) -> None:
        """Clear the bits that no living token can name."""
        while self._expiries and self._expiries[0][0] <= now:
            _, index = heapq.heappop(self._expiries)
            self._clear(index >> LIST_BITS, index & _PLACE, now)

    def _clear(self, number: int, place: int, now: float) -> None:
        bits = self._lists.get(number)
        # One that was prolonged has a later line in the heap.
        if bits is None or bits.expiries.get(place, now + 1) > now:
            return
        del bits.expiries[place]
        bits.octets[place >> 3] &= ~(1 << (place & 7))
        bits.version = next(self._versions)
        if not bits.expiries:
            del self._lists[number]
