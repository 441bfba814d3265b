"""Whoever is cancelled leaves no work running, and hits nobody else's."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from pathlib import Path

import pytest
from databases import until
from dbcore_sqlite import Connection, start_pool
from dbcore_sqlite.bulk import insert_many
from dbcore_sqlite.connecting import connect
from dbcore_sqlite.pool import make_home
from dbcore_sqlite.streams import stream
from dbcore_sqlite.transactions import rollback
from dbcore_sqlite.worker import Job, Native
from sqlite_pools import (
    SLOW,
    SLOW_WRITE,
    THREADS,
    begin_write,
    count,
    held,
    numbers,
    one_connection,
    run,
    sqlite_config,
    sqlite_pool,
    under_way,
    value,
)

from dbcore.errors import DbConnectionError


async def test_a_cancelled_statement_is_interrupted_200_times_of_200(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        for turn in range(200):
            task = asyncio.create_task(run(connection, SLOW))
            for _ in range(turn % 7):
                await asyncio.sleep(0 if turn % 2 else 0.0005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert connection.is_quiet
            assert await value(connection, "SELECT ?", turn) == turn


async def test_no_interrupt_hits_the_next_holder(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 1, "min_size": 1}) as pool:
        for turn in range(100):

            async def slow() -> None:
                async with held(pool) as connection:
                    await run(connection, SLOW)

            task = asyncio.create_task(slow())
            for _ in range(1 + turn % 5 * 40):  # the cancel comes at five different moments
                await asyncio.sleep(0)
            task.cancel()
            async with held(pool) as connection:
                assert await value(connection, "SELECT ?", turn) == turn
            await asyncio.wait([task])
        assert pool.stats
        assert pool.stats().connects == 1


async def test_a_second_cancel_leaves_at_once_and_the_reset_waits(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 1}) as pool:
        released = threading.Event()

        async with held(pool) as connection:
            connection.native.create_function("wait", 0, released.wait)  # hears no interrupt
            task = asyncio.create_task(run(connection, "SELECT wait()"))
            await under_way(connection)
            task.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not connection.is_quiet
        assert pool.stats
        assert pool.stats().resetting == 1
        released.set()
        async with held(pool) as again:
            assert again is connection
            assert await value(again, "SELECT 1") == 1


async def test_the_lane_stays_with_a_write_that_was_left_behind(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        released = threading.Event()
        await numbers(connection)
        connection.native.create_function("wait", 0, lambda: int(released.wait()))
        task = asyncio.create_task(run(connection, "INSERT INTO numbers VALUES (wait())"))
        await under_way(connection)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        assert connection.lane.owner is connection
        released.set()
        await connection.quiet()
        assert connection.lane.owner is None


async def test_a_cancelled_write_leaves_nothing_behind(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        task = asyncio.create_task(run(connection, SLOW_WRITE))
        await under_way(connection)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await count(connection) == 0
        assert connection.lane.owner is None


async def test_a_rollback_is_not_stopped_by_a_cancel(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        task = asyncio.create_task(rollback(connection))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await connection.quiet()
        assert not connection.native.in_transaction
        assert connection.lane.owner is None


async def test_a_stream_beside_a_cancelled_statement_is_closed(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await run(connection, "INSERT INTO numbers VALUES (1), (2), (3)")
        rows = stream(connection, "SELECT n FROM numbers", (), 1)
        await anext(rows)
        task = asyncio.create_task(run(connection, SLOW))
        await under_way(connection)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await value(connection, "SELECT 1") == 1
        with pytest.raises(Exception, match="the stream was closed early"):
            await anext(rows)


async def test_a_cancelled_connect_leaves_no_thread(tmp_path: Path) -> None:
    """Laws: E6."""
    before = set(threading.enumerate())
    async with sqlite_pool(tmp_path, {"min_size": 0}) as pool:
        for turn in range(20):
            task = asyncio.ensure_future(pool.checkout())
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()[1]()
    assert not set(threading.enumerate()) - before


async def test_an_abort_cuts_off_a_running_statement(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"stop_timeout": 0}) as pool:
        async with held(pool) as connection:
            task = asyncio.create_task(run(connection, SLOW))
            await under_way(connection)
            await pool.stop()
            with pytest.raises(DbConnectionError, match="was closed"):
                await task
            with pytest.raises(DbConnectionError, match="was closed"):
                await run(connection, "SELECT 1")
        assert not connection.thread.is_alive()


def test_an_abort_works_with_the_loop_closed(tmp_path: Path) -> None:
    """Laws: M4."""

    async def take() -> Connection:

        config = sqlite_config(tmp_path)
        return await connect(make_home(config)[0], config.settings)

    connection = asyncio.run(take())
    connection.abort()
    connection.thread.join(5)
    assert not connection.thread.is_alive()


async def test_a_transaction_whose_first_statement_was_left_behind_is_rolled_back(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        released = threading.Event()
        await numbers(connection)
        connection.native.create_function("wait", 0, lambda: int(released.wait()))
        await begin_write(connection)
        task = asyncio.create_task(run(connection, "INSERT INTO numbers VALUES (wait())"))
        await under_way(connection)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        released.set()
        await rollback(connection)
        assert not connection.native.in_transaction
        assert connection.lane.owner is None
        assert await count(connection) == 0


async def test_a_transaction_begun_after_its_statement_was_left_behind_is_no_longer_pending(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        begins, released = threading.Event(), threading.Event()

        def hold(text: str) -> None:
            if text.startswith("BEGIN"):
                begins.set()
                released.wait()

        def insert(native: Native) -> None:
            native.execute("INSERT INTO numbers VALUES (1)")

        connection.native.set_trace_callback(hold)
        await begin_write(connection)
        task = asyncio.create_task(connection.run(insert, interruptible=False))
        await asyncio.to_thread(begins.wait)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        assert task.cancelled()
        assert connection.pending, "the worker stands before BEGIN"
        released.set()
        await connection.quiet()
        connection.native.set_trace_callback(None)
        assert not connection.pending
        assert connection.native.in_transaction
        await rollback(connection)
        assert not connection.native.in_transaction
        assert connection.lane.owner is None
        assert await count(connection) == 0


async def test_a_pool_that_nobody_refers_to_leaves_no_thread(tmp_path: Path) -> None:
    """Laws: M6."""
    before = set(threading.enumerate())
    pool = await start_pool(sqlite_config(tmp_path, {"min_size": 2}))
    assert len(set(threading.enumerate()) - before) == 2 * THREADS
    del pool
    # A connect may still be under way, and know the pool.
    await until(lambda: gc.collect() >= 0 and not set(threading.enumerate()) - before)


async def test_a_job_that_was_cancelled_before_it_began_does_nothing(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        done: list[str] = []

        def work(_: Native) -> None:
            done.append("work")

        job = Job(connection.native, work, (), ("BEGIN",), connection.loop.create_future(), interruptible=True)
        job.cancelled = True
        job.run()
        job.report()
        with pytest.raises(sqlite3.OperationalError):
            job.future.result()
        assert (done, job.ended, job.begun, connection.native.in_transaction) == ([], True, False, False)


async def cancelled_in_every_turn(task: asyncio.Task[int], turns: int) -> bool:
    """Cancel a task after so many turns of the loop, and in each of those that follow, as anyio does."""
    for _ in range(turns):
        await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    return task.cancelled()


@pytest.mark.parametrize("text", ["BEGIN", ""], ids=["in a transaction of text", "on its own"])
async def test_insert_many_is_taken_back_whatever_cancels_it_how_often(tmp_path: Path, text: str) -> None:
    rows = [(n,) for n in range(12_000)]
    outcomes: set[int] = set()
    async with sqlite_pool(tmp_path) as pool, held(pool) as connection, held(pool) as other:
        await numbers(connection)
        for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
            if text:
                await run(connection, text)
            task = asyncio.create_task(insert_many(connection, ("numbers",), ["n"], rows))
            if not await cancelled_in_every_turn(task, turns):
                assert await task == len(rows)
            left = await count(connection)  # it waits for what is left behind
            assert left in (0, len(rows))
            outcomes.add(left)
            if connection.inside:
                await run(connection, "COMMIT")
            assert not connection.begun
            await run(other, "DELETE FROM numbers")  # nobody else is shut out
    assert 0 in outcomes


async def test_a_cancelled_stream_that_writes_ends_as_cancelled_however_often(tmp_path: Path) -> None:
    async def read(connection: Connection) -> int:
        async for _ in stream(connection, "INSERT INTO numbers VALUES (1), (2), (3), (4) RETURNING n", (), 1):
            await asyncio.sleep(0)
        return 0

    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        for turns in range(60):
            task = asyncio.create_task(read(connection))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None
            await connection.quiet()
