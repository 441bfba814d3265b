"""Transactions: one trip for BEGIN and the first statement, and the truth about how they ended."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from dbcore_sqlite import Connection
from dbcore_sqlite.transactions import begin, commit, rollback, transaction_status
from dbcore_sqlite.worker import Job, Native
from sqlite_pools import (
    SLOW_WRITE,
    begin_read,
    begin_write,
    count,
    held,
    numbers,
    one_connection,
    run,
    sqlite_pool,
    value,
)

from dbcore.driver import Isolation
from dbcore.errors import DbConnectionError, TransactionError, UnsupportedError, UsageError

End = Callable[[Connection], Awaitable[None]]


async def test_begin_goes_along_with_the_first_statement(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        before = connection.job
        await begin_write(connection)
        assert connection.job is before
        assert (transaction_status(connection), connection.native.in_transaction) == ("open", False)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        assert (transaction_status(connection), connection.native.in_transaction) == ("open", True)
        await commit(connection)
        assert (transaction_status(connection), connection.native.in_transaction) == ("idle", False)
        assert await count(connection) == 1


@pytest.mark.parametrize("end", [commit, rollback])
async def test_an_empty_transaction_costs_no_hop(tmp_path: Path, end: End) -> None:
    async with one_connection(tmp_path) as connection:
        before = connection.job
        await begin(connection, isolation="serializable", read_only=False)
        await end(connection)
        assert connection.job is before
        assert connection.lane.owner is None


async def test_a_rollback_takes_everything_back(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        await rollback(connection)
        assert await count(connection) == 0


async def test_a_rollback_without_a_transaction_is_harmless(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await rollback(connection)
        assert await value(connection, "SELECT 1") == 1


async def test_a_transaction_that_reads_cannot_write_and_the_next_one_can(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_read(connection)
        assert await count(connection) == 0
        with pytest.raises(Exception, match="readonly"):
            await run(connection, "INSERT INTO numbers VALUES (1)")
        await commit(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        await begin_read(connection)
        await count(connection)
        await rollback(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        assert await count(connection) == 2


async def test_a_reader_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as writer, held(pool) as reader:
        await numbers(writer)
        await begin_write(writer)
        await run(writer, "INSERT INTO numbers VALUES (1)")
        await begin_read(reader)
        assert await count(reader) == 0
        await commit(writer)
        assert await count(reader) == 0, "its snapshot is of its first statement"
        await commit(reader)
        assert await count(reader) == 1


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_other_isolations_are_refused(tmp_path: Path, isolation: Isolation) -> None:
    async with one_connection(tmp_path) as connection:
        with pytest.raises(UnsupportedError, match=isolation) as caught:
            await begin(connection, isolation=isolation, read_only=False)
        assert "more than that" in str(caught.value)
        assert "leave isolation out" in str(caught.value)
        assert connection.lane.owner is None


async def test_a_statement_that_fails_keeps_the_rest_of_the_transaction(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE numbers (n INTEGER UNIQUE)")
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        with pytest.raises(Exception, match="UNIQUE"):
            await run(connection, "INSERT INTO numbers VALUES (1)")
        assert transaction_status(connection) == "open"
        await commit(connection)
        assert await count(connection) == 1


async def test_a_write_that_was_cancelled_ends_the_transaction_and_says_so(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        began = threading.Event()
        connection.native.create_function("began", 0, began.set)
        task = asyncio.create_task(run(connection, SLOW_WRITE.replace("SELECT 1", "SELECT coalesce(began(), 1)")))
        await asyncio.to_thread(began.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transaction_status(connection) == "idle"
        with pytest.raises(TransactionError, match="the transaction is over"):
            await run(connection, "INSERT INTO numbers VALUES (2)")
        with pytest.raises(TransactionError, match="nothing was committed"):
            await commit(connection)
        assert await count(connection) == 0
        assert connection.lane.owner is None


async def test_a_commit_that_a_deferred_constraint_refuses_rolls_back_at_once(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE a (id INTEGER PRIMARY KEY)")
        await run(connection, "CREATE TABLE b (a INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
        await begin_write(connection)
        await run(connection, "INSERT INTO b VALUES (1)")
        with pytest.raises(Exception, match="FOREIGN KEY"):
            await commit(connection)
        assert transaction_status(connection) == "idle"
        await rollback(connection)
        assert await count(connection, "b") == 0
        assert connection.lane.owner is None


async def test_a_transaction_of_text_keeps_the_lane_to_its_end(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await run(connection, "BEGIN")
        assert connection.lane.owner is connection
        await run(connection, "INSERT INTO numbers VALUES (1)")
        assert transaction_status(connection) == "open"
        await run(connection, "COMMIT")
        assert connection.lane.owner is None
        assert await count(connection) == 1


async def test_a_transaction_that_only_read_so_far_keeps_other_processes_from_writing(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await count(connection)
        foreign = sqlite3.connect(tmp_path / "app.db", isolation_level=None, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            foreign.execute("INSERT INTO numbers VALUES (1)")
        await rollback(connection)
        foreign.execute("INSERT INTO numbers VALUES (1)")
        foreign.close()


async def test_a_connection_dropped_during_commit_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    committing, go_on = asyncio.Event(), threading.Event()

    def hold_commit(sql: str) -> None:
        if sql == "COMMIT":
            loop.call_soon_threadsafe(committing.set)
            go_on.wait(10)

    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        connection.native.set_trace_callback(hold_commit)
        ending = asyncio.create_task(commit(connection))
        await committing.wait()
        connection.abort()
        go_on.set()
        with pytest.raises(DbConnectionError) as caught:
            await ending
        assert caught.value.outcome_unknown
        assert not caught.value.retryable


@pytest.mark.parametrize("begin_one", [begin_write, begin_read])
async def test_a_connection_dropped_before_commit_has_done_nothing(tmp_path: Path, begin_one: End) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_one(connection)
        await count(connection)
        connection.abort()
        assert transaction_status(connection) == "open"
        for work in (run(connection, "SELECT 1"), commit(connection)):
            with pytest.raises(DbConnectionError) as caught:
                await work
            assert caught.value.retryable
            assert not caught.value.outcome_unknown
        await rollback(connection)


async def test_a_commit_that_was_dropped_before_the_worker_came_to_it_has_done_nothing(tmp_path: Path) -> None:
    reached, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def busy(native: Native) -> None:
        loop.call_soon_threadsafe(reached.set)
        go_on.wait(10)

    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        busy_work = asyncio.create_task(connection.run(busy))
        await reached.wait()
        ending = asyncio.create_task(commit(connection))
        while connection.job is None or connection.job.started:
            await asyncio.sleep(0)
        connection.abort()
        while not connection.job.cancelled:
            await asyncio.sleep(0)
        go_on.set()
        await busy_work
        with pytest.raises(DbConnectionError) as caught:
            await ending
        assert not caught.value.outcome_unknown


@pytest.mark.parametrize("end", [commit, rollback])
async def test_what_native_does_first_belongs_to_the_transaction(tmp_path: Path, end: End) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await connection.execute("INSERT INTO numbers VALUES (1)")
        assert transaction_status(connection) == "open"
        await end(connection)
        assert await count(connection) == (1 if end is commit else 0)


async def test_native_cannot_write_first_in_a_transaction_that_reads(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_read(connection)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await connection.execute("INSERT INTO numbers VALUES (1)")
        await rollback(connection)


async def test_native_calls_that_are_sent_together_begin_the_transaction_once(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await asyncio.gather(*(connection.execute("INSERT INTO numbers VALUES (?)", (n,)) for n in range(3)))
        await rollback(connection)
        assert await count(connection) == 0


async def test_a_native_call_whose_begin_meets_a_lock_fails_and_may_be_sent_again(tmp_path: Path) -> None:
    async with one_connection(tmp_path, busy_timeout=0) as connection:
        await numbers(connection)
        with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await begin_write(connection)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await connection.execute("INSERT INTO numbers VALUES (1)")
            other.execute("ROLLBACK")
        await connection.execute("INSERT INTO numbers VALUES (1)")
        await rollback(connection)
        assert await count(connection) == 0


@pytest.mark.parametrize("begin_text", ["BEGIN", "SAVEPOINT s"])
@pytest.mark.parametrize("begin_one", [begin_read, begin_write])
async def test_a_transaction_is_refused_inside_of_one_begun_by_text(
    tmp_path: Path, begin_text: str, begin_one: End
) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await run(connection, begin_text)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        with pytest.raises(UsageError, match="open already"):
            await begin_one(connection)
        await rollback(connection)
        assert await count(connection) == 1
        await run(connection, "COMMIT")
        await run(connection, "INSERT INTO numbers VALUES (2)")
        assert await count(connection) == 2


async def test_a_begin_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        texts = ("PRAGMA query_only = 1", "BEGIN", "nonsense")
        job = Job(connection.native, max, (), texts, connection.loop.create_future(), interruptible=True)
        job.run()
        assert (job.begun, connection.native.in_transaction) == (False, False)
        assert connection.native.execute("PRAGMA query_only").fetchone() == (0,)


async def test_a_job_that_has_ended_keeps_nothing_that_it_worked_on(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:

        class Work:
            def __call__(self, native: Native) -> None: ...

        work = Work()
        known = weakref.ref(work)
        await connection.run(work)
        del work
        assert connection.job is not None
        assert known() is None
