"""Resets: in what state a connection comes to its next holder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from dbcore.connection import Connection
from dbcore.database import Database
from dbcore.testing.conformance.checks import check, same, turns
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject


@promise()
async def a_transaction_begun_by_text_ends_with_the_release(subject: Subject) -> None:
    """What a holder left open by saying BEGIN as a text is rolled back before anybody else gets the connection."""
    async with subject.items(pool={"max_size": 1}) as items:
        async with items.database.connection() as connection:
            await connection.execute("BEGIN")
            await connection.execute(items.insert, [1, "a"])
        async with items.database.connection() as connection:
            check(not connection.in_transaction, "the next holder finds no open transaction, and found one")
            same(await connection.fetch_value(items.count), 0, "rows that the next holder sees")


@promise(needs=("endless",))
async def a_connection_that_is_released_in_the_middle_is_whole_again(subject: Subject) -> None:
    """A statement that still runs when its connection is released does not reach the next holder."""
    async with subject.open(pool={"max_size": 1}) as database:
        for pause in (0, 1, 5):
            async with database.connection() as connection:
                task = asyncio.create_task(connection.execute(subject.endless))
                await turns(pause)
                task.cancel()
            same(await database.fetch_value(f"SELECT {pause}"), pause, f"SELECT {pause} of the next holder")
            await asyncio.wait([task])


@promise()
async def a_tracked_reset_undoes_what_a_text_has_made(subject: Subject) -> None:
    """With `pool.reset = "tracked"` a temporary table is gone for the next holder, in whatever way its text was run."""
    sql = subject.temporary.format(name=subject.unique())
    async with subject.open(pool={"max_size": 1, "reset": "tracked"}) as database:
        for _ in range(2):
            async with _who_finds_nothing(database) as connection:
                await connection.execute(sql)
            async with _who_finds_nothing(database) as connection:
                await connection.batch([("SELECT 1", ()), (sql, ())])
            async with _who_finds_nothing(database) as connection, connection.transaction() as tx:
                await tx.execute(sql)
            if subject.vtable.script is not None:
                async with _who_finds_nothing(database) as connection:
                    await connection.execute_script(f"SELECT 1; {sql}; SELECT 2")


@promise(needs=("touch", "natively"))
async def a_tracked_reset_undoes_what_native_has_made(subject: Subject) -> None:
    """With `pool.reset = "tracked"` the use of `connection.native` is reason enough for a reset of the session."""
    await _natively(subject, reset="tracked")


@promise()
async def a_full_reset_leaves_nothing_of_a_session(subject: Subject) -> None:
    """With `pool.reset = "full"` a temporary table is gone when the next holder comes."""
    sql = subject.temporary.format(name=subject.unique())
    async with subject.open(pool={"max_size": 1, "reset": "full"}) as database:
        for _ in range(3):
            async with _who_finds_nothing(database) as connection:
                await connection.execute(sql)
        same(await database.fetch_value("SELECT 1"), 1, "SELECT 1 after that")


@promise(needs=("natively",))
async def a_full_reset_undoes_what_nobody_has_seen(subject: Subject) -> None:
    """With `pool.reset = "full"` so is one that the driver has seen nothing of, not even by `touch`."""
    await _natively(replace(subject, driver=replace(subject.vtable, touch=None)), reset="full")


async def _natively(subject: Subject, *, reset: str) -> None:
    if subject.natively is None:
        raise AssertionError("bug: tried without `natively`")
    sql = subject.temporary.format(name=subject.unique())
    async with subject.open(pool={"max_size": 1, "reset": reset}) as database:
        for _ in range(3):
            async with _who_finds_nothing(database) as connection:
                same(await connection.fetch_value("SELECT 1"), 1, "SELECT 1")  # a use that the driver sees
                await subject.natively(connection.native, sql)


@contextlib.asynccontextmanager
async def _who_finds_nothing(database: Database) -> AsyncGenerator[Connection[Any], None]:
    """A holder who makes what the last one has made, and meets no trace of that."""
    async with database.connection() as connection:
        try:
            yield connection
        except Exception as error:
            message = f"what the last holder made is gone, but: {type(error).__name__}: {error}"
            raise AssertionError(message) from error
