"""Publishes the status lists (draft-ietf-oauth-status-list-21), signed by the issuer."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections import OrderedDict
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from services.token.errors import StatusListNotFound
from services.token.revocations.feed import RevocationFeed
from services.token.signing.algorithms import Algorithm, Signer, base64url
from services.token.signing.keyring import Keyring
from services.token.status_lists import store
from services.token.status_lists.bits import LIST_BITS, LIST_BYTES, Bits, StatusBits, uri_of

SIGNED = Counter("status_lists_signed_total", "Status lists signed, each time anew.")

LIFE: Final = timedelta(minutes=5)
"""A validator that cannot get a newer one may go by a list for as long."""

_TYPE: Final = "statuslist+jwt"
_ALGORITHM: Final = Algorithm.ES256  # the quickest to make that every validator knows
_PERIOD_SECONDS: Final = 60
_REBUILD_SECONDS: Final = 0.1
_LAST_FRESH_SECONDS: Final = 1.0
_MAX_KEPT: Final = 256
_LEVEL: Final = 9


@dataclass(frozen=True, slots=True)
class StatusList:
    """A list as served. The tag is of what it says, which each process signs for itself."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class _Kept:
    served: StatusList
    made_from: tuple[int, str, int]
    made_at: float


class StatusLists:
    """Serves lists from memory: a request costs a signature at most, and at most ten of them a second."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        keyring: Keyring,
        feed: RevocationFeed,
        bits: StatusBits,
        issuer: str,
        ttl: timedelta,
    ) -> None:
        """Take what is dead, what signs, and for how long a validator may keep a list."""
        self._db = db
        self._clock = clock
        self._keyring = keyring
        self._feed = feed
        self._bits = bits
        self._issuer = issuer
        self.ttl = int(ttl.total_seconds())
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._making: dict[int, asyncio.Task[StatusList]] = {}
        self._zeros = zlib.compress(bytes(LIST_BYTES), _LEVEL)
        self._last = (0, float("-inf"))
        self._asking: asyncio.Task[None] | None = None

    async def of(self, number: int) -> StatusList:
        """Return a list.

        Raises:
            StatusListNotFound: no session has a place in it.
            Unavailable: it is not known what is revoked, or whether there is such a list.
        """
        if not self._feed.is_loaded:
            raise Unavailable
        await self._check_exists(number)
        signer = await self._keyring.issuer_signer(_ALGORITHM)
        bits = self._bits.of(number)
        now = int(self._clock.now().timestamp())
        made_from = (bits.version if bits else -1, signer.kid, now // _PERIOD_SECONDS)
        kept = self._kept.get(number)
        if kept is not None and (
            kept.made_from == made_from
            or (kept.made_from[1:] == made_from[1:] and time.monotonic() - kept.made_at < _REBUILD_SECONDS)
        ):
            return kept.served
        task = self._making.get(number)
        if task is None:
            # Without the context of whoever asks first: its deadline is not the others'.
            task = asyncio.create_task(self._make(number, bits, signer, made_from, now), context=Context())
            self._making[number] = task
            task.add_done_callback(lambda _: self._making.pop(number, None))
        return await asyncio.shield(task)

    async def _make(
        self, number: int, bits: Bits | None, signer: Signer, made_from: tuple[int, str, int], now: int
    ) -> StatusList:
        # In a thread, for milliseconds: the level that the draft asks for is slow where few bits are set.
        compressed = (
            await asyncio.to_thread(zlib.compress, bytes(bits.octets), _LEVEL) if bits else self._zeros
        )
        claims: dict[str, object] = {
            "iss": self._issuer,
            "sub": uri_of(self._issuer, number),
            "iat": now,
            "exp": now + int(LIFE.total_seconds()),
            "ttl": self.ttl,
            "status_list": {"bits": 1, "lst": base64url(compressed).decode()},
        }
        said = hashlib.sha256(f"{signer.kid}:{now // _PERIOD_SECONDS}:".encode() + compressed)
        found = StatusList((await signer.token(claims, _TYPE)).encode(), f'W/"{said.hexdigest()[:32]}"')
        SIGNED.inc()
        self._kept[number] = _Kept(found, made_from, time.monotonic())
        self._kept.move_to_end(number)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    async def _check_exists(self, number: int) -> None:
        """Go by what was the last place a second ago; the list after it may have been begun since."""
        last, read_at = self._last
        if number <= (last >> LIST_BITS) + 1:
            return
        if time.monotonic() - read_at >= _LAST_FRESH_SECONDS:
            if self._asking is None or self._asking.done():
                # Without the context of whoever asks first: its deadline is not the others'.
                self._asking = asyncio.create_task(self._ask(), context=Context())
            await asyncio.shield(self._asking)
            last, _ = self._last
        if number > (last >> LIST_BITS) + 1:
            raise StatusListNotFound

    async def _ask(self) -> None:
        async with self._db.platform() as tx:
            last = await store.last_index(tx)
        self._last = last, time.monotonic()
