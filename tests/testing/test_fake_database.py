"""The fake database: answers as scripted, and everything else as a real one."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import Any
from unittest.mock import ANY

import pytest

import dbcore as db
from dbcore.testing import FakeDatabase, UnexpectedStatement, virtual

SELECT = "SELECT id, email FROM users WHERE id = $1"
INSERT = "INSERT INTO users (id, email) VALUES ($1, $2)"
ADA = {"id": 1, "email": "ada@example.org"}


@dataclass
class User:
    id: int
    email: str


async def test_one_that_is_forgotten_is_reported_by_the_line_that_made_it(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeDatabase()
    await fake.start()
    fake._warn()
    await fake.stop()
    assert f"opened at {__file__}:" in caplog.text


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_it_is_a_database_and_answers_as_scripted() -> None:
    fake = FakeDatabase(driver="postgres")
    fake.on(SELECT, [1]).returns([ADA])
    async with fake as database:
        assert isinstance(database, db.Database)
        assert database.driver == "postgres"
        row = await database.fetch_one(SELECT, [1])
        assert row.email == "ada@example.org"
        assert row == (1, "ada@example.org")
        assert await database.fetch_all(SELECT, [1], into=User) == [User(1, "ada@example.org")]
        assert (await database.server_info()).version == "fake"


async def test_it_has_to_be_started_as_any_other() -> None:
    with pytest.raises(db.UsageError, match="not started"):
        await FakeDatabase().fetch_value("SELECT 1")


async def test_errors_of_the_core_are_the_real_ones() -> None:
    async with FakeDatabase() as database:
        database.on("SELECT none")
        database.on("SELECT two").returns([(1,), (2,)], columns=["id"])
        with pytest.raises(db.NotFound):
            await database.fetch_one("SELECT none")
        with pytest.raises(db.TooManyRows):
            await database.fetch_optional("SELECT two")
        with pytest.raises(db.DecodeError):
            await database.fetch_all("SELECT two", into=User)
        with pytest.raises(db.QueryError, match=r"no parameter for \$1"):
            await database.execute("DELETE FROM users WHERE id = $1")
        assert [call.sql for call in database.calls] == ["SELECT none", "SELECT two", "SELECT two"]


async def test_spaces_comments_case_and_the_kind_of_placeholder_make_no_difference() -> None:
    async with FakeDatabase() as database:
        database.on("select id from Users\n  where id = :id -- by key", {"id": 7}).returns([{"id": 7}])
        assert await database.fetch_value('SELECT id FROM "users" WHERE id = $1;', [7]) == 7
        with pytest.raises(UnexpectedStatement):
            await database.fetch_value("SELECT id FROM users WHERE id = 'A'")


async def test_literals_make_a_difference() -> None:
    async with FakeDatabase() as database:
        database.on("SELECT 'a  b'").returns([{"x": 1}])
        with pytest.raises(UnexpectedStatement):
            await database.fetch_value("SELECT 'A  B'")
        with pytest.raises(UnexpectedStatement):
            await database.fetch_value("SELECT 'a b'")


async def test_a_line_is_for_its_parameters() -> None:
    async with FakeDatabase() as database:
        database.on(INSERT, [1, ANY]).affects(1)
        database.on(INSERT).affects(2)
        assert await database.execute(INSERT, [1, "anything"]) == 1
        assert await database.execute(INSERT, [2, "anything"]) == 2


async def test_a_pattern_or_a_function_finds_statements_too() -> None:
    def is_delete(sql: str, params: object) -> bool:
        return sql.startswith("DELETE") and params == [3]

    async with FakeDatabase() as database:
        database.on(re.compile(r"^SELECT .* FROM users\b"), [1]).returns([ADA])
        database.on(is_delete).affects(1)
        assert await database.fetch_value("SELECT id\nFROM users WHERE id = :id", {"id": 1}) == 1
        assert await database.execute("DELETE FROM users WHERE id = $1", [3]) == 1
        with pytest.raises(UnexpectedStatement):
            await database.execute("DELETE FROM users WHERE id = $1", [4])
    with pytest.raises(db.QueryError, match="by name"):
        database.on(re.compile("x"), {"id": 1})


async def test_answers_come_one_after_the_other_and_the_last_one_stays() -> None:
    async with FakeDatabase() as database:
        database.on("SELECT n").returns([{"n": 1}]).returns([{"n": 2}])
        assert [await database.fetch_value("SELECT n") for _ in range(4)] == [1, 2, 2, 2]


async def test_a_line_is_used_as_often_as_it_may_be() -> None:
    async with FakeDatabase() as database:
        database.on("SELECT n").returns([{"n": 1}]).once()
        database.on("SELECT n").returns([{"n": 2}]).times(2)
        assert [await database.fetch_value("SELECT n") for _ in range(3)] == [1, 2, 2]
        with pytest.raises(UnexpectedStatement, match="used 1 times, which is all"):
            await database.fetch_value("SELECT n")
    with pytest.raises(ValueError, match="1 or more"):
        database.on("SELECT n").times(0)


async def test_rows_that_do_not_fit_together_are_refused_when_they_are_scripted() -> None:
    database = FakeDatabase()
    with pytest.raises(db.QueryError, match="every row needs"):
        database.on("SELECT 1").returns([{"a": 1}, {"b": 1}])
    with pytest.raises(db.QueryError, match="need the names"):
        database.on("SELECT 1").returns([(1,)])
    with pytest.raises(db.QueryError, match="2 columns"):
        database.on("SELECT 1").returns([(1,)], columns=["a", "b"])


async def test_the_methods_for_several_rows_are_one_call_each() -> None:
    async with FakeDatabase() as database:
        database.on(INSERT).times(2)
        database.on("DELETE FROM users; DELETE FROM orders;")
        database.on("SELECT id FROM users").returns([{"id": n} for n in range(5)])
        assert await database.execute_many(INSERT, [[1, "a"], [2, "b"]]) == 2
        assert await database.insert_many("users", ["id", "email"], [(3, "c")]) == 1
        await database.execute_script("DELETE FROM users; DELETE FROM orders;")
        async with database.stream("SELECT id FROM users", into=int, batch_size=2) as rows:
            assert [row async for row in rows] == [0, 1, 2, 3, 4]
        (one,) = await database.batch([("SELECT id FROM users", [])])
        assert one.count == 5
        assert database.calls_of(INSERT, [[1, "a"], [2, "b"]]) == database.calls[:1]
        assert database.calls[1].params == [(3, "c")]
        database.assert_done()


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_an_error_is_raised_anew_each_time_as_a_driver_raises_it() -> None:
    error = db.ConstraintError("taken", kind="unique", constraint="users_email_key")
    async with FakeDatabase() as database:
        database.on(INSERT).raises(error)
        caught: list[db.ConstraintError] = []
        for _ in range(2):
            with pytest.raises(db.ConstraintError) as info:
                await database.execute(INSERT, [1, "ada"])
            caught.append(info.value)
        assert caught[0] is not caught[1]
        assert error.sql is None
        assert (caught[0].kind, caught[0].constraint, caught[0].sql) == ("unique", "users_email_key", INSERT)
        assert caught[0].driver == "fake"
        assert caught[0].__cause__ is not None


async def test_an_error_that_is_not_ours_comes_as_it_is() -> None:
    async with FakeDatabase() as database:
        database.on("SELECT 1").raises(OSError("disk"))
        with pytest.raises(OSError, match="disk"):
            await database.fetch_value("SELECT 1")


@virtual
async def test_a_statement_that_hangs_is_ended_by_its_timeout() -> None:
    async with FakeDatabase(statement_timeout=30) as database:
        database.on("SELECT 1").hangs().returns([{"x": 1}])
        with pytest.raises(db.QueryTimeout):
            await database.fetch_value("SELECT 1")
        assert asyncio.get_running_loop().time() == 30
        assert await database.fetch_value("SELECT 1") == 1


@virtual
async def test_a_statement_takes_its_time() -> None:
    async with FakeDatabase(pool={"max_size": 1}) as database:
        database.on("SELECT 1").takes(10).returns([{"x": 1}])
        await asyncio.gather(*[database.fetch_value("SELECT 1") for _ in range(3)])
        assert asyncio.get_running_loop().time() == 30


async def test_a_connection_that_is_lost_is_replaced() -> None:
    async with FakeDatabase(pool={"max_size": 1}) as database:
        database.on("SELECT 1").raises(db.DbConnectionError("gone")).returns([{"x": 1}])
        with pytest.raises(db.DbConnectionError):
            await database.fetch_value("SELECT 1")
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().connects == 2


async def test_an_exhausted_pool_fails_at_once_and_only_as_long_as_it_is() -> None:
    async with FakeDatabase(pool={"max_size": 2}) as database:
        database.on("SELECT 1").returns([{"x": 1}])
        with database.pool_exhausted():
            with pytest.raises(db.PoolTimeout) as caught:
                await database.fetch_value("SELECT 1")
            assert caught.value.reason == "exhausted"
            assert caught.value.stats is not None
            with pytest.raises(db.PoolError):
                async with database.transaction():
                    pass
            with pytest.raises(db.PoolTimeout):
                await database.pool.checkout()
        assert await database.fetch_value("SELECT 1") == 1
        exhausted = database.pool_exhausted()
        with pytest.raises(db.PoolTimeout):
            await database.fetch_value("SELECT 1")
        exhausted.end()
        assert await database.fetch_value("SELECT 1") == 1


@virtual
async def test_the_pool_is_a_real_one() -> None:
    async with FakeDatabase(pool={"max_size": 1, "checkout_timeout": 5}) as database:

        async def other() -> None:
            async with database.connection():
                raise AssertionError("it is held")

        async with database.connection():
            with pytest.raises(db.PoolTimeout, match=r"test_fake_database\.py"):
                await asyncio.create_task(other())
            with pytest.raises(db.PoolDeadlock):
                await other()
        assert asyncio.get_running_loop().time() == 5


@virtual
async def test_a_database_that_is_away_comes_back() -> None:
    async with FakeDatabase(pool={"checkout_timeout": 5}) as database:
        database.on("SELECT 1").returns([{"x": 1}])
        with database.unreachable(), pytest.raises((db.DbConnectionError, db.PoolTimeout)):
            await database.fetch_value("SELECT 1")
        assert await database.fetch_value("SELECT 1") == 1
        with database.unreachable(db.DbConnectionError("wrong password")), pytest.raises(db.DbConnectionError):
            for _ in range(3):
                await database.fetch_value("SELECT 1")


@virtual
async def test_a_statement_needs_no_line_where_the_database_is_away() -> None:
    async with FakeDatabase(pool={"checkout_timeout": 5}) as database:
        with database.unreachable():
            for _ in range(3):
                with pytest.raises((db.DbConnectionError, db.PoolTimeout)):
                    await database.fetch_value("SELECT 1")
        database.assert_done()


# -- transactions ------------------------------------------------------------------------------------------------------


async def test_it_remembers_what_was_committed_and_what_was_rolled_back() -> None:
    async with FakeDatabase() as database:
        database.on(re.compile("^INSERT"))
        await database.execute(INSERT, [1, "alone"])
        async with database.transaction("serializable") as tx:
            await tx.execute(INSERT, [2, "committed"])
            with pytest.raises(KeyError):
                async with tx.transaction():
                    await tx.execute(INSERT, [3, "to a savepoint"])
                    raise KeyError
            async with tx.transaction():
                await tx.execute(INSERT, [4, "of a savepoint"])
            assert database.calls[-1].outcome == "open"
        with pytest.raises(KeyError):
            async with database.transaction():
                await tx_insert(database)
                raise KeyError
        outcomes = [call.outcome for call in database.calls]
        assert outcomes == ["committed", "committed", "rolled back", "committed", "committed"]
        first, second = database.transactions
        assert (first.isolation, first.read_only, first.outcome) == ("serializable", False, "committed")
        assert second.outcome == "rolled back"
        assert [call.transaction for call in database.calls] == [None, first, first, first, None]


async def tx_insert(database: db.Database) -> None:
    await database.execute(INSERT, [5, "beside the transaction"])


async def test_an_error_dooms_the_transaction_as_on_a_server() -> None:
    async with FakeDatabase() as database:
        database.on(INSERT).raises(db.ConstraintError(kind="unique"))
        database.on("SELECT 1").returns([{"x": 1}])
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                with pytest.raises(db.ConstraintError):
                    await tx.execute(INSERT, [1, "ada"])
                with pytest.raises(db.QueryError) as caught:
                    await tx.fetch_value("SELECT 1")
                assert caught.value.sqlstate == "25P02"
        async with database.transaction() as tx:
            with pytest.raises(db.ConstraintError):
                async with tx.transaction():
                    await tx.execute(INSERT, [1, "ada"])
            assert await tx.fetch_value("SELECT 1") == 1
        assert [transaction.outcome for transaction in database.transactions] == ["rolled back", "committed"]


async def test_an_error_dooms_nothing_where_it_does_not() -> None:
    async with FakeDatabase(errors_doom=False) as database:
        database.on(INSERT).raises(db.ConstraintError(kind="unique"))
        async with database.transaction() as tx:
            with pytest.raises(db.ConstraintError):
                await tx.execute(INSERT, [1, "ada"])
        assert database.transactions[0].outcome == "committed"


@virtual
async def test_a_transaction_that_conflicts_is_tried_again() -> None:
    async def work(tx: db.Connection[Any]) -> int:
        return await tx.execute(INSERT, [1, "ada"])

    async with FakeDatabase() as database:
        database.on(INSERT).raises(db.ConflictError(retryable=True)).affects(1)
        assert await database.run_transaction(work) == 1
        assert [transaction.outcome for transaction in database.transactions] == ["rolled back", "committed"]
        database.assert_done()


async def test_a_commit_may_fail() -> None:
    async with FakeDatabase() as database:
        database.on(INSERT)
        database.on("COMMIT").raises(db.DbConnectionError("lost", outcome_unknown=True))
        with pytest.raises(db.DbConnectionError) as caught:
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "ada"])
        assert caught.value.outcome_unknown
        database.assert_done()


@virtual
async def test_a_transaction_that_is_cancelled_is_rolled_back() -> None:
    async with FakeDatabase() as database:
        database.on(INSERT)
        database.on("SELECT 1").hangs()

        async def work() -> None:
            async with database.transaction() as tx:
                await tx.execute(INSERT, [1, "ada"])
                await tx.fetch_value("SELECT 1")

        task = asyncio.create_task(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [call.outcome for call in database.calls] == ["rolled back", "rolled back"]
        assert isinstance(database.calls[1].error, asyncio.CancelledError)


# -- what was not expected ---------------------------------------------------------------------------------------------


async def test_an_unexpected_statement_names_the_nearest_line() -> None:
    async with FakeDatabase() as database:
        with pytest.raises(UnexpectedStatement, match="script is empty"):
            await database.fetch_value("SELECT 1")
        database.on("SELECT name FROM users")
        database.on("DELETE FROM orders WHERE id = $1", [1])
        with pytest.raises(UnexpectedStatement, match=r"nearest .* SELECT name FROM users$"):
            await database.fetch_value("SELECT names FROM users")
        with pytest.raises(UnexpectedStatement, match=r"with \[2\]\. .*other parameters: DELETE .* with \[1\]$"):
            await database.execute("DELETE FROM orders WHERE id = $1", [2])


async def test_an_unexpected_statement_that_the_program_swallows_is_told_in_the_end() -> None:
    async with FakeDatabase() as database:
        with contextlib.suppress(Exception):
            await database.fetch_value("SELECT 1")
        with pytest.raises(AssertionError, match="unexpected statement: SELECT 1"):
            database.assert_done()


async def test_a_line_that_was_never_used_is_told_in_the_end() -> None:
    async with FakeDatabase() as database:
        database.on("SELECT 1")
        database.on("SELECT 2").times(2)
        database.on("SELECT 3").returns([]).returns([])
        for sql in ("SELECT 2", "SELECT 3"):
            await database.execute(sql)
        with pytest.raises(AssertionError) as caught:
            database.assert_done()
        assert [line.partition(": ")[2] for line in str(caught.value).splitlines()] == [
            "SELECT 1 (came 0 times of 1)",
            "SELECT 2 (came 1 times of 2)",
            "SELECT 3 (came 1 times of 2)",
        ]


async def test_in_order_means_in_order() -> None:
    async with FakeDatabase(in_order=True) as database:
        database.on("SELECT 1").times(2)
        database.on("SELECT 2")
        await database.execute("SELECT 1")
        with pytest.raises(UnexpectedStatement, match="next one in order is: SELECT 1"):
            await database.execute("SELECT 2")
        await database.execute("SELECT 1")
        await database.execute("SELECT 2")
        with pytest.raises(UnexpectedStatement, match="which is all"):
            await database.execute("SELECT 2")
