"""The lockout: attempts are reserved before a password is looked at, per address and source, and per address.

An address without an account is counted alike, so that a lock tells nothing. A source is an IP address (for
IPv6 its /64, which one subscriber holds), so that an attacker locks himself out and not the user; only
`LOCKOUT_ACCOUNT_THRESHOLD` attempts from anywhere lock the address for everyone, for minutes. Here nothing is
counted over addresses (`spray` does, with a far higher threshold): where all users of a tenant share the IP
of its backend, wrong passwords for one address lock that address there, and no other.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.outbox import Outbox
from contracts import events
from services.identity.errors import AccountLocked
from services.identity.lockouts import store
from services.identity.lockouts.models import ANYWHERE, Attempt, Counted, LockoutRules
from services.identity.lockouts.turns import Turns
from services.identity.users.email import Email, EmailHasher
from services.identity.users.models import UserId

log = structlog.get_logger()

_PURGE_SECONDS = 600
_KEPT = timedelta(days=1)
"""After the last attempt, and after the end of a lock."""

_IPV6_SUBSCRIBER_BITS = 64
_PROCESSES = 2
"""How many processes may get right passwords for one address at once without any being refused."""


class LockoutService:
    """Counts attempts at passwords and locks addresses."""

    def __init__(
        self, db: Database, outbox: Outbox, clock: Clock, rules: LockoutRules, hasher: EmailHasher
    ) -> None:
        """Take the rules; counters are in the database, so that they hold over processes."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._rules = rules
        self._hasher = hasher
        self._turns = Turns(max(1, (rules.threshold - 1) // _PROCESSES))

    def turn(self, email: Email, caller: CallerContext) -> AbstractAsyncContextManager[None]:
        """Wait for one's turn at an address, and hold it until the attempt is settled.

        The lock does not depend on it: that is the reservation's, over all processes. It only spares right
        passwords that come at once the refusal. Never taken inside a transaction.
        """
        return self._turns.take((caller.client_id, email.normalized, source_of(caller.ip)))

    async def reserve(
        self, tx: Tx, email: Email, caller: CallerContext, *, device_id: UUID | None = None
    ) -> Attempt | AccountLocked:
        """Take one of the attempts that are left, or return the refusal.

        A device that the account knows (`device_id`) has attempts of its own: strangers who lock the address
        do not lock out its owner (OWASP's device cookies).

        The counter of all sources is touched only when the caller's own source is not locked: a locked
        attacker must not use up everybody's attempts. The caller commits in either case, and raises the
        refusal after.
        """
        now = self._clock.now()
        email_hash = self._hasher.hash(email)
        rules = self._rules
        source = source_of(caller.ip) if device_id is None else f"device {device_id}"
        here = await store.count(tx, email_hash, source, rules.threshold, rules, now)
        if not isinstance(here, Counted):
            return self._refusal(here)
        if device_id is not None:
            return Attempt(email_hash, here, None)
        anywhere = await store.count(tx, email_hash, ANYWHERE, rules.account_threshold, rules, now)
        if not isinstance(anywhere, Counted):
            return self._refusal(anywhere)
        return Attempt(email_hash, here, anywhere)

    async def succeeded(self, tx: Tx, attempt: Attempt) -> None:
        """Forget the failures from this source, and take this attempt back from those of all sources."""
        await store.clear(tx, attempt.email_hash, attempt.here.source)
        if attempt.anywhere is not None:
            await store.take_back(tx, attempt.email_hash, attempt.anywhere)

    async def failed(self, tx: Tx, attempt: Attempt, caller: CallerContext, user_id: UserId | None) -> None:
        """Record what the failure of an attempt means: an event when it locks the address."""
        if attempt.locked_until is None:
            return
        locked = events.AccountLocked(
            target_id=user_id,
            email_hash=attempt.email_hash.hex(),
            failures=max(counted.number for counted in attempt.counted if counted.locked_until is not None),
            locked_seconds=math.ceil((attempt.locked_until - self._clock.now()).total_seconds()),
        )
        await self._outbox.emit(tx, locked, caller)

    async def release(self, attempt: Attempt, caller: CallerContext) -> None:
        """Take back an attempt that was not the password's fault (no worker, no token service)."""
        async with self._db.tenant(caller.require_client()) as tx:
            for counted in attempt.counted:
                await store.take_back(tx, attempt.email_hash, counted)

    async def unlock(self, tx: Tx, email: Email) -> bool:
        """Forget all attempts at an address, from wherever; false when there were none."""
        return await store.clear_all(tx, self._hasher.hash(email))

    async def locked_until(self, tx: Tx, email: Email) -> datetime | None:
        """Return until when an address is locked, from any source or for everyone; None when it is not."""
        return await store.locked_until(tx, self._hasher.hash(email), self._clock.now())

    async def purge(self) -> None:
        """Delete counters of yesterday, for ever; a job of the service."""
        while True:
            async with self._db.platform() as tx:
                await store.purge(tx, self._clock.now() - _KEPT)
            await asyncio.sleep(_PURGE_SECONDS)

    def _refusal(self, until: datetime) -> AccountLocked:
        return AccountLocked(retry_after=max(1, math.ceil((until - self._clock.now()).total_seconds())))


def source_of(ip: str) -> str:
    """Return what one subscriber is counted by: the IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_SUBSCRIBER_BITS), strict=False))
    return str(address)
