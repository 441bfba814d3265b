"""What a transaction sees of others, and what becomes of two that get in each other's way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, get_args

from dbcore.connection import Connection
from dbcore.driver import Isolation
from dbcore.errors import ConflictError, QueryError, UnsupportedError
from dbcore.testing.conformance.checks import PATIENCE, check, raises, reached, same
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject

MEANWHILE = 0.3
"""Seconds for which somebody else is given the time to do something; perhaps he waits for us."""


@promise(needs=("begin",))
async def read_only_is_enforced_and_ends_with_the_transaction(subject: Subject) -> None:
    """A write inside of `transaction(read_only=True)` is refused; the next transaction on the connection may write."""
    async with subject.items(pool={"max_size": 1}) as items:
        with raises(QueryError, "an INSERT in a read-only transaction"):
            async with items.database.transaction(read_only=True) as tx:
                same(await tx.fetch_value(items.count), 0, "rows that a read-only transaction sees")
                await tx.execute(items.insert, [1, "a"])
        async with items.database.transaction(read_only=True) as tx:
            same(await tx.fetch_value(items.count), 0, "rows that a read-only transaction sees")
        same(await items.database.execute(items.insert, [2, "b"]), 1, "rows of an INSERT after that")
        async with items.database.connection() as connection:
            async with connection.transaction(read_only=True):
                pass
            same(await connection.execute(items.insert, [3, "c"]), 1, "rows of an INSERT on the same connection")


@promise(needs=("begin",))
async def an_isolation_is_given_or_refused(subject: Subject) -> None:
    """Each isolation works, with `read_only` too, or is an `UnsupportedError` that leaves nothing behind."""
    async with subject.items(pool={"max_size": 1}) as items:
        for number, isolation in enumerate(get_args(Isolation)):
            try:
                async with items.database.transaction(isolation) as tx:
                    await tx.execute(items.insert, [number, "a"])
            except UnsupportedError as error:
                same(error.driver, subject.vtable.name, "the driver that the error names")
                check(isolation in str(error), f"the error names the isolation {isolation!r}, and says: {error}")
            else:
                check(number in await items.ids(), f"a transaction with isolation {isolation!r} commits, and did not")
                async with items.database.transaction(isolation, read_only=True) as tx:
                    await tx.fetch_value(items.count)
            async with items.database.connection() as connection:
                check(not connection.in_transaction, "after that no transaction is open, and one was")


@promise(needs=("begin",))
async def a_serializable_transaction_sees_one_state(subject: Subject) -> None:
    """What others commit meanwhile is not seen by a `serializable` read-only transaction."""
    async with (
        subject.items(pool={"max_size": 2}) as items,
        items.database.transaction("serializable", read_only=True) as tx,
    ):
        same(await tx.fetch_value(items.count), 0, "rows at first")
        await items.database.execute(items.insert, [1, "a"], timeout=5)
        same(await tx.fetch_value(items.count), 0, "rows when another connection has written one")


@promise(needs=("begin",))
async def a_conflict_is_retryable_and_run_transaction_overcomes_it(subject: Subject) -> None:
    """Eight tasks that read a number and write the next one, `serializable`: no count is lost, and none gives up."""
    async with subject.items() as items:
        database, table = items.database, items.table
        await database.execute(items.insert, [1, "0"])

        async def count_on(tx: Connection[Any]) -> None:
            before = await tx.fetch_value(f"SELECT name FROM {table} WHERE id = 1", into=int)
            await tx.execute(f"UPDATE {table} SET name = $1 WHERE id = 1", [str(before + 1)])

        await asyncio.gather(*(database.run_transaction(count_on, 100, "serializable") for _ in range(8)))
        same(await database.fetch_value(f"SELECT name FROM {table}", into=int), 8, "the number after eight increments")


@promise()
async def a_write_conflict_is_retryable_or_waits(subject: Subject) -> None:
    """Of two that write one row at once, without an isolation, the second waits, or is a retryable `ConflictError`."""
    async with subject.items(pool={"max_size": 2}) as items:
        update = f"UPDATE {items.table} SET name = $1 WHERE id = 1"
        await items.database.execute(items.insert, [1, "before"])

        async def write(connection: Connection[Any], has_read: asyncio.Event, may_write: asyncio.Event) -> None:
            async with connection.transaction() as tx:
                await tx.fetch_value(f"SELECT name FROM {items.table} WHERE id = 1")
                has_read.set()
                await may_write.wait()
                await tx.execute(update, ["the second"])

        async with items.database.connection() as one, items.database.connection() as other, _tasks() as start:
            has_read, may_write = asyncio.Event(), asyncio.Event()
            may_write.set()
            async with one.transaction() as tx:
                await tx.execute(update, ["the first"])
                second = start(write(other, has_read, may_write))
                await asyncio.wait([second], timeout=MEANWHILE)
            await _conflicts_at_most(second)

            may_write.clear()
            has_read.clear()
            second = start(write(other, has_read, may_write))
            await reached(has_read, second)
            first = start(one.execute(update, ["the first"]))
            await asyncio.wait([first], timeout=MEANWHILE)
            may_write.set()
            await _conflicts_at_most(first, second)


@promise(needs=("begin",))
async def a_serializable_transaction_knows_no_write_skew(subject: Subject) -> None:
    """Two `serializable` transactions that each leave one of two rows to the other do not both commit."""
    async with subject.items(pool={"max_size": 2}) as items:
        for number in (1, 2):
            await items.database.execute(items.insert, [number, "on"])
        on = f"SELECT count(*) FROM {items.table} WHERE name = 'on'"
        has_read = [asyncio.Event(), asyncio.Event()]

        async def leave(connection: Connection[Any], number: int) -> None:
            async with connection.transaction("serializable") as tx:
                before = await tx.fetch_value(on, into=int)
                has_read[number].set()
                theirs = asyncio.ensure_future(has_read[1 - number].wait())
                await asyncio.wait([theirs], timeout=MEANWHILE)  # or they wait for our lock
                theirs.cancel()
                if before > 1:
                    await tx.execute(f"UPDATE {items.table} SET name = 'off' WHERE id = $1", [number + 1])

        async with items.database.connection() as one, items.database.connection() as other, _tasks() as start:
            await _conflicts_at_most(start(leave(one, 0)), start(leave(other, 1)))
        left = await items.database.fetch_value(on, into=int)
        check(left, "one of two rows stays on, for each transaction left one to the other, and both are off")


@contextlib.asynccontextmanager
async def _tasks() -> AsyncGenerator[Callable[[Coroutine[Any, Any, object]], asyncio.Task[object]], None]:
    """What is started here is over when the block is left, so that nobody gets its connection before that."""
    tasks: list[asyncio.Task[object]] = []

    def start(work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)


async def _conflicts_at_most(*tasks: asyncio.Task[object]) -> None:
    """Each ends soon, with success or with a conflict after which it can be tried again."""
    await asyncio.wait(tasks, timeout=PATIENCE)
    for task in tasks:
        check(task.done(), f"who waits for another transaction goes on after it, and waited {PATIENCE:g} s")
    for task in tasks:
        try:
            task.result()
        except ConflictError as error:
            check(error.retryable, f"a conflict is retryable, and this one is not: {error}")
        except QueryError as error:
            message = f"a conflict is a ConflictError, and {type(error).__name__} came: {error}"
            raise AssertionError(message) from error
