"""How it is shown: plain columns, which read well in a terminal, in a log and through grep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from dbcore.cli.checking import Answer, Found, Report
from dbcore.config import Config
from dbcore.errors import Problem

__all__ = ["connection_table", "driver_table", "problem_text"]


def connection_table(report: Report) -> Table:
    """One row for each connection; with what its server said, if it was asked."""
    asked = report.answers is not None
    table = _table("connection", "driver", "pool", *(["server", "round trip", "TLS"] if asked else []))
    for name, config in report.configs.items():
        row = [Text(name), Text(config.driver), Text(_pool(config))]
        if report.answers is not None:
            row += _answer(report.answers.get(name))
        table.add_row(*row)
    return table


def driver_table(found: Iterable[Found]) -> Table:
    """One row for each driver."""
    table = _table("driver", "URL schemes", "package", "")
    for each in found:
        package = f"{each.installed.distribution or 'registered here'} {each.installed.version or ''}".rstrip()
        state = Text("broken", "red") if each.problems else Text("")
        table.add_row(Text(each.installed.name), Text(", ".join(sorted(each.schemes))), Text(package), state)
    return table


def problem_text(problem: Problem) -> Text:
    """One problem: where it is and what it is, and under that its cure."""
    return Text.assemble((problem.where, "bold"), ": ", (problem.what, "red"), "\n    ", problem.cure)


def _table(*headings: str) -> Table:
    # Text objects in the cells, never strings that come from outside: rich would read [brackets] as markup.
    return Table(*headings, box=None, pad_edge=False, padding=(0, 3, 0, 0))


def _pool(config: Config[Any]) -> str:
    return f"{config.pool.min_size} to {config.pool.max_size}, reset {config.pool.reset}, startup {config.startup}"


def _answer(answer: Answer | None) -> Sequence[Text]:
    if answer is None:
        return [Text("no answer", "red"), Text(""), Text("")]
    round_trip = Text(f"{answer.round_trip * 1000:.2f} ms")
    if answer.server is None:
        return [Text("does not tell"), round_trip, Text("")]
    tls = {None: Text("no network"), True: Text("yes", "green"), False: Text("no", "yellow")}[answer.server.tls]
    return [Text(answer.server.version), round_trip, tls]
