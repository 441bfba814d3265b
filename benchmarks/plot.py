"""The plots: SVG written by hand. A card of its own, light or dark as the reader's system is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.figures import Figure
from benchmarks.report import number
from benchmarks.run import Run

__all__ = ["plots"]

WIDTH = 920
MARGIN = 24
BAR = 17
"""Height of a bar with the gap below it."""
NAMES = 172
"""Room for the names left of the bars."""
VALUES = 64
"""Room for the values right of them."""
PANEL = 190
"""Height of a panel of lines."""

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .quiet { fill: #59636e }
.card { fill: #ffffff; stroke: #d1d9e0 } .grid { stroke: #d1d9e0 }
.ours { fill: #1a7f5a; stroke: #1a7f5a } .pool { fill: #8c959f; stroke: #8c959f }
.raw { fill: #c8cfd6; stroke: #c8cfd6 }
.floor { fill: #59636e; stroke: #59636e }
.line { fill: none; stroke-width: 2 } .dashed { stroke-dasharray: 5 4 }
.c0 { stroke: #b35900 } .c1 { stroke: #8250df } .c2 { stroke: #0969da } .c3 { stroke: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9198a1 }
.card { fill: #151b23; stroke: #3d444d } .grid { stroke: #3d444d }
.ours { fill: #3fb98a; stroke: #3fb98a } .pool { fill: #767f89; stroke: #767f89 }
.raw { fill: #4a525c; stroke: #4a525c }
.floor { fill: #9198a1; stroke: #9198a1 }
.c0 { stroke: #f0a35e } .c1 { stroke: #b791f5 } .c2 { stroke: #6cb0ff } .c3 { stroke: #ff8078 }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One group of bars; a longer one is better in all of them."""

    title: str
    key: str
    rate: Callable[[float], float] = float


BARS = (
    Panel("empty checkouts + releases a second", "checkout", lambda microseconds: 1e6 / microseconds),
    Panel("one row, 1 task: a second", "one_alone"),
    Panel("one row, 50 tasks: a second", "one_many"),
    Panel("1,000 rows at a time: rows a second", "rows"),
    Panel("transactions of one statement, 20 tasks: a second", "tx_many"),
    Panel("bulk insert: rows a second", "insert_many"),
)

LINES = ("queue", "serve", "cancel", "time_out")


def plots(run: Run) -> Mapping[str, str]:
    """Return the plots of a run by the name of their file."""
    return {"rates.svg": _rates(run), "waiters.svg": _waiters(run)}


# -- bars --------------------------------------------------------------------------------------------------------------


def _rates(run: Run) -> str:
    """A column for each database, a panel for each figure."""
    width = (WIDTH - 3 * MARGIN) / 2
    parts: list[str] = []
    top = float(MARGIN)
    for column, on in enumerate(("postgres", "sqlite")):
        parts.append(
            _text(MARGIN + column * (width + MARGIN), top + 12, {"postgres": "Postgres"}.get(on, "SQLite"), "title")
        )
    top += 34
    for panel in BARS:
        tallest = 0.0
        for column, on in enumerate(("postgres", "sqlite")):
            found = {
                name: panel.rate(median)
                for name, who in run.contenders.items()
                if who.on == on and (median := run.measured.median(name, panel.key)) is not None
            }
            parts.append(_bars(panel.title, found, run, MARGIN + column * (width + MARGIN), top, width))
            tallest = max(tallest, 28.0 + BAR * len(found))
        top += tallest + 10
    return _svg("Rates; a longer bar is better", parts, top)


def _bars(title: str, found: Mapping[str, float], run: Run, left: float, top: float, width: float) -> str:
    parts = [_text(left, top + 12, title, "quiet")]
    room = width - NAMES - VALUES
    longest = max(found.values(), default=1.0)
    for place, (name, value) in enumerate(sorted(found.items(), key=lambda pair: -pair[1])):
        y = top + 20 + place * BAR
        length = max(1.0, room * value / longest)
        role = run.contenders[name].role
        parts.append(_text(left + NAMES - 6, y + 11, name, "title" if role == "ours" else "", anchor="end"))
        parts.append(f'<rect class="{role}" x="{left + NAMES:.0f}" y="{y + 1:.0f}" width="{length:.1f}" height="12"/>')
        parts.append(_text(left + NAMES + length + 5, y + 11, number(value), "quiet"))
    return "\n".join(parts)


# -- lines -------------------------------------------------------------------------------------------------------------


def _waiters(run: Run) -> str:
    """Cost of a waiter over the length of the line: flat is good, and so is low."""
    names = [name for name in run.contenders if any(_points(run, name, key) for key in LINES)]
    peers = [name for name in names if run.contenders[name].role == "pool"]
    styles = {name: _line_style(run, name, peers) for name in names}
    parts = [_legend(styles)]
    width = (WIDTH - 3 * MARGIN) / 2
    top = MARGIN + 22.0 * math.ceil(len(names) / 4) + 6
    for place, key in enumerate(LINES):
        found = {name: points for name in names if (points := _points(run, name, key))}
        left = MARGIN + place % 2 * (width + MARGIN)
        parts.append(_lines(key, found, styles, left, top + place // 2 * (PANEL + 50), width))
    return _svg("Cost of a waiter by the length of the line; lower is better", parts, top + 2 * (PANEL + 50))


def _points(run: Run, name: str, figure: str) -> list[tuple[int, float]]:
    keys = [key for key in run.measured.rounds.get(name, {}) if key.partition(" ")[0] == figure]
    medians = [(int(key.partition(" ")[2]), run.measured.median(name, key)) for key in keys]
    return sorted((length, median) for length, median in medians if median is not None)


def _line_style(run: Run, name: str, peers: Sequence[str]) -> str:
    who = run.contenders[name]
    if who.role == "pool":
        place = peers.index(name)
        return f"line c{place % 4}" + (" dashed" if place >= 4 else "")
    return f"line {who.role}" + (" dashed" if who.role == "floor" or who.on == "sqlite" else "")


def _legend(styles: Mapping[str, str]) -> str:
    parts: list[str] = []
    for place, (name, style) in enumerate(styles.items()):
        x, y = MARGIN + place % 4 * 218, MARGIN + 8 + place // 4 * 22
        parts.append(f'<path class="{style}" style="fill:none" d="M{x} {y}h28"/>')
        parts.append(_text(x + 34, y + 4, name))
    return "\n".join(parts)


def _lines(
    key: str,
    found: Mapping[str, Sequence[tuple[int, float]]],
    styles: Mapping[str, str],
    left: float,
    top: float,
    width: float,
) -> str:
    every = [point for points in found.values() for point in points]
    if not every:
        return ""
    lengths = sorted({length for length, _ in every})
    low = 10 ** math.floor(math.log10(min(value for _, value in every)))
    high = 10 ** math.ceil(math.log10(max(value for _, value in every)))
    room, axis = width - 44, left + 40

    def across(length: int) -> float:
        span = math.log(lengths[-1] / lengths[0]) or 1
        return axis + room * math.log(length / lengths[0]) / span

    def down(value: float) -> float:
        return top + 22 + (PANEL - 22) * math.log(high / value) / (math.log(high / low) or 1)

    parts = [_text(left, top + 10, f"{Figure.of(key).title}, {Figure.of(key).unit} a waiter", "quiet")]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = down(10.0**power)
        parts.append(f'<path class="grid" d="M{axis:.0f} {y:.1f}h{room:.0f}"/>')
        parts.append(_text(axis - 6, y + 4, f"{10.0**power:g}", "quiet", anchor="end"))
    for length in lengths:
        anchor = "end" if length == lengths[-1] else "middle"
        parts.append(_text(across(length), top + PANEL + 16, f"{length:,}", "quiet", anchor=anchor))
    for name, points in found.items():
        path = " ".join(f"{across(length):.1f},{down(value):.1f}" for length, value in points)
        parts.append(f'<polyline class="{styles[name]}" style="fill:none" points="{path}"/>')
    return "\n".join(parts)


# -- SVG ---------------------------------------------------------------------------------------------------------------


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, parts: Sequence[str], height: float) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">'
    card = f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", card, *parts, "</svg>", ""])
