"""Rate limits by class: who is counted, and where.

Who: a user by user, anybody else by client and address (an address alone would let one tenant's users use up
another's). A secret key speaks for a server, and a server for many people: it may do
`RATE_LIMIT_SERVER_FACTOR` times as much. Of IPv6 the /64 counts as one address.

Where: classes that guard secrets (`login`, `signup`, `refresh`, `sensitive`, `admin_key`) are counted in
Redis over all gateways. The others protect capacity, and are counted per process: a round trip to Redis would
cost as much as the rest of the gateway's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chassis.context import Access, CallerContext, KeyKind
from chassis.errors import RateLimited
from chassis.ratelimit import Decision, Limit, RateLimiter
from gateway.addresses import limit_key

UNLIMITED: Final = "none"
_SHARED: Final = frozenset({"login", "signup", "refresh", "sensitive", "admin_key"})


class Limits:
    """Counts requests and refuses those over their limit."""

    def __init__(self, limits: Mapping[str, Limit], shared: RateLimiter, server_factor: int) -> None:
        """Take the limits by class."""
        self._limits = dict(limits)
        self._for_servers = {
            name: Limit(limit.count * server_factor, limit.window) for name, limit in limits.items()
        }
        self._shared = shared
        self._own = RateLimiter(None, "")

    @property
    def names(self) -> frozenset[str]:
        """The classes a route may name."""
        return frozenset(self._limits) | {UNLIMITED}

    async def check(
        self, name: str, caller: CallerContext, *, of_server: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Count a request of a caller and return the headers that tell what is left.

        `of_server` says of a caller without a key what a secret key says: many people may stand behind it.

        Raises:
            RateLimited: over the limit.
        """
        if name == UNLIMITED:
            return []
        of_server = of_server or (caller.key_kind is KeyKind.SECRET and caller.access is not Access.USER)
        limit = (self._for_servers if of_server else self._limits)[name]
        limiter = self._shared if name in _SHARED else self._own
        decision = await limiter.hit(name, _key(caller), limit)
        if not decision.allowed:
            raise refusal(decision)
        return [(key.lower().encode(), value.encode()) for key, value in _headers(decision)]

    async def count_wrong_admin_key(self, ip: str) -> Decision:
        """Count a wrong admin key of an address."""
        return await self._shared.hit("admin_key", limit_key(ip), self._limits["admin_key"])


def refusal(decision: Decision) -> RateLimited:
    """Return the error that a decision means."""
    return RateLimited(retry_after=decision.reset, headers=_headers(decision))


def _key(caller: CallerContext) -> str:
    if caller.admin_id is not None:
        return f"admin|{caller.admin_id}"
    if caller.user_id is not None:
        return f"{caller.client_id}|{caller.user_id}"
    return f"{caller.client_id or ''}|{limit_key(caller.ip)}"


def _headers(decision: Decision) -> tuple[tuple[str, str], ...]:
    return (
        ("RateLimit-Limit", str(decision.limit)),
        ("RateLimit-Remaining", str(decision.remaining)),
        ("RateLimit-Reset", str(decision.reset)),
    )
