"""The way of refusals to the audit log."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

from prometheus_client import REGISTRY

from chassis.context import Access, CallerContext
from contracts.events import CredentialRefused
from gateway.refusals import AuditQueue
from gateway.tests.running import in_background
from tests.harness import AdjustableClock, System


def _caller(request_id: str) -> CallerContext:
    return CallerContext(access=Access.PUBLIC, request_id=request_id, ip="203.0.113.70", user_agent="pytest")


def _not_recorded(why: str) -> float:
    return REGISTRY.get_sample_value("gateway_refusals_not_recorded_total", {"why": why}) or 0.0


async def test_what_audit_refuses_is_dropped_and_does_not_hold_up_the_rest(system: System) -> None:
    clock = AdjustableClock()
    event = CredentialRefused(reason="invalid_api_key", method="GET", path="/")
    good = f"test-{secrets.token_hex(4)}"
    before = _not_recorded("refused")
    async with system.channel("audit", caller="gateway") as channel:
        queue = AuditQueue(channel, clock)
        with clock.advanced(timedelta(days=100 * 365)):  # a time that audit finds out of all sense
            queue.record(event, _caller(f"test-{secrets.token_hex(4)}"))
        async with in_background(queue.run()), asyncio.timeout(10):
            while _not_recorded("refused") < before + 1:
                await asyncio.sleep(0.02)
            queue.record(event, _caller(good))
            while not [seen for seen in system.events if seen.request_id == good]:
                await asyncio.sleep(0.02)
