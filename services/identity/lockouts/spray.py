"""Sprays: few passwords at many addresses, which no counter of one address sees.

Counted are the addresses of a client at which passwords from one source failed, each once a window. Past
the threshold the source is refused at every address of the client for minutes. Exempt are browsers that are
known, networks that the client trusts, and requests with a secret key: those come from the client's backend,
whose one address stands for all its users, and a stranger behind it must not be able to close it. They are
counted, and told of by the event, all the same.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from chassis.clock import Clock
from chassis.context import CallerContext, KeyKind
from chassis.database import Tx
from chassis.outbox import Outbox
from contracts import events
from services.identity.errors import SourceLocked
from services.identity.lockouts import store
from services.identity.lockouts.models import Attempt, Counted, LockoutRules
from services.identity.lockouts.service import source_of

_SUBJECT = b"addresses"
"""What the addresses are counted by; no hash of an address can be it, as it is shorter."""


class SprayLimiter:
    """Counts addresses per source, and refuses sources."""

    def __init__(self, outbox: Outbox, clock: Clock, rules: LockoutRules, threshold: int) -> None:
        """Take how many addresses of one client a source may fail at in a window."""
        self._outbox = outbox
        self._clock = clock
        self._rules = replace(rules, threshold=threshold)

    async def refusal(self, tx: Tx, caller: CallerContext) -> SourceLocked | None:
        """Return why nobody may log in from the caller's source now, if so."""
        if caller.key_kind is KeyKind.SECRET:
            return None
        until = await store.locked_until(tx, _SUBJECT, self._clock.now(), source_of(caller.ip))
        return None if until is None else SourceLocked(retry_after=self._seconds(until))

    async def failed(self, tx: Tx, caller: CallerContext, attempt: Attempt) -> None:
        """Count the address of a failed attempt, once in its own window."""
        source = source_of(caller.ip)
        if attempt.here.number != 1 or attempt.here.source != source:
            return
        rules = self._rules
        counted = await store.count(tx, _SUBJECT, source, rules.threshold, rules, self._clock.now())
        if isinstance(counted, Counted) and counted.locked_until is not None:
            spray = events.LoginSprayDetected(
                addresses=counted.number, locked_seconds=self._seconds(counted.locked_until)
            )
            await self._outbox.emit(tx, spray, caller)

    def _seconds(self, until: datetime) -> int:
        return max(1, math.ceil((until - self._clock.now()).total_seconds()))
