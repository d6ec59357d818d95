"""A run's results as text, and as Markdown for `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results import Result

_RAW_TITLES = {
    "bcrypt": ("bcrypt, cost 12, all cores", "/s"),
    "argon2id": ("argon2id, 19 MiB, 2 passes, all cores", "/s"),
    "RS256": ("RS256 signature, one core", "/s"),
    "ES256": ("ES256 signature, one core", "/s"),
    "asgi": ("bare ASGI on uvicorn, one process", "requests/s"),
    "grpc": ("bare grpc.aio, one process", "calls/s"),
    "select": ("asyncpg select by key, 10 connections", "/s"),
    "insert": ("asyncpg insert and commit, 10 connections", "/s"),
    "publish": ("JetStream publish with acknowledgement, 64 in flight", "/s"),
}


def raw_line(name: str, rate: float) -> str:
    """One raw operation as a line of text."""
    title, unit = _RAW_TITLES[name]
    return f"  {title:54} {rate:10,.0f} {unit}"


def result_lines(result: Result) -> list[str]:
    """One journey as lines of text."""
    driven = result.load
    ratio = f", {result.ratio:.2f} of raw {result.limit}" if result.ratio else ""
    driver = f", generator {driven.driver_us:.0f} µs" if driven.driver_us else ""
    latency = f"p50 {driven.p50_ms:.1f} ms, p99 {driven.p99_ms:.1f} ms"
    seen = f"{driven.rate:,.0f}/s, {latency}, {driven.errors} errors{ratio}"
    lines = [f"{result.title}: {seen} ({result.foreign * 100:.0f} % foreign load)"]
    if result.cpu:
        lines.append(f"    CPU per request: {_costs(result.cpu)}{driver}")
    lines += [
        f"    {measure.name}: {measure.show(measure.value)} (floor {measure.show(measure.floor)}, "
        f"aim {measure.show(measure.aim)}): {measure.verdict}"
        for measure in result.measures
    ]
    return lines


def floors_table(results: Sequence[Result]) -> list[str]:
    """The measures against their floors, as Markdown."""
    lines = ["| | measured | floor | aim | |", "| --- | ---: | ---: | ---: | --- |"]
    for result in results:
        for measure in result.measures:
            shown = (measure.show(value) for value in (measure.value, measure.floor, measure.aim))
            lines.append(f"| {measure.name} | {' | '.join(shown)} | {measure.verdict} |")
    return lines


def journeys_table(results: Sequence[Result]) -> list[str]:
    """All journeys with their latencies and CPU, as Markdown."""
    lines = [
        "| journey | rate | p50 · p99 | errors | of the raw limit | CPU µs per request |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    for result in results:
        driven = result.load
        ratio = f"{result.ratio:.2f} of {result.limit}" if result.ratio else ""
        latency = f"{driven.p50_ms:.1f} · {driven.p99_ms:.1f} ms"
        lines.append(
            f"| {result.title} | {driven.rate:,.0f}/s | {latency} | {driven.errors} | {ratio} "
            f"| {_costs(result.cpu)} |"
        )
    return lines


def raw_table(raw: Mapping[str, float]) -> list[str]:
    """The raw operations, as Markdown."""
    lines = ["| raw operation | rate |", "| --- | ---: |"]
    for name, rate in raw.items():
        title, unit = _RAW_TITLES[name]
        lines.append(f"| {title} (`{name}`) | {rate:,.0f} {unit} |")
    return lines


def _costs(cpu: Mapping[str, float]) -> str:
    return " · ".join(f"{kind} {cost:,.0f}" for kind, cost in cpu.items() if cost >= 1)
