"""Brings `docs/performance.md` and its picture up to date with a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.picture import draw
from benchmarks.report import floors_table, journeys_table, raw_table
from benchmarks.results import Result

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"


def publish(document: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Replace the results in the page, and draw them."""
    page = _DOCS / "performance.md"
    before, rest = page.read_text().split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    page.write_text(f"{before}{_BEGIN}\n{_section(document, results)}\n{_END}{after}")
    (_DOCS / "performance.svg").write_text(draw(results))


def _section(document: Mapping[str, Any], results: Sequence[Result]) -> str:
    machine = document["machine"]
    foreign = max(result.foreign for result in results)
    about = (
        f"{document['at'][:10]}, {machine['model']}, {machine['cores']} cores, foreign load at most "
        f"{foreign * 100:.0f} %.\n"
        f"Load by {document['generator']}, {document['seconds']:.0f} s a journey, one process of each kind."
    )
    parts = (
        [about],
        floors_table(results),
        ["All journeys, each at 32 connections unless it says otherwise:"],
        journeys_table(results),
        ["What the machine can do at most, in the same run:"],
        raw_table(document["raw"]),
    )
    return "\n\n".join("\n".join(part) for part in parts)
