"""Whether a browser may send what its preflight asks for.

A preflight never carries a key, so it cannot be judged by its client: an origin passes when any active
client lists it. That alone gives nothing away and lets nothing in, for the request itself is then judged by
the key that it carries.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from typing import Final

import structlog

from chassis.errors import AppError
from chassis.rpc import Channel
from contracts.gen.internal.orgs.v1 import clients_pb2
from contracts.gen.internal.orgs.v1.clients_pb2_grpc import ClientServiceStub
from gateway.guesses import Guess, Guesses
from gateway.origins import Origins, Verdict

log = structlog.get_logger()

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.\-]{0,20}://[a-z0-9.\-\[\]:]{1,200}")
_MAX_ENTRIES: Final = 10_000
_KEEP_SECONDS: Final = {True: 60.0, False: 5.0}


class Preflights:
    """Judges the origins of preflights; answers of `orgs` are kept for a minute, refusals for seconds.

    An address that named too many origins that nobody lists is refused what would have to be asked; an origin
    that is known, listed or not, is judged as ever.
    """

    def __init__(self, channel: Channel, origins: Origins, guesses: Guesses) -> None:
        """Take the way to `orgs`."""
        self._stub = ClientServiceStub(channel.for_stubs)
        self._origins = origins
        self._guesses = guesses
        self._known: OrderedDict[str, tuple[bool, float]] = OrderedDict()

    async def judge(self, origin: str, ip: str) -> Verdict:
        """Return what the origin may do; while `orgs` is away, what is known without it.

        Raises:
            RateLimited: the origin is not known, and the address named too many that nobody lists.
        """
        verdict = self._origins.judge(origin, None)
        if verdict is Verdict.EXACT or not _ORIGIN.fullmatch(origin):
            return verdict
        return Verdict.EXACT if await self._is_listed(origin, ip) else verdict

    async def _is_listed(self, origin: str, ip: str) -> bool:
        known = self._known.get(origin)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        was_listed = known is not None and known[0]
        self._guesses.check(Guess.ORIGIN, ip, is_known=lambda: was_listed)
        try:
            answer = await self._stub.AllowsOrigin(clients_pb2.AllowsOriginRequest(origin=origin))
        except AppError as error:
            log.warning("origin not judged", code=error.code)
            return was_listed
        if not answer.allowed:
            self._guesses.count(Guess.ORIGIN, ip)
        self._known[origin] = (answer.allowed, time.monotonic() + _KEEP_SECONDS[answer.allowed])
        self._known.move_to_end(origin)
        if len(self._known) > _MAX_ENTRIES:
            self._known.popitem(last=False)
        return answer.allowed
