"""Transactions: commit on success, roll back on any exception, savepoints inside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import pytest
from databases import Place

import dbcore as db
from dbcore.driver import Isolation
from dbcore.testing import Script, fails, scripted_driver, virtual

INSERT = "INSERT INTO items VALUES ($1, $2)"


async def closed(native: Any) -> None:
    """Close a connection behind the library's back."""
    closing = native.close()
    if closing is not None:  # of some libraries a plain function
        await closing


async def ids(database: db.Database) -> list[int]:
    return [row.id for row in await database.fetch_all("SELECT id FROM items ORDER BY id")]


# -- the outermost -----------------------------------------------------------------------------------------------------


async def test_nobody_else_sees_what_is_not_committed(place: Place) -> None:
    """Laws: O1."""
    async with place.items() as database, database.transaction() as tx:
        await tx.execute(INSERT, [1, "a"])
        with place.outside() as ask:
            assert ask("SELECT count(*) FROM items") == [(0,)]


# -- ended early -------------------------------------------------------------------------------------------------------


async def test_rollback_needs_a_transaction(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        with pytest.raises(db.UsageError, match="no transaction"):
            await connection.rollback()
        async with connection.transaction():
            pass
        with pytest.raises(db.UsageError, match="no transaction"):
            await connection.rollback()


async def test_rollback_is_refused_while_another_task_runs_a_statement(place: Place) -> None:
    """Laws: O9."""
    async with place.items() as database, database.transaction() as tx:
        other = asyncio.create_task(tx.execute(INSERT, [1, "a"]), name="the-other")
        await asyncio.sleep(0)
        with pytest.raises(db.UsageError, match="the-other"):
            await tx.rollback()
        assert await other == 1


async def test_rollback_is_refused_while_a_stream_is_open(place: Place) -> None:
    async with place.items() as database, database.transaction() as tx:
        await tx.execute(INSERT, [1, "a"])
        async with tx.stream("SELECT id FROM items") as rows:
            with pytest.raises(db.UsageError, match="a stream is open"):
                await tx.rollback()
            assert [row.id async for row in rows] == [1]
        await tx.rollback()


async def test_a_transaction_is_entered_once(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        transaction = connection.transaction()
        async with transaction:
            await connection.rollback()
        with pytest.raises(db.UsageError, match=r"call transaction\(\)"):
            async with transaction:
                pass


# -- savepoints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"isolation": "serializable"}, {"read_only": True}])
async def test_a_savepoint_has_no_isolation_of_its_own(place: Place, options: dict[str, Any]) -> None:
    async with place.open() as database, database.transaction() as tx:
        with pytest.raises(db.UsageError, match="outermost"):
            async with tx.transaction(**options):
                pass
        assert await tx.fetch_value("SELECT 1") == 1


async def test_savepoints_left_out_of_order_by_two_tasks_name_both(place: Place) -> None:
    """Laws: O9."""
    outer_open, inner_open, outer_left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def outer(connection: db.Connection[Any]) -> None:
        async with connection.transaction():
            await connection.execute(INSERT, [1, "outer"])
            outer_open.set()
            await inner_open.wait()

    async def inner(connection: db.Connection[Any]) -> None:
        async with connection.transaction():
            await connection.execute(INSERT, [2, "inner"])
            inner_open.set()
            await outer_left.wait()

    async with place.items(pool={"max_size": 1}) as database:
        async with database.connection() as connection:
            first = asyncio.create_task(outer(connection), name="the-outer-task")
            await outer_open.wait()
            second = asyncio.create_task(inner(connection), name="the-inner-task")
            with pytest.raises(db.UsageError, match="last in, first out") as caught:
                await first
            assert "the-outer-task" in str(caught.value)
            assert "the-inner-task" in str(caught.value)
            outer_left.set()
            with pytest.raises(db.UsageError, match="the-inner-task"):
                await second
            with pytest.raises(db.UsageError, match="out of order"):
                await connection.execute(INSERT, [3, "x"])
        assert await ids(database) == []
        assert database.stats().size == 1


# -- doomed ------------------------------------------------------------------------------------------------------------


async def test_a_caught_error_dooms_where_the_database_says_so(place: Place) -> None:
    """Laws: O4."""

    async def work(database: db.Database) -> None:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "a"])
            with pytest.raises(db.ConstraintError):
                await tx.execute(INSERT, [1, "again"])

    async with place.items() as database:
        if place.errors_doom:
            with pytest.raises(db.TransactionError, match="nothing was committed") as caught:
                await work(database)
            assert caught.value.driver == place.driver
        else:
            await work(database)
        assert await ids(database) == ([] if place.errors_doom else [1])
        assert await database.execute(INSERT, [2, "b"]) == 1


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("savepoint", [False, True])
async def test_a_connection_that_is_lost_inside_of_a_block_is_what_its_end_tells(
    place: Place, savepoint: bool, read_only: bool
) -> None:
    async with place.items() as database:
        with pytest.raises(db.DbConnectionError) as caught:
            async with database.transaction(read_only=read_only) as tx:
                await tx.fetch_value("SELECT count(*) FROM items")
                if not read_only:
                    await tx.execute(INSERT, [1, "a"])
                if savepoint:
                    async with tx.transaction():
                        await closed(tx.native)
                else:
                    await closed(tx.native)
        assert caught.value.retryable
        assert not caught.value.outcome_unknown
        assert savepoint or not hasattr(caught.value, "__notes__")
        assert await ids(database) == []


async def test_a_statement_on_a_connection_that_was_lost_inside_of_a_block_says_so(place: Place) -> None:
    async with place.items() as database:
        works: list[Callable[[db.Connection[Any]], Awaitable[object]]] = [
            lambda tx: tx.execute(INSERT, [2, "b"]),
            lambda tx: tx.execute_many(INSERT, [[2, "b"]]),
            lambda tx: tx.insert_many("items", ["id", "name"], [[2, "b"]]),
        ]
        for work in works:
            with pytest.raises(db.DbConnectionError) as caught:
                async with database.transaction() as tx:
                    await tx.execute(INSERT, [1, "a"])
                    await closed(tx.native)
                    await work(tx)
            assert caught.value.retryable
            assert not caught.value.outcome_unknown
        assert await ids(database) == []


async def test_a_stop_that_cuts_a_transaction_off_is_a_lost_connection_to_it(place: Place) -> None:
    async with place.items(pool={"stop_timeout": 0.05}) as database:
        begun, stopped = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "a"])
                begun.set()
                await stopped.wait()

        working = asyncio.create_task(work())
        await begun.wait()
        await database.stop()
        stopped.set()
        with pytest.raises(db.DbConnectionError) as caught:
            await working
        assert not caught.value.outcome_unknown


# -- options -----------------------------------------------------------------------------------------------------------


async def test_an_isolation_that_there_is_not_is_refused_with_those_there_are(place: Place) -> None:
    unknown: Any = "serialisable"
    async with place.open() as database, database.connection() as connection:
        with pytest.raises(db.UsageError, match=r"'serialisable'; there are 'read committed', .*, 'serializable'"):
            async with connection.transaction(unknown):
                pass
        assert not connection.in_transaction


@pytest.mark.parametrize("isolation", get_args(Isolation))
async def test_an_isolation_is_given_or_refused(place: Place, isolation: Isolation) -> None:
    async with place.items() as database:
        if isolation in place.isolations:
            async with database.transaction(isolation) as tx:
                await tx.execute(INSERT, [1, "a"])
            async with database.transaction(isolation=isolation, read_only=True) as tx:
                assert await tx.fetch_value("SELECT count(*) FROM items") == 1
        else:
            with pytest.raises(db.UnsupportedError, match=isolation) as caught:
                async with database.transaction(isolation):
                    pass
            assert caught.value.driver == place.driver
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().in_use == 0


async def test_the_timeout_of_a_transaction_is_that_of_its_checkout(place: Place) -> None:
    async with place.open(pool={"max_size": 1}) as database, database.connection():

        async def another() -> None:
            async with database.transaction(read_only=True, timeout=0.05):
                pass

        with pytest.raises(db.PoolTimeout, match=r"0\.05 s"):
            await asyncio.create_task(another())


# -- to the step, with a driver that does what it is told --------------------------------------------------------------


@virtual
async def test_an_exception_through_both_levels_rolls_back_once_for_each() -> None:
    """Laws: O5."""
    script = Script()
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx, tx.transaction():
                await tx.execute("write")
                raise ZeroDivisionError
    texts = [sql for _, sql, _ in script.statements]
    assert [sql for sql in texts if sql.startswith("ROLLBACK")] == ["ROLLBACK TO SAVEPOINT dbcore_1", "ROLLBACK"]


@virtual
async def test_a_begin_that_fails_leaves_no_transaction_and_gives_the_connection_back() -> None:
    """Laws: O7."""
    script = Script()
    script.query.then(fails(db.QueryError("no transactions today")))
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(db.QueryError, match="no transactions today"):
            async with database.transaction():
                raise AssertionError("its block was entered")
        assert database.stats().in_use == 0
        async with database.connection() as connection:
            assert not connection.in_transaction
            await connection.execute("write")
    assert [sql for _, sql, _ in script.statements][-1] == "write"
