"""The set of revoked tokens: when it is trusted."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import Unavailable
from chassis.internal_keys import InternalKeys
from chassis.rpc import Channel
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.internal.token.v1.verification_pb2_grpc import (
    VerificationServiceServicer,
    add_VerificationServiceServicer_to_server,
)
from gateway.revocations import Revocations
from gateway.tests.running import in_background


def _revocation(kind: int, name: str) -> token_pb2.Revocation:
    moment = Timestamp()
    moment.GetCurrentTime()
    later = Timestamp(seconds=moment.seconds + 3600)
    revocation = token_pb2.Revocation(id=name, not_after=moment, expires_at=later)
    revocation.kind = kind  # type: ignore[assignment]  # a number that this version has no name for
    return revocation


class _NewerTokenService(VerificationServiceServicer):
    """A peer whose first stream names a kind that the gateway does not know; the second does not."""

    def __init__(self) -> None:
        self.streams = 0
        self.end = asyncio.Event()

    async def WatchRevocations(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Stream what is in force in three parts, and hold the stream until the test lets it end."""
        self.streams += 1
        if self.streams == 1:
            yield token_pb2.WatchRevocationsResponse(revocations=[_revocation(99, "new")])
            yield token_pb2.WatchRevocationsResponse(revocations=[_revocation(1, "a")], synced=True)
            yield token_pb2.WatchRevocationsResponse(revocations=[_revocation(1, "b")], synced=True)
            await self.end.wait()
            return
        yield token_pb2.WatchRevocationsResponse(synced=True)
        await asyncio.Event().wait()

    async def GetKeys(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Nobody asks."""
        raise NotImplementedError

    async def Verify(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Nobody asks."""
        raise NotImplementedError


async def test_a_stream_that_was_not_understood_is_not_trusted_to_its_end() -> None:
    peer = _NewerTokenService()
    server = grpc.aio.server()
    add_VerificationServiceServicer_to_server(peer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    keys = InternalKeys.derive(secrets.token_hex(32), [("gateway", "token")])
    channel = Channel(f"127.0.0.1:{port}", caller="gateway", callee="token", keys=keys)
    await channel.start()
    revocations = Revocations(channel)
    try:
        async with in_background(revocations.watch()), asyncio.timeout(10):
            while len(revocations.known) < 2:
                await asyncio.sleep(0.02)
            with pytest.raises(Unavailable):
                revocations.require_synced()

            peer.end.set()
            while True:
                with contextlib.suppress(Unavailable):
                    revocations.require_synced()
                    break
                await asyncio.sleep(0.02)
    finally:
        await channel.stop()
        await server.stop(0)
