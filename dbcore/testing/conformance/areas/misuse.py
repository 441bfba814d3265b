"""Use that cannot work is refused with an error that holds the cure, and harms nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dbcore.database import Database
from dbcore.errors import PoolClosed, UsageError
from dbcore.testing.conformance.checks import check, raises, same, turns
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject


async def _connect(database: Database) -> None:
    async with database.connection():
        pass


async def _transact(database: Database) -> None:
    async with database.transaction():
        pass


USES: dict[str, Callable[[Database], Awaitable[Any]]] = {
    "connection": _connect,
    "transaction": _transact,
    "execute": lambda database: database.execute("SELECT 1"),
    "execute_many": lambda database: database.execute_many("SELECT $1", [(1,)]),
    "batch": lambda database: database.batch([("SELECT 1", ())]),
    "insert_many": lambda database: database.insert_many("nowhere", ["id"], [(1,)]),
}


@promise()
async def after_stop_everything_is_refused_as_closed(subject: Subject) -> None:
    """After the stop every use is `PoolClosed`.

    Laws: J1.
    """
    async with subject.open() as database:
        pass
    for what, use in USES.items():
        with raises(PoolClosed, f"{what} after the stop") as caught:
            await use(database)
        same(caught.error.driver, subject.vtable.name, "the driver that the error names")


@promise()
async def a_released_connection_is_refused_and_touches_nobody(subject: Subject) -> None:
    """A connection that is used after its release is a `UsageError`; who has it now notices nothing.

    Laws: K5, K7.
    """
    async with subject.open(pool={"max_size": 1}) as database:
        async with database.connection() as stale:
            pass
        async with database.transaction() as tx:
            with raises(UsageError, "a statement on a released connection"):
                await stale.execute("ROLLBACK")
            with raises(UsageError, "rollback() on a released connection"):
                await stale.rollback()
            check(tx.in_transaction, "the transaction of the next holder is open still, and was not")
            same(await tx.fetch_value("SELECT 1"), 1, "SELECT 1 of the next holder")


@promise(needs=("endless",))
async def two_tasks_on_one_connection_are_refused(subject: Subject) -> None:
    """A second task is a `UsageError` while a statement runs, and the statement goes on.

    Laws: O9.
    """
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        first = asyncio.create_task(connection.execute(subject.endless), name="the-first")
        await turns(2)
        with raises(UsageError, "a second statement at the same time") as caught:
            await connection.execute("SELECT 1")
        check("the-first" in str(caught.error), f"the error names who runs the statement, and says: {caught.error}")
        check(not first.done(), "the statement that ran goes on, and did not")
        first.cancel()
        await asyncio.wait([first])
        same(await connection.fetch_value("SELECT 1", timeout=10), 1, "SELECT 1 after that")


@promise()
async def another_event_loop_is_refused_and_harms_nothing(subject: Subject) -> None:
    """Use from another event loop than that of the start is a `UsageError`; the database goes on.

    Laws: M3.
    """
    async with subject.open(pool={"max_size": 1}) as database:
        for what, use in USES.items():
            error = await _in_another_loop(partial(use, database))
            check(isinstance(error, UsageError), f"{what} in another loop: UsageError was promised, not {error!r}")
        same(await database.fetch_value("SELECT 1"), 1, "SELECT 1 after that")


async def _in_another_loop(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    raised: list[BaseException] = []

    async def main() -> None:
        await work()

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    await asyncio.to_thread(thread.join)
    return raised[0] if raised else None
