"""The page: every figure of a run, the bars, and what is worse than a peer, as tables between markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from benchmarks.bars import BARS, Verdict, judge
from benchmarks.figures import FIGURES, Figure
from benchmarks.measure import Measured, Ratio
from benchmarks.run import Run

__all__ = ["MARKED", "SECTIONS", "compared", "filled"]

MARKED = re.compile(r"(<!-- bench: (?P<name>[a-z ]+) -->\n).*?(<!-- end of bench -->)", re.DOTALL)


def filled(text: str, run: Run) -> str:
    """Return the page with the figures of this run between its markers."""
    return MARKED.sub(lambda found: f"{found[1]}\n{SECTIONS[found['name']](run)}\n\n{found[3]}", text)


def machine(run: Run) -> str:
    """Say what was measured on what, when."""
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    facts = {
        "date": run.date,
        "machine": run.machine,
        "load before": run.load,
        "versions": versions,
        "event loop": run.loop,
        "rounds": str(run.rounds),
    }
    return table(["", ""], [[name, fact] for name, fact in facts.items()])


def bars(run: Run) -> str:
    """Show each bar with the figures that it is judged by."""
    rows: list[list[str]] = []
    for bar in BARS:
        verdict = judge(bar, run.measured)
        if verdict is not None:
            rows.append(_bar_row(verdict, run.measured))
    header = ["dbcore", "what", "figure", "against", "its figure", "ratio (lowest to highest)", "bar", "met"]
    return table(header, rows)


def _bar_row(verdict: Verdict, measured: Measured) -> list[str]:
    bar, key, theirs = verdict.bar, verdict.key, verdict.theirs
    title, unit = _title(key), Figure.of(key).unit
    mine = measured.median(bar.ours, key)
    other = None if theirs is None else measured.median(theirs, key)
    return [
        _short(bar.ours),
        title,
        f"{number(mine)} {unit}",
        theirs or "",
        "" if other is None else f"{number(other)} {unit}",
        "" if theirs is None else _ratio(verdict.ratio),
        bar.text,
        "yes" if verdict.met else "**no**",
    ]


KEPT = 0.9
"""What has to be left of a ratio on another event loop or another Python."""


def compared(run: Run, other: Run) -> str:
    """Show what is left of each ratio of another run: of another event loop, say, or another Python."""
    rows: list[list[str]] = []
    for bar in BARS:
        here, there = judge(bar, run.measured), judge(bar, other.measured)
        if here is None or there is None:
            continue
        kept = here.ratio.value / there.ratio.value
        kept = 1 / kept if bar.at_most is not None else kept
        against = " or ".join(dict.fromkeys([there.theirs or "", here.theirs or ""]))
        shown = number(kept) if kept >= KEPT else f"**{number(kept)}**"
        rows.append(
            [_short(bar.ours), _title(here.key), against, number(there.ratio.value), number(here.ratio.value), shown]
        )
    return table(["dbcore", "what", "against", "ratio there", "ratio here", "kept"], rows)


def worse(run: Run) -> str:
    """List what a peer does better, by the medians of this run."""
    rows: list[list[str]] = []
    for ours, us in run.contenders.items():
        peers = [name for name, they in run.contenders.items() if they.on == us.on and they.role in {"pool", "raw"}]
        for key in run.measured.rounds.get(ours, {}) if us.role == "ours" else ():
            better = [
                f"{peer} {number(run.measured.median(peer, key))}, {number(1 / ratio.value)} times better"
                for peer in peers
                if (ratio := run.measured.ratio(ours, peer, key)) is not None and ratio.value < 1
            ]
            if better:
                mine = f"{number(run.measured.median(ours, key))} {Figure.of(key).unit}"
                rows.append([_short(ours), _title(key), mine, "; ".join(better)])
    return table(["dbcore", "what", "figure", "better"], rows) if rows else "Nothing, in this run."


def figures(run: Run) -> str:
    """Show every figure of everybody: medians, with the lowest and the highest round."""
    order = {name: place for place, name in enumerate(run.contenders)}  # the imports come after them
    everybody = sorted(run.measured.rounds, key=lambda name: order.get(name, len(order)))
    parts: list[str] = []
    for metric, group in groupby(FIGURES.values(), key=lambda figure: figure.metric):
        known = [figure.key for figure in group]
        keys = sorted(
            {key for found in run.measured.rounds.values() for key in found if key.partition(" ")[0] in known}
        )
        keys.sort(key=lambda key: (known.index(key.partition(" ")[0]), int(key.partition(" ")[2] or 0)))
        names = [name for name in everybody if any(key in run.measured.rounds[name] for key in keys)]
        if keys:
            header = [metric[0], *(f"{_title(key)} ({Figure.of(key).unit})" for key in keys)]
            parts.append(table(header, [[name, *_cells(run.measured, name, keys)] for name in names]))
    return "\n\n".join(parts)


def _cells(measured: Measured, name: str, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        values = measured.values(name, key)
        median = measured.median(name, key)
        if len(values) > 1:
            yield f"{number(median)} ({number(min(values))} to {number(max(values))})"
        else:
            yield number(median)


def contenders(run: Run) -> str:
    """Say who takes part, and who does not."""
    rows = [[name, who.role, who.how] for name, who in run.contenders.items()]
    text = table(["contender", "is", "how"], rows)
    missing = [f"- {name}: {reason}" for name, reason in run.measured.left_out.items()]
    return "\n".join([text, "", "Left out:", "", *missing]) if missing else text


SECTIONS: Mapping[str, Callable[[Run], str]] = {
    "machine": machine,
    "contenders": contenders,
    "bars": bars,
    "worse": worse,
    "figures": figures,
}
"""What can stand between the markers."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None) -> str:
    """Write three digits, and no more than are worth reading."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(ratio: Ratio) -> str:
    if ratio.lowest == ratio.highest:
        return number(ratio.value)
    return f"{number(ratio.value)} ({number(ratio.lowest)} to {number(ratio.highest)})"


def _title(key: str) -> str:
    _, _, length = key.partition(" ")
    title = Figure.of(key).title
    return f"{title}, {int(length):,} waiters" if length else title


def _short(ours: str) -> str:
    return ours.removeprefix("dbcore ").strip("()")
