"""That a contender does its work: each operation is run and its rows are looked at, before anything is measured."""

from __future__ import annotations

import asyncio
import contextlib

from benchmarks.contenders import Contender, Opened, holding, settle
from benchmarks.server import COLUMNS, ITEMS, Databases, Kind, bulk_rows, item

__all__ = ["Unproven", "prove"]


class Unproven(Exception):
    """A contender did not do what it is measured for."""


async def prove(contender: Contender, opened: Opened, where: Databases, size: int) -> None:
    """Run each operation and hold what it gave against what is in the database. Raises `Unproven`."""
    if contender.on != "nothing":
        await _prove_reading(contender.on, opened)
        await _prove_writing(contender.on, opened, where)
    if opened.checkout is not None:
        await prove_whole(opened, size)


async def prove_whole(opened: Opened, size: int) -> None:
    """See that all of the pool can be had at once, and no more than that. Raises `Unproven`."""
    if opened.checkout is None:
        raise AssertionError("bug: no pool")
    checkout = opened.checkout
    async with contextlib.AsyncExitStack() as stack:
        try:
            let_go = await stack.enter_async_context(holding(checkout, size))
        except* TimeoutError as group:
            raise Unproven(f"not all {size} connections can be had") from group

        async def one_more() -> None:
            async with checkout():
                pass

        task = asyncio.create_task(one_more())
        await settle()
        if task.done():
            raise Unproven(f"more than {size} connections can be had")
        let_go()
        await task


async def _prove_reading(kind: Kind, opened: Opened) -> None:
    for fetch_one in opened.fetch_one:
        for key in (0, 1, ITEMS - 1):
            _same("one row", tuple(await fetch_one(key)), item(kind, key))
    expected = [item(kind, key) for key in range(ITEMS)]
    if opened.fetch_all is not None:
        _same("all rows", [tuple(row) for row in await opened.fetch_all()], expected)
    if opened.fetch_dicts is not None:
        dicts = [dict(zip(COLUMNS, row, strict=True)) for row in expected]
        _same("all rows as dicts", [dict(row) for row in await opened.fetch_dicts()], dicts)
    if opened.slow is not None:
        await opened.slow()


async def _prove_writing(kind: Kind, opened: Opened, where: Databases) -> None:
    if opened.insert_many is not None:
        rows = bulk_rows(10)
        await opened.insert_many(rows)
        _same("bulk insert", sorted(where.ask(kind, "SELECT a, b, c, d FROM bulk")), rows)
        where.clear(kind, "bulk")
    if opened.insert_one:
        for key, insert_one in enumerate(opened.insert_one):
            await insert_one(key)
        written = sorted(where.ask(kind, "SELECT k, v FROM notes"))
        _same("transactions", written, [(key, "value") for key in range(len(opened.insert_one))])
        where.clear(kind, "notes")


def _same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise Unproven(f"{what}: got {str(got)[:200]}, not {str(expected)[:200]}")
