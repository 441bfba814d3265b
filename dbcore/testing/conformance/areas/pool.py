"""The pool: who gets a connection when, and what becomes of one that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dbcore.database import Database
from dbcore.errors import DbConnectionError, DbError, PoolExhausted, PoolTimeout
from dbcore.testing.conformance.checks import Mine, cancelled, check, raises, reached, same, turns, until
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject


async def _all_there(database: Database, size: int) -> None:
    """So many connections can be had at once, each another one, each without a transaction."""
    taken: list[tuple[Any, Any]] = []
    try:
        for _ in range(size):
            try:
                taken.append(await database.pool.checkout(5))
            except PoolTimeout:
                raise AssertionError(f"{size} connections can be had at once, and only {len(taken)} could") from None
        same(len({id(native) for native, _ in taken}), size, "different connections among those that are out")
    finally:
        for _, release in taken:
            release()


# -- checkout and release ----------------------------------------------------------------------------------------------


@promise()
async def never_more_connections_are_out_than_the_pool_is_large(subject: Subject) -> None:
    """`pool.max_size` connections are in use at most, and no two tasks have the same one."""
    out: list[int] = []
    most = 0
    async with subject.open(pool={"max_size": 3}) as database:

        async def work(number: int) -> None:
            nonlocal most
            async with database.connection() as connection:
                check(id(connection.native) not in out, "no two tasks have one connection, and two had")
                out.append(id(connection.native))
                most = max(most, len(out))
                same(await connection.fetch_value(f"SELECT {number}"), number, f"SELECT {number}")
                out.remove(id(connection.native))

        await asyncio.gather(*(work(number) for number in range(40)))
        check(most <= 3, f"no more than 3 connections are in use at once, and {most} were")
        await _all_there(database, 3)


@promise()
async def a_checkout_gives_the_native_connection_and_a_release(subject: Subject) -> None:
    """`pool.checkout()` gives the library's own connection and a plain function that gives it back, once."""
    async with subject.open(pool={"max_size": 2}) as database:
        native, release = await database.pool.checkout()
        async with database.connection() as connection:
            check(type(connection.native) is type(native), "both ways give the same type of connection, and did not")
            check(connection.native is not native, "two connections that are out are two, and were one")
        call: Callable[[], object] = release
        for _ in range(3):
            check(call() is None, "a release returns nothing to wait for, and did")
        await _all_there(database, 2)


@promise()
async def a_second_release_does_not_touch_the_next_holder(subject: Subject) -> None:
    """A release that is called again, after somebody else has the connection, does nothing."""
    async with subject.open(pool={"max_size": 1}) as database:
        _, release = await database.pool.checkout()
        release()
        _, again = await database.pool.checkout()
        release()
        try:
            with raises(PoolTimeout, "a checkout while the only connection is out"):
                await database.pool.checkout(0.05)
        finally:
            again()
        await _all_there(database, 1)


@promise()
async def a_connection_comes_back_on_every_way_out(subject: Subject) -> None:
    """An exception or a cancellation in the block of a connection releases it.

    Laws: E14, K8.
    """
    async with subject.open(pool={"max_size": 1}) as database:
        for kind in (Mine, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
            try:
                async with database.connection() as connection:
                    await connection.fetch_value("SELECT 1")
                    raise kind
            except kind:
                pass
            await _all_there(database, 1)


@promise()
async def first_come_first_served(subject: Subject) -> None:
    """Those who wait for a connection get one in the order in which they came."""
    order: list[int] = []
    async with subject.open(pool={"max_size": 1}) as database:

        async def work(number: int) -> None:
            async with database.connection():
                order.append(number)

        async with database.connection():
            tasks: list[asyncio.Task[None]] = []
            for number in range(8):
                tasks.append(asyncio.create_task(work(number)))
                await turns(3)
        await asyncio.gather(*tasks)
    same(order, list(range(8)), "the order in which those who waited were served")


# -- waiting -----------------------------------------------------------------------------------------------------------


@promise()
async def a_checkout_that_takes_too_long_is_a_pool_timeout(subject: Subject) -> None:
    """Where no connection becomes free in time, a checkout is a `PoolTimeout`, and keeps nothing."""
    async with subject.open(pool={"max_size": 1, "checkout_timeout": 0.1}) as database:

        async def wait(timeout: float | None) -> None:
            async with database.connection(timeout):
                pass

        async with database.connection():
            for timeout in (None, 0.05, 0):
                started = asyncio.get_running_loop().time()
                with raises(PoolTimeout, f"a checkout with timeout={timeout} while the only connection is out") as it:
                    await asyncio.create_task(wait(timeout))
                spent = asyncio.get_running_loop().time() - started
                check(spent < 5, f"timeout={timeout} ends the wait within moments, and it took {spent:.1f} s")
                same((it.error.driver, it.error.retryable), (subject.vtable.name, True), "driver and retryable")
        await _all_there(database, 1)


@promise()
async def the_timeout_of_a_transaction_is_that_of_its_checkout(subject: Subject) -> None:
    """`transaction(timeout=...)` bounds the wait for the connection."""
    async with subject.open(pool={"max_size": 1}) as database:

        async def wait() -> None:
            async with database.transaction(timeout=0.05):
                pass

        async with database.connection():
            with raises(PoolTimeout, "a transaction while the only connection is out"):
                await asyncio.create_task(wait())
        await _all_there(database, 1)


@promise()
async def a_cancelled_checkout_keeps_nothing_and_loses_nothing(subject: Subject) -> None:
    """Those who wait may be cancelled at any moment, also while a connection is on its way to them."""
    async with subject.open(pool={"max_size": 2}) as database:

        async def take() -> None:
            async with database.connection() as connection:
                await connection.fetch_value("SELECT 1")

        for after in range(25):
            async with database.connection(), database.connection():
                tasks = [asyncio.create_task(take()) for _ in range(3)]
                await turns(2)
            await turns(after)
            for task in tasks[:2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await cancelled(take(), after)
        await _all_there(database, 2)


@promise()
async def a_cancelled_first_checkout_leaves_a_pool_that_works(subject: Subject) -> None:
    """A checkout that is cancelled while its connection is being made costs the pool nothing."""
    for after in (0, 1, 2, 3, 5, 8, 13, 30):
        async with subject.open(startup="lazy", pool={"min_size": 0, "max_size": 1}) as database:
            await cancelled(database.fetch_value("SELECT 1"), after)
            same(await database.fetch_value("SELECT 2"), 2, "SELECT 2 of the next")
            await _all_there(database, 1)


@promise()
async def max_waiting_turns_away_who_comes_too_much(subject: Subject) -> None:
    """With `pool.max_waiting` reached one more checkout is `PoolExhausted` at once."""
    async with subject.open(pool={"max_size": 1, "max_waiting": 1}) as database:

        async def take() -> None:
            async with database.connection():
                pass

        async with database.connection():
            waiting = asyncio.create_task(take())
            await turns(3)
            with raises(PoolExhausted, "one more than may wait"):
                await asyncio.create_task(take())
        await waiting


# -- connections that are lost -----------------------------------------------------------------------------------------


@promise(needs=("fatal",))
async def a_connection_that_was_lost_is_an_error_and_is_replaced(subject: Subject) -> None:
    """A connection that the server has ended is a `DbConnectionError`, and the next checkout gets another one."""
    async with subject.open(pool={"max_size": 1}) as database:
        for _ in range(3):
            async with database.connection() as connection:
                with raises(DbConnectionError, "a statement whose connection is ended"):
                    await connection.execute(subject.fatal or "")
                with raises(DbError, "a statement on a connection that was lost"):
                    await connection.fetch_value("SELECT 1")
            same(await database.fetch_value("SELECT 1"), 1, "SELECT 1 of the next holder")


@promise(needs=("fatal",))
async def a_transaction_whose_connection_was_lost_is_no_success(subject: Subject) -> None:
    """A connection that is lost inside of a transaction is an error of its block, and nothing was committed."""
    async with subject.items(pool={"max_size": 1}) as items:
        with raises(DbError, "a transaction whose connection is ended"):
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [1, "a"])
                with raises(DbConnectionError, "a statement whose connection is ended"):
                    await tx.execute(subject.fatal or "")
        same(await items.ids(), [], "ids in the table")


# -- what a pool tells -------------------------------------------------------------------------------------------------


@promise(needs=("stats",))
async def statistics_add_up(subject: Subject) -> None:
    """`stats()` counts connections by what they do at this moment, and those who wait."""
    async with subject.open(pool={"min_size": 2, "max_size": 2}) as database:

        async def take() -> None:
            async with database.connection():
                pass

        async with database.connection(), database.connection():
            waiting = asyncio.create_task(take())
            await until(lambda: database.stats().waiting == 1, "who waits is counted")
            stats = database.stats()
            same((stats.size, stats.in_use, stats.idle, stats.max_size), (2, 2, 0, 2), "size, in use, idle, max_size")
        await waiting
        await until(lambda: database.stats().idle == 2, "what was released is idle")
        stats = database.stats()
        parts = stats.idle + stats.in_use + stats.connecting + stats.resetting + stats.closing
        same((stats.size, stats.waiting), (parts, 0), "size as the sum of its parts, and those who wait")
        check(stats.checkouts >= 3, f"every checkout is counted, and {stats.checkouts} of 3 were")
    same(database.stats().size, 0, "connections after the stop")


@promise(needs=("holders",))
async def holders_are_named(subject: Subject) -> None:
    """`holders()` names the task and the place of each checkout, and whether a transaction is open."""
    async with subject.open(pool={"max_size": 2}) as database:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with database.connection():
                entered.set()
                await leave.wait()

        task = asyncio.create_task(hold(), name="the-holder")
        await reached(entered, task)
        (holder,) = database.holders()
        same((holder.task, holder.in_transaction), ("the-holder", False), "task and in_transaction of the holder")
        check(".py:" in holder.site, f"the place of the checkout is named, and was {holder.site!r}")
        leave.set()
        await task
        same(database.holders(), (), "holders when nobody has a connection")


@promise(needs=("drain",))
async def drain_replaces_every_connection(subject: Subject) -> None:
    """`drain()` retires what is idle now, and what is in use when it comes back; the pool stays open.

    Laws: J12.
    """
    async with subject.open(pool={"min_size": 0, "max_size": 2}) as database:
        async with database.connection() as held, database.connection() as other:
            same(await other.fetch_value("SELECT 1"), 1, "SELECT 1")
            before = held.native, other.native  # kept, so that no other object gets their place in memory
            await database.drain()
            same(await held.fetch_value("SELECT 1"), 1, "SELECT 1 of who has a connection")
        async with database.connection() as held, database.connection() as other:
            after = held.native, other.native
            check(not {*map(id, before)} & {*map(id, after)}, "after drain() every connection is new, and one was not")
            same(await other.fetch_value("SELECT 1"), 1, "SELECT 1 after drain()")
