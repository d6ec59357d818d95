"""Sliding-window rate limits: one Redis script a request, and a local window when Redis is away.

The window is approximated by two fixed ones, the previous weighted by how much of it still counts. The local
counter is asked first: what it alone refuses costs no round trip, and when Redis is away it goes on alone, so
a limit never fails open.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil

import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger()

_REDIS_SECONDS = 0.25
_REST_SECONDS = 2.0
_MAX_LOCAL_KEYS = 100_000

REFUSED = Counter("rate_limit_refused_total", "Requests over their limit.", ["limit"])
FALLBACK = Counter("rate_limit_local_total", "Decisions made without Redis.")

# KEYS: current window, previous window. ARGV: limit, window in ms, ms since the window began.
# Counts only what is allowed, so that hammering does not extend the wait.
_SCRIPT = """
local previous = tonumber(redis.call('GET', KEYS[2]) or '0')
local current = tonumber(redis.call('GET', KEYS[1]) or '0')
local limit, window, elapsed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local used = previous * (window - elapsed) / window + current
if used + 1 > limit then return {0, math.floor(used)} end
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], window * 2)
return {1, math.floor(used + 1)}
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` requests in any `window` seconds."""

    count: int
    window: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a limit says of one request; `reset` is in seconds."""

    allowed: bool
    limit: int
    remaining: int
    reset: int


def connect_redis(url: str) -> Redis:
    """Return a client that gives up quickly; it connects at first use and reconnects by itself."""
    return Redis.from_url(url, socket_timeout=_REDIS_SECONDS * 4, socket_connect_timeout=_REDIS_SECONDS * 4)


@dataclass(frozen=True, slots=True)
class _ClosingRedis:
    client: Redis

    async def start(self) -> None:
        """Nothing: the client connects at first use."""

    async def stop(self) -> None:
        await self.client.aclose()


def closing_redis(client: Redis | None) -> list[_ClosingRedis]:
    """Return the client as a resource of the process, for its end; nothing without a client."""
    return [_ClosingRedis(client)] if client else []


class RateLimiter:
    """Counts requests by name of limit and key."""

    def __init__(self, redis: Redis | None, prefix: str) -> None:
        """Take the client, or None to count locally only."""
        self._redis = redis
        self._script = redis.register_script(_SCRIPT) if redis else None
        self._prefix = prefix
        self._resting_until = 0.0
        self._local: dict[tuple[str, str], tuple[int, int, int]] = {}

    async def hit(self, name: str, key: str, limit: Limit) -> Decision:
        """Count one request and say whether it may go on."""
        now = time.time()
        slot, elapsed = divmod(now, limit.window)
        used, allowed = self._count_locally(name, key, limit, int(slot), elapsed)
        if allowed and self._script is not None and time.monotonic() >= self._resting_until:
            base = f"{self._prefix}limit:{name}:{limit.window}:{{{key}}}:"
            keys = [f"{base}{int(slot)}", f"{base}{int(slot) - 1}"]
            try:
                answer = await self._script(
                    keys=keys, args=[limit.count, limit.window * 1000, int(elapsed * 1000)]
                )
                allowed, used = bool(answer[0]), int(answer[1])
            except (RedisError, TimeoutError, OSError) as error:
                self._resting_until = time.monotonic() + _REST_SECONDS
                FALLBACK.inc()
                log.warning("rate limits are local, redis is away", error=type(error).__name__)
        if not allowed:
            REFUSED.labels(name).inc()
        reset = ceil(limit.window - elapsed)
        return Decision(allowed=allowed, limit=limit.count, remaining=max(0, limit.count - used), reset=reset)

    def _count_locally(
        self, name: str, key: str, limit: Limit, slot: int, elapsed: float
    ) -> tuple[int, bool]:
        if len(self._local) >= _MAX_LOCAL_KEYS:
            # A flood of new keys must not grow the table; the oldest half has the least left to say.
            for old in list(self._local)[: _MAX_LOCAL_KEYS // 2]:
                del self._local[old]
        seen, current, previous = self._local.get((name, key), (slot, 0, 0))
        if seen != slot:
            current, previous = 0, current if seen == slot - 1 else 0
        used = previous * (limit.window - elapsed) / limit.window + current
        allowed = used + 1 <= limit.count
        self._local[name, key] = (slot, current + allowed, previous)
        return int(used) + allowed, allowed
