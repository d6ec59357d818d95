"""A run of the benchmarks: what the journeys share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.cpu import CpuMeter, Use
from benchmarks.load import Load
from benchmarks.results import Measure, Result
from benchmarks.stack import Stack

_WARM_UP_SECONDS = 2.0


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
