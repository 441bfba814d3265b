"""The bars: what dbcore has to reach, against whom."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Measured, Ratio
from benchmarks.metrics.memory import LEAST_IMPORT

__all__ = ["BARS", "Bar", "Verdict", "judge"]

POSTGRES, SQLITE = "dbcore (postgres)", "dbcore (sqlite)"
POOLS = ("psycopg_pool", "psycopg_pool/autocommit", "asyncpg pool", "asyncpg pool/no reset")
ASYNC_SQLITE = ("aiosqlitepool", "raw aiosqlite", "raw aiosqlite/fetchall")
FLOOR = ("floor",)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: so many times better than the best of `against` at least, or so many times its cost at most.

    With nobody to stand against, the figure itself has to stay below `at_most`. A figure that is measured for lines of
    several lengths has to meet it for each.
    """

    ours: str
    figure: str
    against: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    stretch: bool = False
    """Hoped for, not promised."""

    @property
    def text(self) -> str:
        words = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"{words} (stretch)" if self.stretch else words


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a bar was met: by which figure (the worst, of several), against whom, and at what ratio."""

    bar: Bar
    key: str
    theirs: str | None
    ratio: Ratio
    """Or the figure itself."""
    met: bool


BARS: tuple[Bar, ...] = (
    *(Bar(ours, "checkout", FLOOR, at_most=2.5) for ours in (POSTGRES, SQLITE)),
    Bar(POSTGRES, "checkout", ("psycopg_pool",), at_least=6),
    Bar(SQLITE, "checkout", ("aiosqlitepool",), at_least=60),
    Bar(POSTGRES, "one_alone", ("raw psycopg",), at_least=1.2),
    Bar(POSTGRES, "one_alone", ("raw asyncpg",), at_least=1, stretch=True),
    Bar(POSTGRES, "one_many", POOLS, at_least=4),
    Bar(POSTGRES, "one_many", ("raw asyncpg",), at_least=1.5),
    Bar(SQLITE, "one_alone", ("raw aiosqlite/fetchall",), at_least=0.9),
    Bar(SQLITE, "one_many", ASYNC_SQLITE, at_least=5),
    *(Bar(ours, "slowdown", at_most=1.5) for ours in (POSTGRES, SQLITE)),
    Bar(POSTGRES, "rows", ("raw psycopg",), at_least=0.9),
    Bar(SQLITE, "rows", ("raw aiosqlite/fetchall",), at_least=1),
    Bar(POSTGRES, "dicts", ("raw psycopg",), at_least=1),
    Bar(SQLITE, "dicts", ("raw aiosqlite", "raw aiosqlite/fetchall"), at_least=1),
    *(Bar(ours, "fair_spread", at_most=1.05) for ours in (POSTGRES, SQLITE)),
    *(Bar(ours, "fair_p99", FLOOR, at_most=2) for ours in (POSTGRES, SQLITE)),
    *(
        Bar(ours, figure, FLOOR, at_most=2)
        for figure in ("queue", "serve", "cancel", "time_out")
        for ours in (POSTGRES, SQLITE)
    ),
    Bar(POSTGRES, "insert_many", ("raw psycopg",), at_least=0.9),
    Bar(SQLITE, "insert_many", ("sqlite3",), at_least=0.8),
    *(Bar(ours, "waiter", FLOOR, at_most=1.5) for ours in (POSTGRES, SQLITE)),
    Bar("import dbcore", "import", (LEAST_IMPORT,), at_most=1.5),
    Bar(POSTGRES, "tx_alone", ("psycopg_pool/autocommit",), at_least=1.2),
    Bar(POSTGRES, "tx_many", ("psycopg_pool/autocommit",), at_least=1.3),
    Bar(SQLITE, "tx_alone", ("raw aiosqlite",), at_least=1.3),
    Bar(SQLITE, "tx_many", ("raw aiosqlite",), at_least=1.8),
    Bar(SQLITE, "tx_p99", at_most=5),
)


def judge(bar: Bar, measured: Measured) -> Verdict | None:
    """Return how the bar was met; `None` where one of the two was not measured."""
    keys = [key for key in measured.rounds.get(bar.ours, {}) if key.partition(" ")[0] == bar.figure]
    verdicts = [verdict for key in keys if (verdict := _judge(bar, key, measured)) is not None]
    if not verdicts:
        return None
    return (min if bar.at_least is not None else max)(verdicts, key=lambda verdict: verdict.ratio.value)


def _judge(bar: Bar, key: str, measured: Measured) -> Verdict | None:
    if not bar.against:
        values = sorted(measured.values(bar.ours, key))
        median = measured.median(bar.ours, key)
        if median is None or bar.at_most is None:
            return None
        return Verdict(bar, key, None, Ratio(median, values[0], values[-1]), median <= bar.at_most)
    theirs = measured.best(bar.against, key)
    ratio = None if theirs is None else measured.ratio(bar.ours, theirs, key)
    if ratio is None:
        return None
    if bar.at_most is not None:
        ratio = ratio.turned()
        return Verdict(bar, key, theirs, ratio, ratio.value <= bar.at_most)
    return Verdict(bar, key, theirs, ratio, bar.at_least is not None and ratio.value >= bar.at_least)
