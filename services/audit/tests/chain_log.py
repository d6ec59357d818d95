"""One client's log in a test: events that happen to it, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from nats.js import JetStreamContext

from chassis.events import Event
from chassis.ids import new_id
from tests.harness import Answer, System

WAIT_SECONDS = 20.0
EVENTS = "/api/admin/audit-events"
VERIFY = f"{EVENTS}/chain/verify"


@dataclass(frozen=True, slots=True)
class ChainLog:
    """A client of the audit log that no other test knows."""

    system: System
    stream: JetStreamContext
    client_id: UUID

    def event(self, **changes: Any) -> Event:
        """An event that happens to this client now."""
        values: dict[str, Any] = {
            "id": new_id(),
            "type": "login_failed",
            "service": "identity",
            "occurred_at": self.system.clock.now(),
            "client_id": self.client_id,
            "actor_type": "anonymous",
            "actor_id": None,
            "target_type": "user",
            "target_id": "1f6f0f0e-0000-4000-8000-000000000001",
            "session_id": None,
            "ip": "203.0.113.9",
            "user_agent": "Mozilla/5.0",
            "request_id": "req-1",
            "data": {"method": "password", "reason": "invalid_credentials"},
        }
        return Event(**{**values, **changes})

    def events(self, count: int, **changes: Any) -> list[Event]:
        """Events a millisecond apart, the last one now."""
        now = self.system.clock.now()
        times = [now - timedelta(milliseconds=count - 1 - index) for index in range(count)]
        return [
            self.event(**{"occurred_at": time, "data": {"n": n}, **changes}) for n, time in enumerate(times)
        ]

    async def publish(self, events: Sequence[Event]) -> None:
        """Put events into the stream, as a service's relay does."""
        for event in events:
            headers = {"Nats-Msg-Id": str(event.id)}
            await self.stream.publish(event.subject, event.encode(), headers=headers)

    async def happen(self, count: int = 1, **changes: Any) -> list[Event]:
        """Let events happen and wait until they are stored."""
        events = self.events(count, **changes)
        await self.publish(events)
        await self.stored(events)
        return events

    async def stored(self, events: Sequence[Event]) -> None:
        """Wait until all of them are in the log."""
        await self._until("event_id = ANY($2)", [event.id for event in events], count=len(events))

    async def rows(self) -> list[asyncpg.Record]:
        """The chain's rows by position."""
        return await self.system.sql(
            "audit",
            "SELECT *, data::text AS text FROM audit_events WHERE client_id = $1 ORDER BY position",
            self.client_id,
        )

    async def tamper(self, statement: str, *args: Any) -> None:
        """Change the database as an attacker with every right would; $1 is the client."""
        await self.system.sql("audit", statement, self.client_id, *args)

    async def verify(self, **query: int) -> Any:
        """Ask the route whether the chain is intact."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        path = f"{VERIFY}?client_id={self.client_id}&{asked}"
        caller = self.system.admin(request_id=f"verify-{new_id()}")
        answer = await self.system.call("audit", "GET", path, caller=caller)
        assert answer.status == 200, answer.body
        # The question is recorded in the chain itself; what a test does next shall find it there.
        await self._until("request_id = $2", caller.request_id, count=1)
        return answer.json

    async def list(self, query: str = "") -> Answer:
        """Ask the route for this client's entries."""
        path = f"{EVENTS}?client_id={self.client_id}&{query}"
        return await self.system.call("audit", "GET", path, caller=self.system.admin())

    async def _until(self, condition: str, argument: Any, *, count: int) -> None:
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        statement = f"SELECT count(*) FROM audit_events WHERE client_id = $1 AND {condition}"
        while True:
            ((found,),) = await self.system.sql("audit", statement, self.client_id, argument)
            if found >= count:
                return
            assert asyncio.get_running_loop().time() < deadline, f"{found} of {count} stored"
            await asyncio.sleep(0.02)
