"""Judges logins by what is known of the user, the network and, where there is one, by a provider's word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.events import Event
from chassis.geo import GeoDatabases, Place
from contracts.security_policy import RiskLevel, SecurityPolicy
from services.identity.risk import store
from services.identity.risk.models import Assessment, Background, ProviderVerdict, Visit
from services.identity.risk.provider import RiskProvider
from services.identity.risk.signals import network_of, signals
from services.identity.users.email import EmailHasher
from services.identity.users.models import User

_COMPARED_LOGINS = 20
_MARKS_COUNT_FOR = timedelta(hours=24)
_MARKS_KEPT = timedelta(days=7)
_HISTORY_KEPT = timedelta(days=90)
_PURGE_SECONDS = 3600.0
_MAX_USER_AGENT = 512

LEVELS = Counter("login_risk_total", "Logins judged, by level.", ["level"])
SIGNALS = Counter("login_risk_signals_total", "Signals noticed at logins.", ["signal"])


class RiskService:
    """Reads the background, asks the provider, and gives the judgement; what follows is the gate's to say."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        emails: EmailHasher,
        geo: GeoDatabases,
        provider: RiskProvider,
        failure_window: timedelta,
    ) -> None:
        """Take the parts; `failure_window` is in which failed logins are counted together."""
        self._db = db
        self._clock = clock
        self._emails = emails
        self._geo = geo
        self._provider = provider
        self._failure_window = failure_window

    async def background(self, tx: Tx, user: User, *, own_attempts: int) -> Background:
        """Return what is known of a user; `own_attempts` of the counted failures are this login."""
        now = self._clock.now()
        found = await store.background(
            tx,
            user.id,
            self._emails.hash_normalized(user.email_normalized),
            failures_since=now - self._failure_window,
            marks_since=now - _MARKS_COUNT_FOR,
            logins=_COMPARED_LOGINS,
        )
        return Background(found.logins, max(0, found.failures - own_attempts), found.reuses)

    async def assess(
        self,
        caller: CallerContext,
        user: User,
        policy: SecurityPolicy,
        background: Background,
        *,
        is_known_device: bool | None,
        action: str,
    ) -> Assessment:
        """Judge a request of a user. Asks the provider, so it is never called inside a transaction."""
        visit = self.visit(caller, is_known_device=is_known_device)
        own = signals(policy.risk, background, visit, ProviderVerdict())
        verdict = await self._provider.ask(
            {
                "client_id": str(user.client_id),
                "user_id": str(user.id),
                "email_hash": self._emails.hash_normalized(user.email_normalized).hex(),
                "ip": caller.ip,
                "user_agent": visit.user_agent,
                "action": action,
                "signals": [signal.name for signal in own],
            }
        )
        found = signals(policy.risk, background, visit, verdict)
        level = RiskLevel.highest(signal.level for signal in found)
        LEVELS.labels(level).inc()
        for signal in found:
            SIGNALS.labels(signal.name).inc()
        return Assessment(level, found, visit)

    def visit(self, caller: CallerContext, *, is_known_device: bool | None) -> Visit:
        """Return what a request shows of itself."""
        return Visit(
            ip=caller.ip,
            network=network_of(caller.ip),
            user_agent=caller.user_agent[:_MAX_USER_AGENT],
            place=self._geo.place(caller.ip),
            asn=self._geo.asn(caller.ip),
            is_known_device=is_known_device,
            at=self._clock.now(),
        )

    def place(self, ip: str) -> Place:
        """Return the approximate place of an address, empty where none is known."""
        return self._geo.place(ip)

    async def mark_reuses(self, events: Sequence[Event]) -> None:
        """Note that used refresh tokens came back: the next logins of their users look risky for a day."""
        marks = [
            (event.id, event.client_id, UUID(str(event.data["user_id"])), event.occurred_at)
            for event in events
            if event.client_id is not None
        ]
        async with self._db.platform() as tx:
            await store.mark(tx, marks)

    async def purge(self) -> None:
        """Forget what is too old to matter, for ever; a job of the service."""
        while True:
            now = self._clock.now()
            async with self._db.platform() as tx:
                await store.purge(tx, marks_before=now - _MARKS_KEPT, history_before=now - _HISTORY_KEPT)
            await asyncio.sleep(_PURGE_SECONDS)
