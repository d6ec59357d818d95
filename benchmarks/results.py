"""What a journey measured, and the floor it is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.load import Load


class Unit(StrEnum):
    """How a measure is read. All but `PER_SECOND` and `SHARE` are the better the smaller."""

    PER_SECOND = "/s"
    SHARE = "share"
    MICROSECONDS = "µs"
    SECONDS = "s"
    TIMES = "times"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure with its floor and aim."""

    name: str
    value: float
    unit: Unit
    floor: float
    aim: float

    @property
    def is_larger_better(self) -> bool:
        """Whether more is better."""
        return self.unit in (Unit.PER_SECOND, Unit.SHARE)

    @property
    def score(self) -> float:
        """How many times better than the floor; 1 is the floor itself."""
        if self.is_larger_better:
            return self.value / self.floor
        return self.floor / self.value if self.value else 0.0

    @property
    def aim_score(self) -> float:
        """The aim's score."""
        return self.aim / self.floor if self.is_larger_better else self.floor / self.aim

    def show(self, value: float) -> str:
        """Write a value of this unit."""
        match self.unit:
            case Unit.SHARE:
                return f"{value * 100:.0f} %"
            case Unit.TIMES:
                return f"{value:.1f} ×"
            case Unit.SECONDS:
                return f"{value:.2f} s"
            case _:
                return f"{value:,.0f}{'' if self.unit is Unit.PER_SECOND else ' '}{self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the floor is met, and the aim."""
        if self.score >= self.aim_score:
            return "aim met"
        return "met" if self.score >= 1 else f"not met, {(1 - self.score) * 100:.0f} % short"


@dataclass(frozen=True, slots=True)
class Result:
    """One journey: what the load generator saw, what each process used, and the measures made of it.

    `limit` names the raw operation that bounds the journey, and `ratio` is the rate over the raw rate.
    `foreign` is the share of the machine that others used meanwhile: over a few percent, measure again.
    """

    journey: str
    title: str
    load: Load
    cpu: dict[str, float]
    foreign: float
    measures: list[Measure] = field(default_factory=list)
    limit: str = ""
    ratio: float = 0.0
