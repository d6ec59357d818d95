"""How long an event takes until it can be queried, and how many a second go all the way.

The way is the real one: outbox row, relay, JetStream, hash chain, query through the gateway. All events are
of one tenant, which is the worst case: one shard of the outbox, one chain.
"""

from __future__ import annotations

import secrets
import time

from benchmarks.bench import Bench
from benchmarks.cpu import CpuMeter, Use
from benchmarks.feeder import Feed, Feeding
from benchmarks.load import Load
from benchmarks.results import Measure, Result, Unit
from benchmarks.stack import Tenant

_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 120.0
_FLOOR = 3000
_BURST_PER_SECOND_MEASURED = 4000


def audit(bench: Bench) -> list[Result]:
    """As many events as fit, then a steady stream at the floor's rate."""
    tenant = bench.stack.tenant("RS256", 0, name="audit")
    _follow(bench, tenant, 200, 0)  # begins the chain, opens connections
    burst, burst_use = _follow(bench, tenant, int(_BURST_PER_SECOND_MEASURED * bench.seconds), 0)
    steady, steady_use = _follow(bench, tenant, int(_FLOOR * bench.seconds), _FLOOR)
    rate = Measure("audit events, sustained", burst.rate, Unit.PER_SECOND, _FLOOR, 10_000)
    lag = Measure(f"audit p99 lag at {_FLOOR}/s", steady.p99_ms / 1e3, Unit.SECONDS, 2, 1)
    return [
        bench.result("audit-burst", "audit, all at once", (burst, burst_use), rate, limit="publish"),
        bench.result("audit-steady", f"audit, {_FLOOR}/s", (steady, steady_use), lag),
    ]


def _follow(bench: Bench, tenant: Tenant, count: int, rate: float) -> tuple[Load, Use]:
    """Feed events and ask for the newest until it is the last; timed from the first fed to the last seen."""
    env = bench.stack.system.env
    run = secrets.token_hex(4)
    feed = Feed(env["TOKEN_DATABASE_URL"], env["TOKEN_JOBS_DATABASE_URL"], tenant.id, run, count, rate)
    meter = CpuMeter(bench.stack.system)
    feeding = Feeding(feed)
    sightings = _watch(bench, tenant, run, count)
    use = meter.stop(count)
    times = feeding.times()
    lags = sorted(_lags(times, sightings))
    seconds = sightings[-1][0] - times[0]
    p50, p99 = lags[count // 2] * 1e3, lags[count * 99 // 100] * 1e3
    return Load(requests=count, seconds=seconds, p50_ms=p50, p99_ms=p99, errors=0, driver_us=0.0), use


def _watch(bench: Bench, tenant: Tenant, run: str, count: int) -> list[tuple[float, int]]:
    """Return when which number was the newest to be seen, until the last one is.

    Raises:
        RuntimeError: no event came for too long.
    """
    sightings: list[tuple[float, int]] = []
    newest, changed = -1, time.time()
    while newest < count - 1:
        event = bench.stack.newest_audit_event(tenant)
        now = time.time()
        seen_in, _, number = str(event["request_id"] if event else "").partition("/")
        if seen_in == run and int(number) > newest:
            newest, changed = int(number), now
            sightings.append((now, newest))
        if now - changed > _PATIENCE_SECONDS:
            raise RuntimeError(f"event {newest + 1} of {count} did not become visible")
        time.sleep(_POLL_SECONDS)
    return sightings


def _lags(times: list[float], sightings: list[tuple[float, int]]) -> list[float]:
    """Seconds from each event to the first time that it, or a later one, was seen."""
    lags: list[float] = []
    for seen_at, newest in sightings:
        lags += [seen_at - at for at in times[len(lags) : newest + 1]]
    return lags
