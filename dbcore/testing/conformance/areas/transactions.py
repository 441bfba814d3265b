"""Transactions: commit on success, roll back on any exception, savepoints inside."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from dbcore.connection import Connection
from dbcore.errors import ConstraintError, DbError, QueryError, TransactionError, UsageError
from dbcore.testing.conformance.checks import Mine, check, raises, same
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject

# -- the outermost -----------------------------------------------------------------------------------------------------


@promise()
async def a_transaction_commits_when_its_block_ends(subject: Subject) -> None:
    """What a transaction wrote is there when its block has ended."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            await tx.execute(items.insert, [1, "a"])
            check(tx.in_transaction, "inside of a transaction `in_transaction` is true, and was not")
        same(await items.ids(), [1], "ids in the table")
        async with items.database.connection() as connection:
            check(not connection.in_transaction, "after a transaction none is open, and one was")


@promise()
async def nobody_else_sees_what_is_not_committed(subject: Subject) -> None:
    """What a transaction writes is seen by others when it has committed, and not before.

    Laws: O1.
    """
    async with subject.items(pool={"max_size": 2}) as items, items.database.connection() as other:
        async with items.database.transaction() as tx:
            await tx.execute(items.insert, [1, "a"])
            same(await other.fetch_value(items.count, timeout=10), 0, "rows that another connection sees")
        same(await other.fetch_value(items.count), 1, "rows that another connection sees after the commit")


@promise()
async def an_exception_rolls_back_and_goes_through_unchanged(subject: Subject) -> None:
    """An exception that leaves the block rolls back, and is not wrapped.

    Laws: E14, O6.
    """
    mine = Mine("mine")
    async with subject.items() as items:
        with raises(Mine, "a block that raises") as caught:
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "a"])
                raise mine
        check(caught.error is mine, "the very exception comes out of the block, and another one did")
        same((mine.__cause__, getattr(mine, "__notes__", [])), (None, []), "what was added to it")
        same(await items.ids(), [], "ids in the table")


@promise()
async def what_is_no_exception_rolls_back_too(subject: Subject) -> None:
    """`KeyboardInterrupt`, `SystemExit`, `GeneratorExit` and `CancelledError` roll back as exceptions do.

    Laws: O6.
    """
    async with subject.items() as items:
        for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
            try:
                async with items.database.transaction() as tx:
                    await tx.execute(items.insert, [1, "a"])
                    raise kind
            except kind:
                pass
            same(await items.ids(), [], f"ids in the table after {kind.__name__}")


@promise()
async def a_connection_runs_transactions_one_after_the_other(subject: Subject) -> None:
    """`connection.transaction()` is on that connection, and leaves it without a transaction, however it ended."""
    async with subject.items() as items, items.database.connection() as connection:
        for number in range(3):
            async with connection.transaction() as tx:
                check(tx is connection, "a transaction is on the connection itself, and was on another one")
                await tx.execute(items.insert, [number, "kept"])
            check(not connection.in_transaction, "after a commit no transaction is open, and one was")
            with raises(Mine, "a block that raises"):
                async with connection.transaction() as tx:
                    await tx.execute(items.insert, [number + 10, "undone"])
                    raise Mine
            check(not connection.in_transaction, "after a rollback no transaction is open, and one was")
            same(await connection.fetch_value(items.count), number + 1, "rows that the connection sees after both")
        same(await items.ids(), [0, 1, 2], "ids in the table")


@promise()
async def a_transaction_without_statements_is_harmless(subject: Subject) -> None:
    """A block without a statement commits, and rolls back, and leaves the connection usable."""
    async with subject.open(pool={"max_size": 1}) as database:
        async with database.transaction():
            pass
        with raises(Mine, "a block that raises"):
            async with database.transaction():
                raise Mine
        same(await database.fetch_value("SELECT 1"), 1, "SELECT 1")


@promise(needs=("natively",))
async def what_native_does_first_belongs_to_the_transaction(subject: Subject) -> None:
    """A text that is run through `native` before any statement of a transaction is committed and rolled back with it.

    With `read_only=True` it cannot write.
    """
    if subject.natively is None:
        raise AssertionError("bug: tried without `natively`")
    async with subject.items() as items:
        insert = f"INSERT INTO {items.table} (id, name) VALUES (1, 'a')"
        with raises(Mine, "a block that raises"):
            async with items.database.transaction() as tx:
                await subject.natively(tx.native, insert)
                raise Mine
        same(await items.ids(), [], "ids in the table after a rollback")
        with raises(Exception, "a write in a transaction that only reads"):
            async with items.database.transaction(read_only=True) as tx:
                await subject.natively(tx.native, insert)
        same(await items.ids(), [], "ids in the table after a transaction that only reads")
        async with items.database.transaction() as tx:
            await subject.natively(tx.native, insert)
        same(await items.ids(), [1], "ids in the table after a commit")


@promise(needs=("begin",))
async def a_read_only_transaction_inside_of_one_begun_by_text_binds_nobody_else(subject: Subject) -> None:
    """`transaction(read_only=True)` behind a BEGIN that was sent as text may be refused; who comes next may write."""
    async with subject.items(pool={"max_size": 1}) as items:
        async with items.database.connection() as connection:
            await connection.execute("BEGIN")
            with contextlib.suppress(DbError):
                async with connection.transaction(read_only=True) as tx:
                    await tx.fetch_value(items.count)
        same(await items.database.execute(items.insert, [1, "a"]), 1, "rows of an INSERT of the next holder")


@promise()
async def a_rollback_has_happened_when_the_block_is_left(subject: Subject) -> None:
    """Another connection that writes the same row next meets no lock: 50 times of 50."""
    async with subject.items(pool={"max_size": 2}) as items, items.database.connection() as other:
        await other.execute(items.insert, [1, "a"])
        update = f"UPDATE {items.table} SET name = $1 WHERE id = 1"
        for number in range(50):
            with raises(Mine, "a block that raises"):
                async with items.database.transaction() as tx:
                    await tx.execute(update, ["undone"])
                    raise Mine
            same(await other.execute(update, [f"kept {number}"], timeout=5), 1, "rows of an UPDATE after the rollback")


@promise()
async def transactions_side_by_side_are_all_kept(subject: Subject) -> None:
    """Thirty tasks with a transaction each: what every one of them wrote is there.

    Laws: O1.
    """
    async with subject.items() as items:

        async def work(number: int) -> None:
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [number, "a"])
                await tx.execute(f"UPDATE {items.table} SET name = $2 WHERE id = $1", [number, "b"])

        await asyncio.gather(*(work(number) for number in range(30)))
        same(await items.ids(), list(range(30)), "ids in the table")


# -- ended early -------------------------------------------------------------------------------------------------------


@promise()
async def rollback_ends_a_transaction_early(subject: Subject) -> None:
    """`tx.rollback()` undoes the work without an exception; further statements are refused until the block is left.

    Laws: O2.
    """
    async with subject.items() as items, items.database.connection() as connection:
        async with connection.transaction() as tx:
            await tx.execute(items.insert, [1, "a"])
            await tx.rollback()
            check(not tx.in_transaction, "after rollback() no transaction is open, and one was")
            with raises(UsageError, "a statement after rollback()"):
                await tx.execute(items.insert, [2, "b"])
            with raises(UsageError, "a second rollback()"):
                await tx.rollback()
        same(await connection.execute(items.insert, [3, "c"]), 1, "rows of an INSERT after the block")
        same(await items.ids(), [3], "ids in the table")


# -- doomed ------------------------------------------------------------------------------------------------------------


@promise()
async def a_caught_error_never_makes_a_commit_fail_in_silence(subject: Subject) -> None:
    """After an error that was caught inside, all of the rest is committed, or `TransactionError` says that nothing is.

    Laws: O4.
    """
    async with subject.items() as items:
        doomed = False
        try:
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "a"])
                with raises(ConstraintError, "a key that is taken"):
                    await tx.execute(items.insert, [1, "again"])
        except TransactionError as error:
            doomed = True
            same(error.driver, subject.vtable.name, "the driver that the error names")
        same(await items.ids(), [] if doomed else [1], f"ids in the table after {'an error' if doomed else 'a commit'}")
        same(await items.database.execute(items.insert, [2, "b"]), 1, "rows of an INSERT after that")


@promise()
async def an_error_that_leaves_the_block_is_not_replaced(subject: Subject) -> None:
    """The error of a statement comes out of the block as it is, and nothing is committed."""
    async with subject.items() as items:
        with raises(ConstraintError, "a key that is taken"):
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "a"])
                await tx.execute(items.insert, [1, "again"])
        same(await items.ids(), [], "ids in the table")


@promise(needs=("transaction_status",))
async def a_transaction_that_was_ended_by_text_is_no_success(subject: Subject) -> None:
    """A block inside of which a text said ROLLBACK ends in `TransactionError`.

    Laws: O4.
    """
    async with subject.items() as items:
        with raises(TransactionError, "a block that a text has rolled back"):
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "a"])
                await tx.execute("ROLLBACK")
        same(await items.ids(), [], "ids in the table")


@promise()
async def a_commit_that_fails_says_why_and_keeps_nothing(subject: Subject) -> None:
    """A constraint that is checked at COMMIT is a `ConstraintError` of the block, and nothing was committed."""
    async with subject.items(pool={"max_size": 1}) as items:
        deferred = f"item INTEGER REFERENCES {items.table} (id) DEFERRABLE INITIALLY DEFERRED"
        async with contextlib.AsyncExitStack() as stack:
            try:
                child = await stack.enter_async_context(subject.table(items.database, deferred))
            except DbError as error:
                message = f"{type(error).__name__}: {error} (no deferred constraints? declare it in `cannot`)"
                raise AssertionError(message) from error
            with raises(ConstraintError, "a COMMIT that breaks a deferred foreign key") as caught:
                async with items.database.transaction() as tx:
                    await tx.execute(items.insert, [1, "a"])
                    await tx.execute(f"INSERT INTO {child} (item) VALUES (99)")
            same((caught.error.kind, caught.error.outcome_unknown), ("foreign_key", False), "kind and outcome_unknown")
            same(await items.ids(), [], "ids in the table")
            left = await items.database.fetch_value(f"SELECT count(*) FROM {child}", into=int)
            same(left, 0, "rows in the other table")
            same(await items.database.execute(items.insert, [2, "b"]), 1, "rows of an INSERT after that")


# -- tried again -------------------------------------------------------------------------------------------------------


@promise()
async def run_transaction_tries_again_what_is_retryable_alone(subject: Subject) -> None:
    """A `retryable` error runs the whole again, and keeps the last try alone; any other error is raised at once."""
    async with subject.items(pool={"max_size": 1}) as items:
        failures: list[DbError] = [QueryError("made for this", retryable=True) for _ in range(2)]
        calls: list[int] = []

        async def work(tx: Connection[Any]) -> str:
            calls.append(len(calls))
            await tx.execute(items.insert, [len(calls), "from this call"])
            if failures:
                raise failures.pop()
            return "done"

        same(await items.database.run_transaction(work), "done", "what the function returned in the end")
        same(await items.ids(), [3], "ids in the table: those of the last try")
        failures.append(QueryError("made for this"))
        with raises(QueryError, "an error that is not retryable"):
            await items.database.run_transaction(work)
        same(len(calls), 4, "calls of the function")
