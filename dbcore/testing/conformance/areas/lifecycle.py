"""Stopping: final, bounded, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from dbcore.errors import DbError, PoolClosed
from dbcore.testing.conformance.checks import Mine, check, raises, reached, same, turns, until
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject

PATIENCE = 30.0
"""Seconds within which a stop has to end whose own limits are a few seconds."""


def _other_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@promise()
async def after_stop_no_task_and_no_thread_is_left(subject: Subject) -> None:
    """A database that was used and stopped leaves no task and no thread.

    Laws: J8.
    """
    threads, tasks = set(threading.enumerate()), _other_tasks()
    async with subject.open(pool={"min_size": 3, "max_size": 5}) as database:
        await asyncio.gather(*(database.fetch_value("SELECT 1") for _ in range(20)))
    same([*_other_tasks() - tasks], [], "tasks that a stopped database left")
    await until(lambda: not set(threading.enumerate()) - threads, "no thread is left after a stop")
    check("stopped" in repr(database), f"a database that was stopped says so, and is {database!r}")


@promise()
async def stop_is_idempotent_and_may_come_from_many_tasks(subject: Subject) -> None:
    """Several stops, at once and one after the other, are one."""
    database = subject.open()
    await database.start()
    await asyncio.gather(*(database.stop() for _ in range(10)))
    await database.stop()
    with raises(PoolClosed, "a start after the stop"):
        await database.start()


@promise()
async def an_exception_in_the_block_stops_the_database(subject: Subject) -> None:
    """`async with` stops the database on every way out, and the exception comes out."""
    tasks = _other_tasks()
    with raises(Mine, "the block of a database that raises"):
        async with subject.open() as database:
            await database.fetch_value("SELECT 1")
            raise Mine
    same([*_other_tasks() - tasks], [], "tasks that a stopped database left")


@promise()
async def a_cancelled_stop_goes_on(subject: Subject) -> None:
    """A stop whose caller is cancelled ends all the same.

    Laws: E13.
    """
    tasks = _other_tasks()
    for after in range(4):
        database = subject.open(pool={"min_size": 2, "max_size": 2})
        await database.start()
        stopping = asyncio.create_task(database.stop())
        await turns(after)
        stopping.cancel()
        await asyncio.wait([stopping])
        await database.stop()
    await until(lambda: not _other_tasks() - tasks, "a cancelled stop leaves no task")


@promise()
async def stop_waits_for_who_still_holds_a_connection(subject: Subject) -> None:
    """A transaction that is open when the stop begins may end; new checkouts are `PoolClosed`."""
    async with subject.items() as items:
        async with subject.open() as database:
            inside, go_on = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                async with database.transaction() as tx:
                    await tx.execute(items.insert, [1, "a"])
                    inside.set()
                    await go_on.wait()
                    await tx.execute(items.insert, [2, "b"])

            task = asyncio.create_task(work())
            await reached(inside, task)
            stopping = asyncio.create_task(database.stop())
            await turns(2)
            with raises(PoolClosed, "a statement during the stop"):
                await database.fetch_value("SELECT 1")
            check(not stopping.done(), "the stop waits for a transaction that is open, and did not")
            go_on.set()
            await stopping
            await task
        same(await items.ids(), [1, 2], "ids in the table")


@promise()
async def stop_fails_those_who_wait(subject: Subject) -> None:
    """Who waits for a connection when the pool is stopped gets `PoolClosed` at once.

    Laws: J2.
    """
    async with subject.open(pool={"max_size": 1}) as database:
        async with database.connection():
            waiting = [asyncio.create_task(database.fetch_value("SELECT 1")) for _ in range(3)]
            await turns(5)
            stopping = asyncio.create_task(database.stop())
            done, _ = await asyncio.wait(waiting, timeout=5)
            same(len(done), 3, "waiters that ended when the pool was stopped")
            for task in waiting:
                check(isinstance(task.exception(), PoolClosed), f"PoolClosed was promised, not {task.exception()!r}")
        await stopping


@promise(needs=("endless",))
async def stop_cuts_off_who_never_lets_go(subject: Subject) -> None:
    """After `pool.stop_timeout` a stop drops the connections that are still in use, statements and all.

    Laws: J4.
    """
    pool = {"stop_timeout": 0.1, "reset_timeout": 1.0, "max_size": 2}
    async with subject.open(pool=pool) as database:
        started = asyncio.Event()

        async def hold() -> None:
            async with database.connection() as connection:
                started.set()
                await connection.execute(subject.endless)

        holder = asyncio.create_task(hold(), name="the-holder")
        await reached(started, holder)
        await turns(5)
        stopping = asyncio.create_task(database.stop())
        await asyncio.wait([stopping], timeout=PATIENCE)
        check(stopping.done(), f"a stop is bounded, and this one went on for {PATIENCE:g} s")
        await asyncio.wait([holder], timeout=PATIENCE)
        check(holder.done(), "who was cut off gets an error, and still waits")
        check(isinstance(holder.exception(), DbError), f"a DbError was promised, not {holder.exception()!r}")


@promise()
async def a_raw_checkout_after_stop_is_refused(subject: Subject) -> None:
    """`pool.checkout()` is `PoolClosed` after the stop, and a release that comes late does nothing."""
    database = subject.open(pool={"stop_timeout": 0.1, "max_size": 2})
    await database.start()
    pool = database.pool
    _, release = await pool.checkout()
    _, other = await pool.checkout()
    other()
    await database.stop()
    release()
    with raises(PoolClosed, "a raw checkout after the stop"):
        await pool.checkout()
