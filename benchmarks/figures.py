"""The figures: what is measured by which metric, in which unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIGURES", "Figure"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. Its key may be followed by a number: `serve 100` is `serve` in a line of 100 waiters."""

    key: str
    metric: str
    title: str
    unit: str
    more_is_better: bool

    @staticmethod
    def of(key: str) -> Figure:
        return FIGURES[key.partition(" ")[0]]


_ALL = (
    Figure("checkout", "a", "empty checkout + release", "µs", more_is_better=False),
    Figure("one_alone", "b", "one row, 1 task", "/s", more_is_better=True),
    Figure("one_many", "b", "one row, 50 tasks", "/s", more_is_better=True),
    Figure("one_p99", "b", "one row, 50 tasks: p99", "µs", more_is_better=False),
    Figure("beside", "b2", "one row, 50 tasks, beside a slow statement", "/s", more_is_better=True),
    Figure("beside_p99", "b2", "one row, 50 tasks, beside a slow statement: p99", "µs", more_is_better=False),
    Figure(
        "slowdown", "b2", "one row, 50 tasks: p99 beside a slow statement / p99 without", "times", more_is_better=False
    ),
    Figure("rows", "c", "1,000 rows", "rows/s", more_is_better=True),
    Figure("dicts", "c", "1,000 rows as dicts", "rows/s", more_is_better=True),
    Figure("fair_rate", "d", "fairness: checkouts", "/s", more_is_better=True),
    Figure("fair_spread", "d", "fairness: most / fewest checkouts of a task", "times", more_is_better=False),
    Figure("fair_p99", "d", "fairness: p99 of the wait", "ms", more_is_better=False),
    Figure("queue", "e", "a waiter: to begin waiting", "µs", more_is_better=False),
    Figure("serve", "e", "a waiter: to be served", "µs", more_is_better=False),
    Figure("cancel", "f", "a waiter: to be cancelled", "µs", more_is_better=False),
    Figure("time_out", "f", "a waiter: to begin and time out", "µs CPU", more_is_better=False),
    Figure("insert_many", "g", "bulk insert", "rows/s", more_is_better=True),
    Figure("waiter", "h", "a waiter: memory", "bytes", more_is_better=False),
    Figure("import", "h2", "import", "ms", more_is_better=False),
    Figure("tx_alone", "i", "transaction of one statement, 1 task", "/s", more_is_better=True),
    Figure("tx_many", "i", "transaction of one statement, 20 tasks", "/s", more_is_better=True),
    Figure("tx_p99", "i", "transaction of one statement, 20 tasks: p99", "ms", more_is_better=False),
)

FIGURES = {figure.key: figure for figure in _ALL}
