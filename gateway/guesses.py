"""Refused credentials and origins, counted by address, so that guessing soon costs nobody a look-up.

A route's limit counts by caller, and who is calling is only known after the look-up of its credential. So
what was refused is counted here, in this process alone, and an address with too many refusals is told 429
before anything is asked. What this process knows to be good passes all the same: others who share an address
with a guesser go on working, and only a key or token that is new to this process waits with it. What was on
its way when the limit was reached still gets its answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from math import ceil
from typing import Final
from uuid import UUID

from chassis.errors import RateLimited
from chassis.ratelimit import REFUSED, Limit
from gateway.addresses import limit_key

_MAX_SOURCES: Final = 50_000
_REFUSED = REFUSED.labels("refused")


class Guess(StrEnum):
    """What is guessed; each is counted apart, so that one does not stand in another's way."""

    KEY = "key"
    TOKEN = "token"  # noqa: S105 - no secret
    ORIGIN = "origin"
    RPC = "rpc"


class Guesses:
    """Counts refusals in windows that begin with the first."""

    def __init__(self, limit: Limit, server_factor: int) -> None:
        """Take how many refusals an address may have, and how many times as many a server's may."""
        self._limit = limit
        self._server_factor = server_factor
        self._refused: OrderedDict[tuple[Guess, UUID | None, str], tuple[float, int]] = OrderedDict()

    def check(
        self,
        kind: Guess,
        ip: str,
        *,
        client_id: UUID | None = None,
        of_server: bool = False,
        is_known: Callable[[], bool] | None = None,
    ) -> None:
        """Refuse what would have to be looked up; what `is_known` to be good passes.

        Raises:
            RateLimited: the address has had its refusals.
        """
        if not self._refused:
            return
        end, count = self._refused.get((kind, client_id, limit_key(ip)), (0.0, 0))
        if count < self._limit.count * (self._server_factor if of_server else 1):
            return
        left = end - time.monotonic()
        if left <= 0 or (is_known is not None and is_known()):
            return
        _REFUSED.inc()
        raise RateLimited(retry_after=ceil(left))

    def count(self, kind: Guess, ip: str, *, client_id: UUID | None = None) -> None:
        """Count a refusal; with `client_id`, of this client's alone."""
        source = (kind, client_id, limit_key(ip))
        now = time.monotonic()
        end, count = self._refused.get(source, (0.0, 0))
        if end <= now:
            self._refused.pop(source, None)
            end, count = now + self._limit.window, 0
        self._refused[source] = (end, count + 1)
        if len(self._refused) > _MAX_SOURCES:
            self._refused.popitem(last=False)
