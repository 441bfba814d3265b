"""Work that ends before it is done, by timeout or cancellation: nothing goes on behind it, nothing is left half way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from dbcore.connection import Connection
from dbcore.database import Database
from dbcore.errors import DbError, QueryTimeout
from dbcore.testing.conformance.checks import cancelled, check, ends_cancelled, raises, reached, same, turns, until
from dbcore.testing.conformance.endless import how_it_ended
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.sql import numbers
from dbcore.testing.conformance.subject import Items, Subject

SHORT = 0.1
"""Seconds after which a statement without end is ended."""

SOON = 10.0
"""Seconds within which the next statement has to be through: nothing that goes on may hold it up."""

THOUSAND = [(number, f"name {number}") for number in range(1000)]

MOMENTS = [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0), (5, 0.0), (8, 0.0), (0, 0.2), (0, 0.4), (0, 0.6), (0, 0.8), (0, 1.0)]
"""To cancel something at: so many turns of the event loop after its start, or that share of the time that it takes."""


@promise(needs=("endless",))
async def what_these_promises_cut_off_does_not_end_by_itself(subject: Subject) -> None:
    """`Subject.endless`, the query that is cut off here in many ways, goes on for as long as it is left alone."""
    ended = await how_it_ended(subject)
    check(ended is None, ended or "")


# -- statements --------------------------------------------------------------------------------------------------------


@promise(needs=("endless",))
async def a_statement_that_takes_too_long_is_ended(subject: Subject) -> None:
    """After `timeout` seconds a statement is a `QueryTimeout`, and the connection takes the next one."""
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        for _ in range(3):
            started = asyncio.get_running_loop().time()
            with raises(QueryTimeout, "a query without end, with a timeout") as caught:
                await connection.execute(subject.endless, timeout=SHORT)
            spent = asyncio.get_running_loop().time() - started
            check(spent < SOON, f"a timeout of {SHORT} s ends the query within moments, and it took {spent:.1f} s")
            same((caught.error.sql, caught.error.driver), (subject.endless, subject.vtable.name), "text and driver")
            same(await connection.fetch_value("SELECT 1", timeout=SOON), 1, "SELECT 1 after that")


@promise()
async def what_a_timeout_says_was_ended_was_not_done(subject: Subject) -> None:
    """A `QueryTimeout` that came too late, or may have, has `outcome_unknown`; nothing is stored by any other one."""
    async with subject.items(pool={"max_size": 2}) as items, items.database.connection() as connection:
        work = f"INSERT INTO {items.table} SELECT $1, 'x' FROM ({numbers(2000)}) few WHERE i = 0"
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(5):
            await connection.execute(work, [number])
        spent = (loop.time() - started) / 5
        ended: list[int] = []
        for number in range(100, 220):
            try:
                await connection.execute(work, [number], timeout=spent * (number - 60) / 100)
            except QueryTimeout as error:
                if not error.outcome_unknown:
                    ended.append(number)
        stored = sorted(set(await items.ids()).intersection(ended))
        same(stored, [], "ids of statements that were ended by their timeout, and are stored")


@promise(needs=("endless",))
async def the_statement_timeout_of_the_config_holds_unless_another_is_given(subject: Subject) -> None:
    """`statement_timeout` of the config ends every statement that was given no timeout of its own."""
    async with subject.open(statement_timeout=SHORT) as database:
        with raises(QueryTimeout, "a query without end, with statement_timeout") as caught:
            await database.fetch_all(subject.endless)
        check(f"{SHORT:g} s" in str(caught.error), f"the error names the limit, and says: {caught.error}")
        with raises(QueryTimeout, "a query without end, with a timeout of its own") as caught:
            await database.fetch_all(subject.endless, timeout=2 * SHORT)
        check(f"{2 * SHORT:g} s" in str(caught.error), f"the error names the limit, and says: {caught.error}")
        same(await database.fetch_value("SELECT 1", timeout=SOON), 1, "SELECT 1 after that")


@promise(needs=("endless",))
async def several_statements_together_have_a_timeout(subject: Subject) -> None:
    """`batch`, `execute_many` and `execute_script` end at their timeout too, and leave no transaction open."""
    async with subject.items(pool={"max_size": 2}) as items, items.database.connection() as connection:
        endless = f"INSERT INTO {items.table} SELECT 1, 'x' FROM ({subject.endless}) never"
        ways: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "batch": lambda: connection.batch([(items.insert, [1, "a"]), (endless, ())], timeout=SHORT),
            "execute_many": lambda: connection.execute_many(endless, [(), ()], timeout=SHORT),
        }
        if subject.vtable.script is not None:
            ways["execute_script"] = lambda: connection.execute_script(f"SELECT 1; {endless}", timeout=SHORT)
        for way, work in ways.items():
            with raises(QueryTimeout, f"{way} without end, with a timeout"):
                await work()
            check(not connection.in_transaction, f"after {way} that was ended no transaction is open, and one was")
            same(await connection.fetch_value(items.count, timeout=SOON), 0, f"rows in the table after {way}")


@promise(needs=("endless",))
async def somebody_elses_timeout_is_no_query_timeout(subject: Subject) -> None:
    """`asyncio.timeout` around a statement raises a plain `TimeoutError`, and ends the statement all the same."""
    async with subject.open(pool={"max_size": 1}) as database:
        with raises(TimeoutError, "a query without end inside of asyncio.timeout") as caught:
            async with asyncio.timeout(SHORT):
                await database.execute(subject.endless, timeout=600)
        check(not isinstance(caught.error, DbError), f"a plain TimeoutError was promised, not {caught.error!r}")
        same(await database.fetch_value("SELECT 1", timeout=SOON), 1, "SELECT 1 after that")


@promise(needs=("endless",))
async def a_cancelled_statement_leaves_the_connection_usable(subject: Subject) -> None:
    """A statement may be cancelled at any moment; the connection takes the next one and gives its answer.

    Laws: E7.
    """
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        for after in (0, 1, 2, 3, 5, 8, 13, 50):
            task = await cancelled(connection.execute(subject.endless), after)
            ends_cancelled(task, f"a statement, after {after} turns,")
            same(await connection.fetch_value(f"SELECT {after}", timeout=SOON), after, f"SELECT {after} after that")


@promise(needs=("endless",))
async def a_statement_cancelled_at_every_await_costs_no_connection(subject: Subject) -> None:
    """Cancelled anew in each turn until it has ended, as anyio does it: the same connection takes the next statement.

    Laws: E7.
    """
    async with subject.open(pool={"max_size": 1}) as database:
        await database.execute("SELECT 1")
        for after in (0, 1, 5, 50):
            task = asyncio.create_task(database.execute(subject.endless))
            await turns(after)
            async with asyncio.timeout(SOON):
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
            ends_cancelled(task, f"a statement, after {after} turns,")
            same(await database.fetch_value(f"SELECT {after}", timeout=SOON), after, f"SELECT {after} after that")
        if database.pool.stats is not None:
            stats = database.stats()
            same((stats.connects, stats.lost), (1, 0), "connections that were made, and lost")


@promise(needs=("endless",))
async def a_cancelled_statement_leaves_no_work_running(subject: Subject) -> None:
    """When a cancelled statement has ended, the table that it read can be changed at once: no lock, no work is left."""
    async with subject.open(pool={"max_size": 2}) as database:
        for pause in (0.0, SHORT):
            async with subject.table(database, "id INTEGER PRIMARY KEY") as table:
                await database.execute(f"INSERT INTO {table} (id) VALUES (1)")
                sql = f"SELECT * FROM {table}, ({subject.endless}) never"
                async with database.connection() as connection:
                    task = asyncio.create_task(connection.execute(sql))
                    await asyncio.sleep(pause)  # not to wait: so that it is cut off early, and in the middle
                    task.cancel()
                    await asyncio.wait([task])
                    ends_cancelled(task, "a statement")
                    await database.execute(f"ALTER TABLE {table} ADD COLUMN name INTEGER", timeout=SOON)


@promise(needs=("endless",))
async def a_statement_cancelled_twice_does_not_reach_the_next_holder(subject: Subject) -> None:
    """After two cancellations in a row the next holder of the connection gets its own answers."""
    async with subject.open(pool={"max_size": 1}) as database:

        async def hold() -> None:
            async with database.connection() as connection:
                await connection.execute(subject.endless)

        for number, after in enumerate((1, 2, 3, 5, 8, 20)):
            await cancelled(hold(), after, again_after=number % 3)
            same(await database.fetch_value(f"SELECT {number}"), number, f"SELECT {number} of the next holder")


@promise()
async def answers_are_never_mixed_up(subject: Subject) -> None:
    """Sixty tasks on a pool of three, cut short at any moment: who gets an answer gets the one to its own question."""
    wrong: list[str] = []

    async def ask(database: Database, number: int) -> None:
        async with database.connection() as connection:
            for question in (number, -number):
                answer = await connection.fetch_value(f"SELECT {question}")
                if answer != question:
                    wrong.append(f"asked for {question}, got {answer}")

    async with subject.open(pool={"max_size": 3}) as database:
        for round_ in range(5):
            tasks = [asyncio.create_task(ask(database, 1 + number + 100 * round_)) for number in range(60)]
            for number, task in enumerate(tasks):
                if number % 3 == 0:
                    await turns(number % 7)
                    task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            same([each for each in ended if isinstance(each, Exception)], [], "errors of those who asked")
    same(wrong, [], "answers to somebody else's question")


# -- several together --------------------------------------------------------------------------------------------------


@promise()
async def many_rows_that_are_cancelled_are_stored_all_or_none(subject: Subject) -> None:
    """`execute_many`, `insert_many` and `batch` may be cancelled at any moment: all rows are there, or none."""
    async with subject.items(pool={"max_size": 2}) as items:
        database = items.database
        ways: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "execute_many": lambda: database.execute_many(items.insert, THOUSAND),
            "insert_many": lambda: database.insert_many(items.table, ["id", "name"], THOUSAND),
            "batch": lambda: database.batch([(items.insert, row) for row in THOUSAND[:50]]),
        }
        loop = asyncio.get_running_loop()
        for way, work in ways.items():
            started = loop.time()
            await work()
            spent = loop.time() - started
            whole = await database.fetch_value(items.count)
            for after, share in MOMENTS:
                await database.execute(f"DELETE FROM {items.table}", timeout=SOON)
                task = await cancelled(work(), after, seconds=share * spent)
                stored = await database.fetch_value(items.count, timeout=SOON)
                when = f"after {after} turns" if after else f"after {share:.0%} of its time"
                check(stored in (0, whole), f"{way}, cancelled {when}, stored {stored} rows of {whole}")
                done = not task.cancelled() and task.exception() is None
                check(stored or not done, f"{way} returned and had stored nothing")
            await database.execute(f"DELETE FROM {items.table}", timeout=SOON)


# -- transactions ------------------------------------------------------------------------------------------------------


async def _write(items: Items, subject: Subject, inside: asyncio.Event, *, busy: bool) -> None:
    """Write inside of a transaction, and stay there: idle, or in a statement."""
    async with items.database.transaction() as tx:
        await tx.execute(f"UPDATE {items.table} SET name = 'cancelled' WHERE id = 1", timeout=SOON)
        inside.set()
        if busy:
            await tx.execute(subject.endless)
        await asyncio.Event().wait()


@promise(needs=("endless",))
async def a_cancelled_transaction_is_rolled_back_before_its_block_is_left(subject: Subject) -> None:
    """When the task has ended, another connection writes the same row at once: no lock is left, nothing was kept."""
    async with subject.items(pool={"max_size": 2}) as items, items.database.connection() as other:
        await other.execute(items.insert, [1, "before"])
        for busy in (False, True):
            inside = asyncio.Event()
            task = asyncio.create_task(_write(items, subject, inside, busy=busy))
            await reached(inside, task)
            await turns(3)
            task.cancel()
            await asyncio.wait([task])
            ends_cancelled(task, "a transaction")
            name = await other.fetch_value(f"SELECT name FROM {items.table}")
            same(name, "before", "the row that a cancelled transaction had changed")
            update = f"UPDATE {items.table} SET name = 'before' WHERE id = 1"
            same(await other.execute(update, timeout=SOON), 1, "rows of an UPDATE after that")


@promise(needs=("endless",))
async def a_transaction_cancelled_twice_leaves_nobody_a_dirty_connection(subject: Subject) -> None:
    """Cancelled again during its rollback, the task leaves; the next holder finds no transaction and no change.

    Laws: E9.
    """
    await _cancel_twice(subject, busy=False)


@promise(needs=("endless",))
async def a_statement_cancelled_twice_lets_go_of_the_locks_of_its_transaction(subject: Subject) -> None:
    """Also a transaction that is in the middle of a statement then ends at the database, within seconds.

    Laws: E9.
    """
    await _cancel_twice(subject, busy=True)


async def _cancel_twice(subject: Subject, *, busy: bool) -> None:
    async with subject.items(pool={"max_size": 1}) as items:
        await items.database.execute(items.insert, [1, "before"])
        for again_after in range(5):
            inside = asyncio.Event()
            task = asyncio.create_task(_write(items, subject, inside, busy=busy))
            await reached(inside, task)
            task.cancel()
            await turns(again_after)
            task.cancel()
            await asyncio.wait([task])
            async with items.database.connection() as connection:
                check(not connection.in_transaction, "the next holder finds no open transaction, and found one")
                name = await connection.fetch_value(f"SELECT name FROM {items.table}", timeout=SOON)
                same(name, "before", "the row that a cancelled transaction had changed")


@promise()
async def cancelled_at_any_moment_a_transaction_is_whole_or_not_at_all(subject: Subject) -> None:
    """Sixty transactions, each cancelled one turn of the event loop later than the last: no half of one is kept."""
    async with subject.items(pool={"max_size": 2}) as items:

        async def work(number: int) -> None:
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [2 * number, "first half"])
                await tx.execute(items.insert, [2 * number + 1, "second half"])

        for number in range(60):
            await cancelled(work(number), number)
        halves = await items.ids()
        same([number // 2 for number in halves[::2]], [number // 2 for number in halves[1::2]], "halves that were kept")
        if items.database.pool.stats is not None:
            stats = items.database.stats
            await until(lambda: stats().idle == stats().size, "all connections are idle in the end")


@promise(needs=("endless",))
async def a_timeout_inside_of_a_transaction_rolls_it_back(subject: Subject) -> None:
    """A statement that timed out and leaves the block undoes the transaction."""
    async with subject.items(pool={"max_size": 1}) as items:
        with raises(QueryTimeout, "a query without end, in a transaction"):
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "a"])
                await tx.execute(subject.endless, timeout=SHORT)
        same(await items.ids(), [], "ids in the table")


@promise(needs=("savepoints",))
async def a_cancelled_savepoint_leaves_the_outer_block_to_decide(subject: Subject) -> None:
    """A cancellation that is caught outside of a nested transaction has undone that one alone."""
    inside = asyncio.Event()
    async with subject.items() as items:

        async def work() -> None:
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "outer"])
                try:
                    async with tx.transaction():
                        await tx.execute(items.insert, [2, "inner"])
                        inside.set()
                        await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
                await tx.execute(items.insert, [3, "after"])

        task = asyncio.create_task(work())
        await reached(inside, task)
        task.cancel()
        await task
        same(await items.ids(), [1, 3], "ids in the table")


@promise()
async def a_cancelled_begin_leaves_nothing(subject: Subject) -> None:
    """A transaction that is cancelled while it begins leaves no transaction and no lock."""

    async def work(connection: Connection[Any], insert: str) -> None:
        async with connection.transaction() as tx:
            await tx.execute(insert, [1, "x"])

    async with subject.items(pool={"max_size": 1}) as items, items.database.connection() as connection:
        for after in range(12):
            await cancelled(work(connection, items.insert), after)
            check(not connection.in_transaction, f"cancelled after {after} turns no transaction is open, and one was")
            await connection.execute(f"DELETE FROM {items.table}", timeout=SOON)


@promise()
async def a_large_answer_that_is_cancelled_leaves_no_rest(subject: Subject) -> None:
    """A query whose many rows were under way when it was cancelled leaves none of them to the next statement."""
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        for after in (1, 2, 3, 5, 8, 13):
            await cancelled(connection.fetch_all(numbers(10_000)), after)
            same(await connection.fetch_all(numbers(3), into=int, timeout=SOON), [0, 1, 2], "three rows after that")
