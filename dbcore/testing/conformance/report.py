"""The suite as a whole, and what came of it: for the command line, for a page, for unittest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import TypeVar

from dbcore.errors import UnsupportedError
from dbcore.testing.conformance.capabilities import capabilities, isolations
from dbcore.testing.conformance.columns import Column, values_table
from dbcore.testing.conformance.figures import Figure, measure
from dbcore.testing.conformance.judging import GUARD, Outcome, Verdict, examine, known
from dbcore.testing.conformance.promise import Promise
from dbcore.testing.conformance.subject import Subject
from dbcore.testing.conformance.suite import PROMISES
from dbcore.testing.values import Changed, Fate

__all__ = ["Report", "kept_by", "markdown", "report_on", "run"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of all the promises, and what else was seen on the way."""

    driver: str
    server: str | None
    """Name and version of the database, where the driver can ask."""
    verdicts: Sequence[Verdict]
    declared: Mapping[str, str]
    """`Subject.cannot`: what the database cannot do, with the reasons."""
    capabilities: Mapping[str, bool]
    """The optional functions of the driver and its pool: there, or not."""
    isolations: Mapping[str, bool]
    values: Sequence[Column]
    figures: Sequence[Figure]

    @property
    def good(self) -> bool:
        """Whether every promise is kept, absent with an `UnsupportedError`, or declared."""
        return all(verdict.good for verdict in self.verdicts)

    @property
    def counts(self) -> Mapping[Outcome, int]:
        return Counter(verdict.outcome for verdict in self.verdicts)

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"{self.driver}: {len(self.verdicts)} promises: {counted}"


def run(subject: Subject, *, promises: Sequence[Promise] = PROMISES, figures: bool = False) -> Report:
    """Try every promise, in an event loop of its own, and return the report."""
    return asyncio.run(report_on(subject, promises=promises, figures=figures))


async def report_on(
    subject: Subject,
    *,
    promises: Sequence[Promise] = PROMISES,
    figures: bool = False,
    told: Callable[[Verdict], None] | None = None,
) -> Report:
    """Try every promise and return the report; `told` hears of each verdict as it is reached.

    Raises what `start` raises where the database cannot be reached at all.
    """
    async with known(subject, PROMISES).placed() as place, place.open() as database:
        try:
            server = (await database.server_info()).version
        except UnsupportedError:
            server = None
    verdicts = await examine(subject, promises, told)
    async with subject.placed() as place:
        return Report(
            driver=place.vtable.name,
            server=server,
            verdicts=verdicts,
            declared=subject.cannot,
            capabilities=await _or_nothing(capabilities(place), {}),
            isolations=await _or_nothing(isolations(place), {}),
            values=await _or_nothing(values_table(place), []),
            figures=await _or_nothing(measure(place), []) if figures else [],
        )


async def _or_nothing(work: Awaitable[T], nothing: T) -> T:
    """What is measured beside the promises: a driver that breaks some may fail here, and the report is wanted then."""
    try:
        async with asyncio.timeout(GUARD):
            return await work
    except Exception:
        return nothing


def kept_by(column: Column) -> str:
    """Say in words which of its values a column keeps."""
    lost = [f"{value}: {_fate(fate)}" for value, ways in column.lost.items() for fate in ways.values()]
    return "all but " + "; ".join(lost) if lost else "yes"


def _fate(fate: Fate) -> str:
    return f"changed to {fate.raw!r:.60}" if isinstance(fate, Changed) else "refused"


def markdown(report: Report) -> str:
    """Write a report as a page."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# Conformance: {report.driver}"
    yield ""
    yield f"dbcore {version('dbcore')}, on {report.server or 'a database that does not tell its version'}."
    yield f"{len(report.verdicts)} promises: {', '.join(f'{n} {outcome}' for outcome, n in report.counts.items())}."
    for area, verdicts in groupby(report.verdicts, lambda verdict: verdict.promise.area):
        yield from ("", f"## {_title(area)}", "", "| promise | |", "|---|---|")
        for verdict in verdicts:
            why = f": {_cell(verdict.why)}" if verdict.why else ""
            outcome = verdict.outcome if verdict.good else f"**{verdict.outcome}**"
            yield f"| {_cell(verdict.promise.sentence)} | {outcome}{why} |"
    if report.declared:
        yield from ("", "## Declared", "", "| what the database cannot do | why |", "|---|---|")
        yield from (f"| {_cell(what)} | {_cell(why)} |" for what, why in report.declared.items())
    yield from ("", "## Capabilities", "", "| function | |", "|---|---|")
    yield from (f"| `{name}` | {'yes' if there else 'absent'} |" for name, there in report.capabilities.items())
    yield from (f"| a transaction: {name} | {'yes' if there else 'no'} |" for name, there in report.isolations.items())
    yield from ("", "## Values", "", "| Python | column | comes back equal |", "|---|---|---|")
    for each in report.values:
        yield f"| {each.kind} | `{each.column}` | {_cell(kept_by(each))} |"
    if report.figures:
        yield from ("", "## Figures", "", "One connection, one task.", "", "| | |", "|---|---|")
        yield from (f"| {figure.what} | {figure} |" for figure in report.figures)


def _title(area: str) -> str:
    return area.replace("_", " ").capitalize()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
