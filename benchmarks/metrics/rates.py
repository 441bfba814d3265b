"""How much a second: checkouts, single rows, many rows, bulk inserts, transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

from benchmarks.metrics.loops import alone, together
from benchmarks.metrics.metric import Metric, Subject
from benchmarks.proof import Unproven
from benchmarks.server import ITEMS, Kind, bulk_rows

__all__ = ["METRICS"]

ONE_TASKS, TX_TASKS = 50, 20


async def checkouts(subject: Subject) -> Mapping[str, float]:
    """Take and release, with nothing in between."""
    checkout = subject.opened.checkout
    assert checkout is not None

    async def take(_: int) -> None:
        for _ in range(10):
            async with checkout():
                pass

    return {"checkout": 1e6 / (10 * await alone(take, subject.effort.seconds))}


def _checked(fetch_one: Callable[[int], Awaitable[Any]]) -> Callable[[int], Awaitable[object]]:
    async def fetch(number: int) -> None:
        key = number % ITEMS
        row = await fetch_one(key)
        if row[0] != key:
            raise Unproven(f"asked for item {key}, got {row}")

    return fetch


async def one_row(subject: Subject) -> Mapping[str, float]:
    """One row by its key: one task, then fifty."""
    seconds = subject.effort.seconds
    rate = await alone(_checked(subject.opened.fetch_one[0]), seconds)
    many = await together(
        [_checked(each) for each in subject.opened.fetch_one], ONE_TASKS, lambda elapsed: elapsed < 2 * seconds
    )
    return {"one_alone": rate, "one_many": many.per_second, "one_p99": many.p99 * 1e6}


async def beside(subject: Subject) -> Mapping[str, float]:
    """The same fifty tasks, without and with a slow statement beside them that is run again and again."""
    slow, seconds = subject.opened.slow, subject.effort.seconds
    assert slow is not None
    calls = [_checked(each) for each in subject.opened.fetch_one]
    without = await together(calls, ONE_TASKS, lambda elapsed: elapsed < 2 * seconds)

    async def run_slow() -> None:
        for _ in range(2):
            await slow()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_slow())
        await asyncio.sleep(0)
        many = await together(calls, ONE_TASKS, lambda _: not running.done())
    return {"beside": many.per_second, "beside_p99": many.p99 * 1e6, "slowdown": many.p99 / without.p99}


async def many_rows(subject: Subject) -> Mapping[str, float]:
    """All items, as rows and as dicts."""
    fetch_all, fetch_dicts = subject.opened.fetch_all, subject.opened.fetch_dicts
    assert fetch_all is not None
    assert fetch_dicts is not None

    async def rows(_: int) -> None:
        if len(await fetch_all()) != ITEMS:
            raise Unproven("not all rows")

    async def dicts(_: int) -> None:
        if len(await fetch_dicts()) != ITEMS:
            raise Unproven("not all dicts")

    seconds = subject.effort.seconds
    return {"rows": ITEMS * await alone(rows, seconds), "dicts": ITEMS * await alone(dicts, seconds)}


async def bulk(subject: Subject) -> Mapping[str, float]:
    """Rows into an empty table, all or nothing; three times, for it is short."""
    insert_many, kind, where = subject.opened.insert_many, _kind(subject), subject.where
    assert insert_many is not None
    rows = bulk_rows(subject.effort.rows)
    took = 0.0
    for _ in range(3):
        where.clear(kind, "bulk")
        started = perf_counter()
        await insert_many(rows)
        took += perf_counter() - started
        if (count := where.count(kind, "bulk")) != len(rows):
            raise Unproven(f"{count} rows arrived of {len(rows)}")
    where.clear(kind, "bulk")
    return {"insert_many": 3 * len(rows) / took}


async def transactions(subject: Subject) -> Mapping[str, float]:
    """Begin, insert one row, commit: one task, then twenty. Every row is there afterwards."""
    seconds, kind, where = subject.effort.seconds, _kind(subject), subject.where
    done = 0

    def counted(insert_one: Callable[[int], Awaitable[object]]) -> Callable[[int], Awaitable[object]]:
        async def insert(number: int) -> None:
            nonlocal done
            await insert_one(number)
            done += 1

        return insert

    calls = [counted(each) for each in subject.opened.insert_one]
    rate = await alone(calls[0], seconds)
    many = await together(calls, TX_TASKS, lambda elapsed: elapsed < 2 * seconds)
    if (count := where.count(kind, "notes")) != done:
        raise Unproven(f"{count} rows are there of {done}")
    where.clear(kind, "notes")
    return {"tx_alone": rate, "tx_many": many.per_second, "tx_p99": many.p99 * 1e3}


def _kind(subject: Subject) -> Kind:
    kind = subject.contender.on
    assert kind != "nothing"
    return kind


METRICS = (
    Metric(letter="a", title="a. Checkout and release", applies=lambda it: it.pool_alone, run=checkouts),
    Metric(letter="b", title="b. One row", applies=lambda it: bool(it.opened.fetch_one), run=one_row),
    Metric(
        letter="b2",
        title="b. One row beside a slow statement",
        applies=lambda it: it.opened.slow is not None,
        run=beside,
        rounds=3,
    ),
    Metric(
        letter="c",
        title="c. 1,000 rows of five columns",
        applies=lambda it: it.opened.fetch_all is not None,
        run=many_rows,
    ),
    Metric(letter="g", title="g. Bulk insert", applies=lambda it: it.opened.insert_many is not None, run=bulk),
    Metric(
        letter="i",
        title="i. Transaction of one statement",
        applies=lambda it: bool(it.opened.insert_one),
        run=transactions,
    ),
)
