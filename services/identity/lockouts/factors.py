"""The lockout of second factors: per user, from anywhere, whatever login or session the codes come from.

Who is asked for a code has shown the password, or has a session; so the counter needs no source, and locks
nobody out whose password is not known to the attacker.
"""

from __future__ import annotations

import math
from datetime import datetime

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Tx
from chassis.outbox import Outbox
from contracts import events
from services.identity.errors import AccountLocked
from services.identity.lockouts import store
from services.identity.lockouts.models import Counted, LockoutRules
from services.identity.users.email import Email, EmailHasher
from services.identity.users.models import User

_SOURCE = "second_factor"


class FactorLockouts:
    """Counts attempts at a user's second factors, over all factors, and locks them."""

    def __init__(self, outbox: Outbox, clock: Clock, rules: LockoutRules, emails: EmailHasher) -> None:
        """Take the rules, of which `account_threshold` counts."""
        self._outbox = outbox
        self._clock = clock
        self._rules = rules
        self._emails = emails

    async def reserve(self, tx: Tx, user: User) -> Counted | AccountLocked:
        """Take one of the attempts that are left, or return the refusal.

        The caller evaluates the code in the same transaction, which commits in either case: until then every
        other attempt of the user waits, so that right codes at once do not lock each other out.
        """
        now, rules = self._clock.now(), self._rules
        counted = await store.count(tx, _subject(user), _SOURCE, rules.account_threshold, rules, now)
        return counted if isinstance(counted, Counted) else AccountLocked(retry_after=self._seconds(counted))

    async def succeeded(self, tx: Tx, user: User) -> None:
        """Forget the failures."""
        await store.clear(tx, _subject(user), _SOURCE)

    async def unlock(self, tx: Tx, user: User) -> bool:
        """Forget the failures for support; false when there were none."""
        return await store.clear_all(tx, _subject(user))

    async def locked_until(self, tx: Tx, user: User) -> datetime | None:
        """Return until when a user's second factors are locked; None when they are not."""
        return await store.locked_until(tx, _subject(user), self._clock.now())

    async def failed(self, tx: Tx, user: User, attempt: Counted, caller: CallerContext) -> None:
        """Record what the failure of an attempt means: an event when it locks the second factors."""
        if attempt.locked_until is None:
            return
        locked = events.AccountLocked(
            target_id=user.id,
            email_hash=self._emails.hash(Email(user.email, user.email_normalized)).hex(),
            failures=attempt.number,
            locked_seconds=self._seconds(attempt.locked_until),
        )
        await self._outbox.emit(tx, locked, caller)

    def _seconds(self, until: datetime) -> int:
        return max(1, math.ceil((until - self._clock.now()).total_seconds()))


def _subject(user: User) -> bytes:
    """Return what the user is counted by: the id, which no hash of an address can be, as it is shorter."""
    return user.id.bytes
