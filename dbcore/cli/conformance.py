"""`dbcore conformance`: the suite for drivers on a configured database, as it is shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dbcore.cli.tables import problem_text
from dbcore.errors import ConfigError, DbError
from dbcore.loading import resolve
from dbcore.testing.conformance import Report, Verdict, markdown
from dbcore.testing.conformance.finding import subject_for
from dbcore.testing.conformance.report import kept_by, report_on
from dbcore.testing.conformance.sql import PREFIX

__all__ = ["conform"]

COLOURS = {"kept": "green", "broken": "red", "absent": "cyan", "declared": "yellow", "stale": "red"}


def conform(
    connection: str | None, config: str | None, page: Path | None, console: Console, *, figures: bool = True
) -> bool:
    """Run the suite, print the report and write the page. Returns whether all that was promised is kept."""
    by_url = connection is not None and "://" in connection
    if page is not None and not page.parent.is_dir():
        console.print(Text(f"{page}: there is no such folder; make it first", "red"), soft_wrap=True)
        return False
    try:
        chosen = resolve(connection) if by_url else resolve(config, connection)
        subject = subject_for(chosen)
        console.print(
            f"Trying driver {chosen.driver!r} on connection {chosen.name!r}. "
            f"Tables named {PREFIX}* are made there, and dropped again.",
            markup=False,
            highlight=False,
        )
        printer = _Printer(console)
        # What goes wrong on purpose is logged as it should be, and would stand between the lines of the report.
        logging.getLogger("dbcore").addHandler(logging.NullHandler())
        report = asyncio.run(report_on(subject, figures=figures, told=printer.told))
    except ConfigError as error:
        for problem in error.problems:
            console.print(problem_text(problem), soft_wrap=True)
        return False
    except DbError as error:
        console.print(Text(str(error), "red"), soft_wrap=True)
        return False
    _print_rest(report, console)
    if page is not None:
        page.write_text(markdown(report), encoding="utf-8")
    return report.good


class _Printer:
    """Prints verdicts as they come, under the heading of their area."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._area = ""

    def told(self, verdict: Verdict) -> None:
        if verdict.promise.area != self._area:
            self._area = verdict.promise.area
            self._console.print(Text(f"\n{self._area}", "bold"))
        line = Text.assemble("  ", (f"{verdict.outcome:<10}", COLOURS[verdict.outcome]), verdict.promise.name)
        self._console.print(line, soft_wrap=True)
        if verdict.why:
            self._console.print(Text(f"            {verdict.why}"), soft_wrap=True)


def _print_rest(report: Report, console: Console) -> None:
    _section(console, "declared", report.declared)
    there = {**report.capabilities, **{f"transaction: {name}": given for name, given in report.isolations.items()}}
    _section(console, "capabilities", {name: "yes" if given else "absent" for name, given in there.items()})
    _section(console, "values", {each.kind: f"{each.column:<26}{kept_by(each)}" for each in report.values})
    _section(console, "figures (one connection, one task)", {each.what: str(each) for each in report.figures})
    console.print(Text(f"\n{report}" + (f", on {report.server}" if report.server else ""), "bold"), soft_wrap=True)


def _section(console: Console, heading: str, rows: Mapping[str, str]) -> None:
    if not rows:
        return
    console.print(Text(f"\n{heading}", "bold"))
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name, value in rows.items():
        table.add_row(Text(f"  {name}"), Text(value))
    console.print(table)
