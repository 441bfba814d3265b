"""How fast it is, roughly: a few short runs, for a report and for comparison with the last one on the same machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dbcore.testing.conformance.sql import numbers
from dbcore.testing.conformance.subject import Subject

__all__ = ["Figure", "measure"]

RUN = 0.2
"""Seconds that each is repeated for."""

ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured."""

    what: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:,.{0 if self.value >= 100 else 1}f} {self.unit}"


async def measure(subject: Subject) -> list[Figure]:
    """Measure on a pool of one connection, one task at a time."""
    async with subject.placed() as place, place.items(pool={"min_size": 1, "max_size": 1}) as items:
        database = items.database

        async def take() -> None:
            async with database.connection():
                pass

        async def load() -> None:
            await database.insert_many(items.table, ["id", "name"], [(n, "some text") for n in range(ROWS)])

        taking = await _seconds(take)
        asking = await _seconds(lambda: database.fetch_value("SELECT 1"))
        fetching = await _seconds(lambda: database.fetch_all(numbers(1000)))
        started = asyncio.get_running_loop().time()
        await load()
        loading = asyncio.get_running_loop().time() - started
    return [
        Figure("checkout and release", taking * 1e6, "µs"),
        Figure("statements, one after the other", 1 / asking, "per second"),
        Figure("fetch of 1,000 rows", fetching * 1e3, "ms"),
        Figure(f"insert_many of {ROWS:,} rows", ROWS / loading, "rows per second"),
    ]


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    """Return what one call takes, on average over a short while."""
    now = asyncio.get_running_loop().time
    await work()  # what is done once is done now
    count, started = 0, now()
    while now() - started < RUN or count < 3:
        await work()
        count += 1
    return (now() - started) / count
