"""CPU time by kind of process, children included, as the kernel counts it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import psutil

from local.system import System


@dataclass(frozen=True, slots=True)
class Use:
    """What was used in an interval.

    `per_request` is in microseconds by kind of process, the largest first. `foreign` is the share of the
    machine that others used: programs that have nothing to do with the measurement, which it suffers from.
    """

    per_request: dict[str, float]
    foreign: float


class CpuMeter:
    """Measures what each process of a system uses from now on."""

    def __init__(self, system: System) -> None:
        """Start with the running system; processes that are started again later are not told apart."""
        self._system = system
        self._before = self._read()
        self._own_before = _of_tree(os.getpid())
        self._machine_before = _of_machine()

    def stop(self, requests: int) -> Use:
        """Return what was used since the start, for so many requests."""
        after = self._read()
        used = {kind: after[kind] - self._before.get(kind, 0.0) for kind in after}
        ordered = sorted(used.items(), key=lambda item: -item[1])
        costs = {kind: seconds / max(1, requests) * 1e6 for kind, seconds in ordered}
        busy, whole = (now - then for now, then in zip(_of_machine(), self._machine_before, strict=True))
        # Our tree holds the generators, and all processes of the system, which are our children.
        foreign = (busy - (_of_tree(os.getpid()) - self._own_before)) / whole if whole else 0.0
        return Use({kind: cost for kind, cost in costs.items() if cost >= 1.0}, max(0.0, foreign))

    def _read(self) -> dict[str, float]:
        """Seconds of CPU by kind: `gateway`, `identity`, …, `postgres`, `valkey`, `nats`."""
        used: dict[str, float] = {}
        for process in self._system.all_processes():
            kind = getattr(process, "kind", process.name)
            used[kind] = used.get(kind, 0.0) + _of_tree(process.pid)
        return used


def describe_machine() -> dict[str, object]:
    """Return what one needs to know to compare figures."""
    return {
        "cores": os.cpu_count(),
        "model": _model(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _of_machine() -> tuple[float, float]:
    """Seconds that all cores together were busy, and that went by."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Linux counts guests in `user` already.
    whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return whole - idle, whole


def _of_tree(pid: int) -> float:
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # Of children that have ended their parent keeps the count, so nothing is lost.
                total += times.user + times.system + times.children_user + times.children_system
    return total


def _model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:  # noqa: PTH123 - a pseudo file
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"
