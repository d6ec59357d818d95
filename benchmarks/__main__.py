"""`make bench`: the journeys against their floors, on the real system, beside what the machine can do at all.

    python -m benchmarks [--quick] [--only jwks,me] [--seconds 10] [--publish]

Prints as it goes and, unless it is quick, writes everything to `benchmarks/results/<time>.json`; `--publish`
also brings `docs/performance.md` and `docs/performance.svg` up to date.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import calibration, publish
from benchmarks.bench import Bench
from benchmarks.cpu import describe_machine
from benchmarks.journeys import JOURNEYS
from benchmarks.load import has_wrk
from benchmarks.report import floors_table, raw_line, result_lines
from benchmarks.results import Result
from benchmarks.stack import Stack

_RESULTS = Path(__file__).with_name("results")
_NEEDS = {
    "jwks": {"asgi"},
    "discovery": {"asgi"},
    "me": {"select"},
    "sessions": {"select"},
    "refresh": {"insert", "RS256", "ES256"},
    "machines": {"RS256", "ES256"},
    "introspection": {"select"},
    "grants": {"insert", "RS256"},
    "validate": {"grpc"},
    "audit": {"publish"},
}


def main() -> int:
    """Run the journeys that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(JOURNEYS), help=f"of {', '.join(JOURNEYS)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load for each journey")
    parser.add_argument("--quick", action="store_true", help="a second each, nothing written")
    parser.add_argument("--publish", action="store_true", help="write docs/performance.md and .svg")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(JOURNEYS):
        parser.error(f"no journey {', '.join(sorted(unknown))}; there are {', '.join(JOURNEYS)}")
    if not has_wrk():
        print("wrk is not on PATH: the Python generator takes its place, and a share of the machine.")
    seconds, rounds = (1.0, 1) if arguments.quick else (arguments.seconds, 3)
    machine = describe_machine()
    print(f"{machine['model']}, {machine['cores']} cores, load average {machine['load_average']}")
    with Stack.running() as stack:
        bench = Bench(stack, seconds, rounds)
        _calibrate(bench, set().union(*(_NEEDS.get(name, set()) for name in names)))
        results = _run(bench, names)
    print("\n" + "\n".join(floors_table(results)))
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "generator": "wrk" if has_wrk() else "benchmarks.driver",
        "seconds": seconds,
        "raw": bench.raw,
        "results": [dataclasses.asdict(result) for result in results],
    }
    if not arguments.quick:
        _write(document)
    if arguments.publish:
        publish.publish(document, results)
    return 0


def _calibrate(bench: Bench, needed: set[str]) -> None:
    """Measure the raw operations that the journeys are compared with; hashing comes with the logins."""
    servers = bench.stack.system.servers
    seconds = max(0.5, bench.seconds / 3)
    database: dict[str, float] = {}
    if needed & {"select", "insert"}:
        database = asyncio.run(calibration.database_rates(servers.postgres_url, seconds))
    operations: dict[str, Callable[[], float]] = {
        "RS256": lambda: calibration.sign_rate("RS256", seconds),
        "ES256": lambda: calibration.sign_rate("ES256", seconds),
        "asgi": lambda: calibration.asgi_rate(seconds),
        "grpc": lambda: calibration.grpc_rate(seconds),
        "select": lambda: database["select"],
        "insert": lambda: database["insert"],
        "publish": lambda: asyncio.run(calibration.publish_rate(servers.nats_url(), seconds)),
    }
    print("\nRaw operations")
    for name, operation in operations.items():
        if name in needed:
            bench.raw[name] = operation()
            print(raw_line(name, bench.raw[name]))


def _run(bench: Bench, names: Sequence[str]) -> list[Result]:
    print("\nJourneys")
    results: list[Result] = []
    for name, journey in JOURNEYS.items():
        if name in names:
            for result in journey(bench):
                results.append(result)
                print("\n".join(result_lines(result)))
                sys.stdout.flush()
    return results


def _write(document: dict[str, object]) -> None:
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    raise SystemExit(main())
