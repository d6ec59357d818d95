"""A run of the benchmarks: what the journeys share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.cpu import CpuMeter, Use
from benchmarks.load import Load
from benchmarks.results import Measure, Result
from benchmarks.stack import Stack

_WARM_UP_SECONDS = 2.0
_SETTLE_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_RESTING_SECONDS = 0.1


@dataclass(slots=True)
class Bench:
    """A run: the stack, the machine's raw rates, and how long each journey is driven."""

    stack: Stack
    seconds: float
    rounds: int
    raw: dict[str, float] = field(default_factory=dict)

    @property
    def warm_up(self) -> float:
        """Seconds of load before what is measured."""
        return min(_WARM_UP_SECONDS, self.seconds)

    def measure(self, drive_once: Callable[[float], Load], *, warm_up: bool = True) -> tuple[Load, Use]:
        """Drive once to warm up and once to measure; return the load and the CPU that was used."""
        if warm_up:
            drive_once(self.warm_up)
        meter = CpuMeter(self.stack.system)
        driven = drive_once(self.seconds)
        return driven, meter.stop(driven.requests)

    def settle(self) -> None:
        """Wait until the system rests: logins that nobody waits for any more are hashed to their end."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        used = _RESTING_SECONDS
        while used >= _RESTING_SECONDS and time.monotonic() < deadline:
            meter = CpuMeter(self.stack.system)
            time.sleep(_LOOK_SECONDS)
            used = sum(meter.stop(1).per_request.values()) / 1e6

    def result(
        self,
        journey: str,
        title: str,
        measured: tuple[Load, Use],
        *measures: Measure,
        limit: str = "",
    ) -> Result:
        """Put a result together; `limit` names a raw rate."""
        driven, use = measured
        ratio = driven.rate / self.raw[limit] if self.raw.get(limit) else 0.0
        return Result(journey, title, driven, use.per_request, use.foreign, list(measures), limit, ratio)
