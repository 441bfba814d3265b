"""Streams: rows one by one, and a connection that is whole again however the block is left."""

from __future__ import annotations

import asyncio
from typing import Any

from dbcore.connection import Connection
from dbcore.driver import Result
from dbcore.errors import QueryError, UsageError
from dbcore.testing.conformance.checks import Mine, check, ends_cancelled, raises, reached, same
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.sql import COUNTLESS, numbers
from dbcore.testing.conformance.subject import Subject

MANY = 10_000

SOON = 5.0
"""Seconds that the first rows may take."""


@promise(needs=("stream",))
async def a_stream_gives_every_row_in_order(subject: Subject) -> None:
    """A stream gives all rows in order, whatever its `batch_size` is, and stays ended at its end."""
    async with subject.open() as database:
        for count, size in ((0, 10), (50, 1), (MANY, 7), (MANY, 1000), (MANY, MANY), (MANY, 2 * MANY)):
            async with database.stream(numbers(count), batch_size=size, into=int) as rows:
                found = [row async for row in rows]
                check(found == list(range(count)), f"{count} rows come in order by {size}, and {len(found)} came")
                same([row async for row in rows], [], "rows after the last one")


@promise(needs=("stream",))
async def a_stream_takes_parameters(subject: Subject) -> None:
    """A stream takes parameters of both kinds, and its rows have names."""
    async with subject.items() as items:
        await items.database.insert_many(items.table, ["id", "name"], [(n, f"name {n}") for n in range(20)])
        for sql, params in (("id >= $1 AND id < $2", [5, 8]), ("id >= :low AND id < :high", {"high": 8, "low": 5})):
            query = f"SELECT name, id FROM {items.table} WHERE {sql} ORDER BY id"
            async with items.database.stream(query, params, batch_size=2) as rows:
                found = [row.as_dict() async for row in rows]
            same(found, [{"name": f"name {n}", "id": n} for n in (5, 6, 7)], "rows of a stream")


@promise(needs=("stream",))
async def a_batch_of_a_stream_is_never_larger_than_asked(subject: Subject) -> None:
    """The driver hands over at most `batch_size` rows at a time."""
    stream = subject.vtable.stream
    async with subject.open() as database:
        if stream is None:
            raise AssertionError("bug: tried without streams")
        native, release = await database.pool.checkout()
        try:
            source = stream(native, numbers(25), (), 10)
            batches: list[Result] = [result async for result in source]
        finally:
            release()
        sizes = [len(result.rows) for result in batches]
        same((max(sizes), sum(sizes)), (10, 25), "rows of the largest batch, and of all of them")


@promise(needs=("stream",))
async def a_stream_begins_before_its_last_row_is_made(subject: Subject) -> None:
    """The first rows of a query with more of them than can be counted come at once, and it ends when it is left."""
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        with raises(Mine, f"a stream of very many rows gives its first ones within {SOON:g} s"):
            async with asyncio.timeout(SOON), connection.stream(COUNTLESS, batch_size=5) as rows:
                for _ in range(20):
                    await anext(rows)
                raise Mine
        same(await connection.fetch_value("SELECT 1", timeout=10), 1, "SELECT 1 after that")


@promise(needs=("stream",))
async def a_stream_that_is_left_early_leaves_the_connection_usable(subject: Subject) -> None:
    """A stream may be left before its end, by `break`, by an exception or unread: the connection takes what follows."""
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        for take in (0, 1, 15):
            async with connection.stream(numbers(MANY), batch_size=10) as rows:
                for _ in range(take):
                    await anext(rows)
            same(await connection.fetch_value("SELECT 1"), 1, f"SELECT 1 after {take} rows of a stream")
        with raises(Mine, "a stream's block that raises"):
            async with connection.stream(numbers(MANY), batch_size=10) as rows:
                await anext(rows)
                raise Mine
        same(await connection.fetch_value("SELECT 1"), 1, "SELECT 1 after an exception in a stream")
        check(not connection.in_transaction, "after a stream no transaction is open, and one was")


@promise(needs=("stream",))
async def a_cancelled_stream_leaves_the_connection_usable(subject: Subject) -> None:
    """A task that is cancelled while it reads leaves a connection that takes the next statement."""
    reading = asyncio.Event()

    async def read(connection: Connection[Any]) -> None:
        async with connection.stream(numbers(MANY), batch_size=10) as rows:
            async for _ in rows:
                reading.set()

    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        for _ in range(3):
            reading.clear()
            task = asyncio.create_task(read(connection))
            await reached(reading, task)
            task.cancel()
            await asyncio.wait([task])
            ends_cancelled(task, "a stream")
            same(await connection.fetch_value("SELECT 1"), 1, "SELECT 1 after a stream that was cancelled")


@promise(needs=("stream", "endless"))
async def a_stream_cancelled_before_its_first_row_ends_the_work(subject: Subject) -> None:
    """A stream that waits for its first row ends within moments when it is cancelled."""
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        async with connection.stream(subject.endless) as rows:
            with raises(TimeoutError, "the first row of a query without end"):
                async with asyncio.timeout(0.1):
                    await anext(rows)
        same(await connection.fetch_value("SELECT 1", timeout=10), 1, "SELECT 1 after that")


@promise(needs=("stream",))
async def other_statements_are_refused_while_a_stream_is_open(subject: Subject) -> None:
    """A connection that streams takes no other statement; the stream goes on."""
    async with subject.open() as database, database.connection() as connection:
        async with connection.stream(numbers(5), batch_size=2, into=int) as rows:
            await anext(rows)
            with raises(UsageError, "a statement while a stream is open"):
                await connection.fetch_value("SELECT 1")
            with raises(UsageError, "a second stream while one is open"):
                async with connection.stream("SELECT 1"):
                    pass
            with raises(UsageError, "a transaction while a stream is open"):
                async with connection.transaction():
                    pass
            same([row async for row in rows], [1, 2, 3, 4], "the rest of the stream")
        same(await connection.fetch_value("SELECT 1"), 1, "SELECT 1 after the stream")


@promise(needs=("stream",))
async def a_stream_is_part_of_the_transaction_it_is_opened_in(subject: Subject) -> None:
    """A stream sees what its transaction wrote, and the transaction goes on after it and commits."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            await tx.execute(f"INSERT INTO {items.table} (id, name) VALUES (1, 'a'), (2, 'b')")
            async with tx.stream(f"SELECT id FROM {items.table} ORDER BY id", into=int) as rows:
                same([row async for row in rows], [1, 2], "rows of a stream in a transaction")
            await tx.execute(items.insert, [3, "c"])
        same(await items.ids(), [1, 2, 3], "ids in the table")


@promise(needs=("stream",))
async def a_transaction_left_out_of_a_stream_is_rolled_back(subject: Subject) -> None:
    """An exception inside of a stream inside of a transaction undoes the transaction."""
    async with subject.items(pool={"max_size": 1}) as items:
        with raises(Mine, "a block that raises"):
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "a"])
                async with tx.stream(numbers(MANY), batch_size=5) as rows:
                    await anext(rows)
                    raise Mine
        same(await items.ids(), [], "ids in the table")


@promise(needs=("stream",))
async def a_stream_reports_an_error_of_the_database(subject: Subject) -> None:
    """A wrong statement is a `QueryError` with its text at the first row, and the connection stays usable."""
    sql = f"SELECT id FROM {subject.unique()}"
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        with raises(QueryError, "a stream of a table that is not there") as caught:
            async with connection.stream(sql) as rows:
                await anext(rows)
        same(caught.error.sql, sql, "the text that the error names")
        same(await connection.fetch_value("SELECT 1"), 1, "SELECT 1 after that")


@promise(needs=("stream",))
async def a_stream_closed_after_the_release_touches_nobody(subject: Subject) -> None:
    """A stream that was left open is over when its connection is released; closing it late harms no next holder.

    Laws: H10, K4, K5.
    """
    async with subject.open(pool={"max_size": 1}) as database:
        for _ in range(3):
            async with database.connection() as connection:
                stream = connection.stream(numbers(MANY), batch_size=1)
                await anext(await stream.__aenter__())
            async with database.connection() as other:
                with raises(UsageError, "a stream that is read after its connection was released"):
                    await anext(stream)
                await stream.__aexit__(None, None, None)
                same(await other.fetch_value("SELECT 1"), 1, "SELECT 1 of the next holder")
