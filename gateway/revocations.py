"""Keeps the set of revoked tokens up to date by the token service's stream."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog
from authservice_validator import RevocationKind, RevocationSet
from prometheus_client import Counter, Gauge

from chassis.errors import AppError, Unavailable
from chassis.rpc import Channel
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.internal.token.v1 import verification_pb2
from contracts.gen.internal.token.v1.verification_pb2_grpc import VerificationServiceStub

log = structlog.get_logger()

_SILENCE_SECONDS: Final = 3.0
_RETRY_SECONDS: Final = 0.25
_KINDS: Final = {
    token_pb2.Revocation.KIND_SESSION: RevocationKind.SESSION,
    token_pb2.Revocation.KIND_USER: RevocationKind.USER,
    token_pb2.Revocation.KIND_CLIENT: RevocationKind.CLIENT,
    token_pb2.Revocation.KIND_TOKEN: RevocationKind.TOKEN,
    token_pb2.Revocation.KIND_KEY: RevocationKind.KEY,
}

AGE = Gauge(
    "gateway_revocations_age_seconds", "Since the last sign of life of the stream.", multiprocess_mode="max"
)
SIZE = Gauge("gateway_revocations", "Revocations in force.", multiprocess_mode="max")
RECONNECTS = Counter("gateway_revocation_streams_total", "Streams that ended and were opened again.")


class Revocations:
    """The set, and the job that feeds it.

    The stream begins with everything in force, so a reconnect misses nothing, and says something every
    second, so that a dead connection is noticed. While the token service is away the known set goes on being
    enforced, and its age is a metric. A gateway that never had the whole set accepts no token at all: it
    cannot know which are dead. Nor does one that was told something it does not understand, until a stream
    brings the whole set without it.
    """

    def __init__(self, channel: Channel) -> None:
        """Take the way to the token service."""
        self._stub = VerificationServiceStub(channel.for_stubs)
        self.known = RevocationSet()
        self._is_synced = False
        self._heard_at = time.monotonic()

    async def check(self) -> None:
        """Readiness.

        Raises:
            Unavailable: the set was never complete.
        """
        self.require_synced()

    def require_synced(self) -> None:
        """Refuse while it is not known which tokens are revoked.

        Raises:
            Unavailable: the set was never complete.
        """
        if not self._is_synced:
            raise Unavailable

    async def watch(self) -> None:
        """Follow the stream for ever."""
        while True:
            try:
                await self._follow()
            except TimeoutError:
                log.warning("revocation stream is silent")
            except AppError as error:
                log.warning("revocation stream lost", code=error.code)
            RECONNECTS.inc()
            AGE.set(time.monotonic() - self._heard_at)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        is_understood = True
        stream = aiter(self._stub.WatchRevocations(verification_pb2.WatchRevocationsRequest()))
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                message = await anext(stream, None)
            if message is None:
                return
            self._heard_at = time.monotonic()
            AGE.set(0)
            for revocation in message.revocations:
                is_understood = self._add(revocation) and is_understood
            if not is_understood:
                self._is_synced = False
            elif message.synced and not self._is_synced:
                log.info("revocations known", count=len(self.known))
                self._is_synced = True
            self.known.forget_expired(time.time())
            SIZE.set(len(self.known))

    def _add(self, revocation: token_pb2.Revocation) -> bool:
        """Add a revocation; False when it is not understood."""
        kind = _KINDS.get(revocation.kind)
        if kind is None:
            # A newer token service knows a kind that we do not: better to trust nothing than to miss it.
            log.error("unknown kind of revocation", kind=revocation.kind)
            return False
        self.known.add(
            kind,
            revocation.id,
            revocation.not_after.ToMicroseconds() / 1e6,
            revocation.expires_at.ToMicroseconds() / 1e6,
            client_id=revocation.client_id or None,
        )
        return True
