"""Calls of `ValidateToken` from a process of its own, as a customer's service makes them.

    python -m benchmarks.grpc_client < description.json

The description is a `Calls` as JSON. Prints what `load.lua` prints; a token that is not valid is an error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import uvloop

from benchmarks.load import Load, run
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceStub

if TYPE_CHECKING:
    from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Calls:
    """What to call: `batch` 1 means `ValidateToken`, more means `ValidateTokens` with as many tokens.

    `metadata` is what proves a caller that is not the public.
    """

    address: str
    api_key: str
    tokens: list[str]
    batch: int
    concurrency: int
    seconds: float
    metadata: list[list[str]] = dataclasses.field(default_factory=list)


def call(calls: Calls) -> Load:
    """Run the client in its own process."""
    command = [sys.executable, "-m", "benchmarks.grpc_client"]
    return run(command, calls.seconds, json.dumps(dataclasses.asdict(calls)).encode())


class _Client:
    """Calls until the time is over, and counts."""

    def __init__(self, calls: Calls, stub: TokenServiceAsyncStub) -> None:
        self._calls = calls
        self._stub = stub
        self._metadata = tuple((name, value) for name, value in calls.metadata)
        self._at = 0
        self.latencies: list[float] = []
        self.errors = 0

    async def worker(self, until: float) -> None:
        """Call one after the other."""
        while (started := time.perf_counter()) < until:
            try:
                good = await self._call()
            except grpc.aio.AioRpcError:
                good = False
            self.errors += not good
            self.latencies.append(time.perf_counter() - started)

    async def _call(self) -> bool:
        batch, key, tokens = self._calls.batch, self._calls.api_key, self._calls.tokens
        chosen = [tokens[(self._at + offset) % len(tokens)] for offset in range(batch)]
        self._at += batch
        if batch == 1:
            request = token_pb2.ValidateTokenRequest(api_key=key, access_token=chosen[0])
            return (await self._stub.ValidateToken(request, metadata=self._metadata, timeout=10)).valid
        several = token_pb2.ValidateTokensRequest(api_key=key, access_tokens=chosen)
        answer = await self._stub.ValidateTokens(several, metadata=self._metadata, timeout=10)
        return len(answer.results) == batch and all(result.valid for result in answer.results)


async def _run(calls: Calls) -> None:
    async with grpc.aio.insecure_channel(calls.address) as channel:
        client = _Client(calls, TokenServiceStub(channel))
        started = time.perf_counter()
        until = started + calls.seconds
        await asyncio.gather(*(client.worker(until) for _ in range(calls.concurrency)))
        elapsed = time.perf_counter() - started
    latencies = sorted(client.latencies)
    result = {
        "requests": len(latencies),
        "seconds": elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        "errors": client.errors,
    }
    print("RESULT", json.dumps(result))


def main() -> None:
    """Read the description and call."""
    uvloop.run(_run(Calls(**json.load(sys.stdin))))


if __name__ == "__main__":
    main()
