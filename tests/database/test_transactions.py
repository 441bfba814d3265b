"""Transactions: commit on success, roll back on any exception, savepoints inside."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest
from databases import Place

import dbcore as db
from dbcore.driver import Isolation
from dbcore.testing import Script, fails, scripted_driver, virtual

INSERT = "INSERT INTO items VALUES ($1, $2)"


async def ids(database: db.Database) -> list[int]:
    return [row.id for row in await database.fetch_all("SELECT id FROM items ORDER BY id")]


# -- the outermost -----------------------------------------------------------------------------------------------------


async def test_a_transaction_commits_when_its_block_ends(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "a"])
            assert tx.in_transaction
        assert await ids(database) == [1]
        assert database.stats().in_use == 0


async def test_nobody_else_sees_what_is_not_committed(place: Place) -> None:
    """Laws: O1."""
    async with place.items() as database, database.transaction() as tx:
        await tx.execute(INSERT, [1, "a"])
        with place.outside() as ask:
            assert ask("SELECT count(*) FROM items") == [(0,)]


async def test_an_exception_rolls_back_and_goes_through_unchanged(place: Place) -> None:
    """Laws: E14, O6."""
    error = ZeroDivisionError("mine")
    async with place.items() as database:
        with pytest.raises(ZeroDivisionError) as caught:
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "a"])
                raise error
        assert caught.value is error
        assert error.__cause__ is None
        assert not hasattr(error, "__notes__")
        assert await ids(database) == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_what_is_no_exception_rolls_back_too(place: Place, kind: type[BaseException]) -> None:
    """Laws: O6."""
    async with place.items() as database:
        with pytest.raises(kind):
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "a"])
                raise kind
        assert await ids(database) == []


async def test_a_transaction_on_a_connection_is_on_that_connection(place: Place) -> None:
    async with place.items() as database, database.connection() as connection:
        async with connection.transaction() as tx:
            assert tx is connection
            await tx.execute(INSERT, [1, "a"])
        assert not connection.in_transaction
        async with connection.transaction() as tx:
            await tx.execute(INSERT, [2, "b"])
        assert await ids(database) == [1, 2]


async def test_an_empty_transaction_is_none(place: Place) -> None:
    async with place.open() as database:
        async with database.transaction():
            pass
        with pytest.raises(ZeroDivisionError):
            async with database.transaction():
                raise ZeroDivisionError
        assert await database.fetch_value("SELECT 1") == 1


async def test_a_rollback_has_happened_when_the_block_is_left(place: Place) -> None:
    """The next statement, on another connection, meets no lock: 50 times of 50."""
    async with place.items(pool={"max_size": 2}) as database, database.connection() as other:
        for number in range(50):
            with pytest.raises(ZeroDivisionError):
                async with database.transaction() as tx:
                    await tx.execute(INSERT, [number, "rolled back"])
                    raise ZeroDivisionError
            assert await other.execute(INSERT, [number, "kept"], timeout=5) == 1


async def test_several_transactions_run_side_by_side_and_all_are_kept(place: Place) -> None:
    """Laws: O1."""

    async def work(database: db.Database, number: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [number, "a"])
            await tx.execute("UPDATE items SET name = $2 WHERE id = $1", [number, "b"])

    async with place.items() as database:
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(work(database, number))
        assert await ids(database) == list(range(30))


# -- ended early -------------------------------------------------------------------------------------------------------


async def test_rollback_ends_a_transaction_early_without_an_exception(place: Place) -> None:
    """Laws: O2."""
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "a"])
            await tx.rollback()
            assert not tx.in_transaction
        assert await ids(database) == []


async def test_statements_after_rollback_are_refused_until_the_block_is_left(place: Place) -> None:
    """Laws: O2."""
    async with place.items() as database, database.connection() as connection:
        async with connection.transaction() as tx:
            await tx.rollback()
            with pytest.raises(db.UsageError, match="leave the block"):
                await tx.execute(INSERT, [1, "a"])
            with pytest.raises(db.UsageError, match="leave"):
                await tx.rollback()
        assert await connection.execute(INSERT, [2, "b"]) == 1
        assert await ids(database) == [2]


async def test_rollback_of_a_savepoint_keeps_the_rest(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "a"])
            async with tx.transaction() as inner:
                await inner.execute(INSERT, [2, "b"])
                await inner.rollback()
            await tx.execute(INSERT, [3, "c"])
        assert await ids(database) == [1, 3]


async def test_rollback_needs_a_transaction(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        with pytest.raises(db.UsageError, match="no transaction"):
            await connection.rollback()
        async with connection.transaction():
            pass
        with pytest.raises(db.UsageError, match="no transaction"):
            await connection.rollback()


# -- savepoints --------------------------------------------------------------------------------------------------------


async def test_an_exception_in_a_savepoint_keeps_what_was_before_it(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "a"])
            with pytest.raises(ZeroDivisionError):
                async with tx.transaction() as inner:
                    await inner.execute(INSERT, [2, "b"])
                    raise ZeroDivisionError
            await tx.execute(INSERT, [3, "c"])
        assert await ids(database) == [1, 3]


async def test_savepoints_nest_and_each_level_stands_for_itself(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "kept"])
            async with tx.transaction():
                await tx.execute(INSERT, [2, "kept"])
                with pytest.raises(ZeroDivisionError):
                    async with tx.transaction():
                        await tx.execute(INSERT, [3, "undone"])
                        async with tx.transaction():
                            await tx.execute(INSERT, [4, "undone with it"])
                        raise ZeroDivisionError
                async with tx.transaction():
                    await tx.execute(INSERT, [5, "kept"])
        assert await ids(database) == [1, 2, 5]


async def test_the_outer_rollback_takes_the_savepoints_along(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                async with tx.transaction():
                    await tx.execute(INSERT, [1, "a"])
                raise ZeroDivisionError
        assert await ids(database) == []


async def test_a_savepoint_makes_a_failed_statement_harmless(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "a"])
            with pytest.raises(db.ConstraintError):
                async with tx.transaction():
                    await tx.execute(INSERT, [1, "again"])
            await tx.execute(INSERT, [2, "b"])
        assert await ids(database) == [1, 2]


async def test_a_savepoint_as_the_first_thing_of_a_transaction(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            with pytest.raises(ZeroDivisionError):
                async with tx.transaction():
                    raise ZeroDivisionError
            await tx.execute(INSERT, [1, "a"])
        assert await ids(database) == [1]


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


async def test_an_error_that_leaves_the_block_is_not_replaced_by_a_transaction_error(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.ConstraintError):
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "a"])
                await tx.execute(INSERT, [1, "again"])
        assert await ids(database) == []


async def test_a_transaction_that_was_ended_by_text_is_no_success(place: Place) -> None:
    """Laws: O4."""
    async with place.items() as database:
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "a"])
                await tx.execute("ROLLBACK")
        assert await ids(database) == []


async def test_a_commit_that_fails_raises_why_and_keeps_nothing(place: Place) -> None:
    child = "CREATE TABLE child (item INTEGER REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED)"
    async with place.items(pool={"max_size": 1}) as database:
        await database.execute(child)
        with pytest.raises(db.ConstraintError) as caught:
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "a"])
                await tx.execute("INSERT INTO child VALUES (99)")
        assert caught.value.kind == "foreign_key"
        assert not caught.value.outcome_unknown
        assert await ids(database) == []
        assert await database.fetch_value("SELECT count(*) FROM child") == 0
        assert await database.execute(INSERT, [2, "b"]) == 1


# -- options -----------------------------------------------------------------------------------------------------------


async def test_read_only_is_enforced_and_ends_with_the_transaction(place: Place) -> None:
    async with place.items(pool={"max_size": 1}) as database:
        with pytest.raises(db.QueryError):
            async with database.transaction(read_only=True) as tx:
                assert await tx.fetch_value("SELECT count(*) FROM items") == 0
                await tx.execute(INSERT, [1, "a"])
        async with database.transaction(read_only=True) as tx:
            assert await tx.fetch_value("SELECT count(*) FROM items") == 0
        assert await database.execute(INSERT, [2, "b"]) == 1
        async with database.connection() as connection:
            async with connection.transaction(read_only=True):
                pass
            assert await connection.execute(INSERT, [3, "c"]) == 1
        assert await ids(database) == [2, 3]


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


async def test_a_repeatable_transaction_sees_one_state(place: Place) -> None:
    strongest: Isolation = "serializable"
    async with place.items() as database, database.transaction(strongest, read_only=True) as tx:
        assert await tx.fetch_value("SELECT count(*) FROM items") == 0
        await database.execute(INSERT, [1, "a"])
        assert await tx.fetch_value("SELECT count(*) FROM items") == 0


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
