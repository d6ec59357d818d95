"""The picture of a run: each measure against its floor, and where the CPU of each journey goes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.results import Measure, Result

_WIDTH = 920
_LEFT = 330
_RIGHT = 170
_PLOT = _WIDTH - _LEFT - _RIGHT
_ROW = 26
_BAR = 14
_LEAST, _MOST = 1 / 8, 8.0
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
_MET, _MISSED, _INK, _FAINT, _GRID = "#2a78d6", "#d9622b", "#1f2328", "#656d76", "#d8dee4"
_COLOURS = {
    "gateway": "#2a78d6",
    "token": "#eda100",
    "identity": "#1baf7a",
    "audit": "#4a3aa7",
    "orgs": "#8a6d5a",
    "federation": "#2d7f6f",
    "postgres": "#e34948",
    "nats": "#e87ba4",
    "valkey": "#7f8c99",
}
_MOST_DRAWN_MICROSECONDS = 10_000


def draw(results: Sequence[Result]) -> str:
    """Return the picture as SVG."""
    measures = [measure for result in results for measure in result.measures]
    # A login is one hash and nothing else to the eye: beside it the others could not be seen.
    costs = [result for result in results if 0 < sum(result.cpu.values()) <= _MOST_DRAWN_MICROSECONDS]
    second = 96 + _ROW * len(measures)
    height = second + 92 + _ROW * len(costs)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" {_FONT}>',
        "<title>Measures against their floors, and CPU per request by process</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_against_floors(measures),
        *_costs(costs, second),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _against_floors(measures: Sequence[Measure]) -> Iterator[str]:
    yield _text(16, 28, "Times better than the floor", bold=True)
    yield _text(_LEFT, 28, "1 is the floor, the diamond is the aim; longer is better", fill=_FAINT)
    top, bottom = 50, 58 + _ROW * len(measures)
    for times in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8):
        x = _score_x(times)
        ink = _INK if times == 1 else _GRID
        yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{ink}"/>'
        name = f"{times:g}" if times >= 1 else f"1/{1 / times:g}"
        yield _text(x, bottom + 14, name, fill=_FAINT, anchor="middle")
    for row, measure in enumerate(measures):
        yield from _score_bar(measure, top + 6 + _ROW * row)


def _score_bar(measure: Measure, y: float) -> Iterator[str]:
    end, aim, middle = _score_x(measure.score), _score_x(measure.aim_score), y + _BAR / 2
    fill = _MET if measure.score >= 1 else _MISSED
    yield _text(_LEFT - 12, y + 12, measure.name, anchor="end")
    yield (
        f'<rect x="{_LEFT}" y="{y}" width="{max(1.0, end - _LEFT):.1f}" height="{_BAR}" rx="2" fill="{fill}">'
        f"<title>{escape(measure.verdict)}</title></rect>"
    )
    yield (
        f'<path d="M{aim:.1f} {middle - 6} l6 6 l-6 6 l-6 -6 z" fill="#ffffff" stroke="{_INK}">'
        f"<title>aim {escape(measure.show(measure.aim))}</title></path>"
    )
    shown = f"{measure.show(measure.value)} of {measure.show(measure.floor)}"
    yield _text(_WIDTH - _RIGHT + 12, y + 12, shown, fill=_INK)


def _score_x(score: float) -> float:
    """Logarithmic, so that half and twice are equally far from the floor."""
    held = min(_MOST, max(_LEAST, score))
    return _LEFT + _PLOT * math.log(held / _LEAST) / math.log(_MOST / _LEAST)


def _costs(results: Sequence[Result], top: float) -> Iterator[str]:
    yield _text(16, top + 20, "CPU per request, by process", bold=True)
    x = float(_LEFT)
    for kind, colour in _COLOURS.items():
        yield f'<rect x="{x}" y="{top + 10}" width="11" height="11" rx="2" fill="{colour}"/>'
        yield _text(x + 15, top + 20, kind, fill=_FAINT)
        x += 28 + 7.3 * len(kind)
    most = max((sum(result.cpu.values()) for result in results), default=1.0)
    for row, result in enumerate(results):
        y = top + 42 + _ROW * row
        yield _text(_LEFT - 12, y + 12, result.title, anchor="end")
        x = float(_LEFT)
        for kind, colour in _COLOURS.items():
            cost = result.cpu.get(kind, 0.0)
            width = _PLOT * cost / most
            if width >= 0.5:
                # A gap of a pixel keeps neighbours apart for those who cannot tell their colours.
                yield (
                    f'<rect x="{x:.1f}" y="{y}" width="{max(0.5, width - 1):.1f}" height="{_BAR}" '
                    f'fill="{colour}"><title>{kind} {cost:,.0f} µs</title></rect>'
                )
            x += width
        yield _text(x + 8, y + 12, f"{sum(result.cpu.values()):,.0f} µs", fill=_INK)


def _text(
    x: float, y: float, text: str, *, fill: str = _INK, anchor: str = "start", bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
