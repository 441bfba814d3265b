"""One statement, or several at once."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbcore_sqlite import Connection
from dbcore_sqlite.bulk import insert_many
from dbcore_sqlite.errors import to_error
from dbcore_sqlite.statements import batch, execute_many, script
from dbcore_sqlite.streams import stream
from dbcore_sqlite.transactions import commit, rollback, transaction_status
from sqlite_pools import begin_write, count, numbers, one_connection, run, value

from dbcore.errors import ConstraintError, QueryError, TransactionError
from dbcore.statements import row_shape


async def test_a_query_gives_columns_rows_and_their_number(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        result = await run(connection, "SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'")
        assert (result.columns, list(result.rows), result.count) == (("a", "b"), [(1, "x"), (2, "y")], 2)


async def test_columns_are_named_where_no_row_is_found(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        result = await run(connection, "SELECT 1 AS a WHERE 0")
        assert (result.columns, list(result.rows), result.count) == (("a",), [], 0)


async def test_the_count_is_of_rows_affected(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        assert (await run(connection, "CREATE TABLE numbers (n INTEGER)")).count == 0
        assert (await run(connection, "INSERT INTO numbers VALUES (1), (2), (3)")).count == 3
        assert (await run(connection, "UPDATE numbers SET n = n + 1 WHERE n > ?", 1)).count == 2
        returned = await run(connection, "DELETE FROM numbers WHERE n > ? RETURNING n", 1)
        assert (returned.columns, sorted(returned.rows), returned.count) == (("n",), [(3,), (4,)], 2)


async def test_the_count_of_a_write_behind_with_is_right(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        result = await run(connection, "WITH two(i) AS (VALUES (1), (2)) INSERT INTO numbers SELECT i FROM two")
        assert (result.rows, result.count) == ([], 2)


async def test_a_write_behind_a_byte_order_mark_is_counted(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        assert (await run(connection, "\ufeffINSERT INTO numbers VALUES (1), (2)")).count == 2
        assert await execute_many(connection, "\ufeffINSERT INTO numbers VALUES (?)", [(3,), (4,)]) == 2


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {cursor.description[0][0]: row[0]}


async def test_a_row_factory_that_was_set_through_native_makes_no_rows_of_ours(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await run(connection, "INSERT INTO numbers VALUES (7)")
        connection.native.row_factory = as_dict
        assert (await run(connection, "SELECT n FROM numbers")).rows == [(7,)]
        assert [batch.rows async for batch in stream(connection, "SELECT n FROM numbers", (), 1)] == [[(7,)]]
        insert = "WITH x AS (SELECT 1) INSERT INTO numbers SELECT * FROM x"
        assert (await run(connection, insert)).count == 1


async def test_rows_are_made_at_once_as_users_get_them(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        result = await run(connection, "SELECT 1 AS one, 2 AS two")
        assert type(result.rows[0]) is row_shape(("one", "two"))


async def test_a_batch_gives_a_result_for_each_statement(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        results = await batch(
            connection, [("INSERT INTO numbers VALUES (?), (?)", (1, 2)), ("SELECT n FROM numbers ORDER BY n", ())]
        )
        assert [(list(result.rows), result.count) for result in results] == [([], 2), ([(1,), (2,)], 2)]


async def test_a_batch_is_all_or_nothing(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        with pytest.raises(Exception, match="no such table"):
            await batch(connection, [("INSERT INTO numbers VALUES (1)", ()), ("INSERT INTO nowhere VALUES (1)", ())])
        assert await count(connection) == 0


async def test_execute_many_is_all_or_nothing(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE numbers (n INTEGER UNIQUE)")
        assert await execute_many(connection, "INSERT INTO numbers VALUES (?)", [(1,), (2,)]) == 2
        with pytest.raises(Exception, match="UNIQUE"):
            await execute_many(connection, "INSERT INTO numbers VALUES (?)", [(3,), (1,)])
        assert await count(connection) == 2


async def test_execute_many_takes_statements_that_return_rows(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        assert await execute_many(connection, "INSERT INTO numbers VALUES (?) RETURNING n", [(1,), (2,)]) == 2
        insert = "WITH x AS (SELECT ? AS n) INSERT INTO numbers SELECT n FROM x"
        assert await execute_many(connection, insert, [(3,)]) == 1
        assert await count(connection) == 3


async def test_several_statements_that_fail_inside_doom_the_transaction(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE numbers (n INTEGER UNIQUE)")
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        with pytest.raises(Exception, match="UNIQUE"):
            await execute_many(connection, "INSERT INTO numbers VALUES (?)", [(2,), (1,)])
        assert transaction_status(connection) == "failed"
        with pytest.raises(TransactionError, match="roll it back"):
            await run(connection, "SELECT 1")
        with pytest.raises(TransactionError, match="nothing was committed"):
            await commit(connection)
        await rollback(connection)
        assert await count(connection) == 0


async def test_a_savepoint_heals_what_failed_behind_it(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE numbers (n INTEGER UNIQUE)")
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        await run(connection, "SAVEPOINT s")
        with pytest.raises(Exception, match="UNIQUE"):
            await execute_many(connection, "INSERT INTO numbers VALUES (?)", [(2,), (1,)])
        await run(connection, "ROLLBACK TO SAVEPOINT s")
        await run(connection, "RELEASE SAVEPOINT s")
        await commit(connection)
        assert await count(connection) == 1


async def fail_execute_many(connection: Connection) -> None:
    await execute_many(connection, "INSERT INTO numbers VALUES (?)", [(2,), (3,), (1,)])


async def fail_batch(connection: Connection) -> None:
    await batch(connection, [("INSERT INTO numbers VALUES (2)", ()), ("INSERT INTO numbers VALUES (1)", ())])


async def fail_script(connection: Connection) -> None:
    await script(connection, "INSERT INTO numbers VALUES (2); INSERT INTO numbers VALUES (1)")


async def fail_insert_many(connection: Connection) -> None:
    await insert_many(connection, ("numbers",), ["n"], ((1 if n == 6000 else n,) for n in range(2, 7000)))


@pytest.mark.parametrize("begin_text", ["BEGIN", "SAVEPOINT s"])
@pytest.mark.parametrize("fail", [fail_execute_many, fail_batch, fail_script, fail_insert_many])
async def test_several_statements_are_all_or_nothing_in_a_transaction_of_text(
    tmp_path: Path, begin_text: str, fail: Callable[[Connection], Awaitable[None]]
) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE numbers (n INTEGER UNIQUE)")
        await run(connection, begin_text)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        with pytest.raises(Exception, match="UNIQUE"):
            await fail(connection)
        await run(connection, "INSERT INTO numbers VALUES (9)")
        await run(connection, "COMMIT")
        assert await value(connection, "SELECT group_concat(n) FROM numbers") == "1,9"


async def test_a_batch_may_end_a_transaction_of_text(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await run(connection, "BEGIN")
        await batch(connection, [("INSERT INTO numbers VALUES (1)", ()), ("COMMIT", ())])
        assert (connection.inside, await count(connection)) == (False, 1)


async def test_a_script_is_all_or_nothing(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await script(connection, "CREATE TABLE numbers (n INTEGER); INSERT INTO numbers VALUES (1); -- the end")
        with pytest.raises(Exception, match="no such table"):
            await script(connection, "INSERT INTO numbers VALUES (2); INSERT INTO nowhere VALUES (1);")
        assert await count(connection) == 1


async def test_a_script_may_hold_triggers_and_strings_with_semicolons(tmp_path: Path) -> None:
    text = """
    CREATE TABLE numbers (n INTEGER);
    CREATE TABLE log (said TEXT);
    CREATE TRIGGER told AFTER INSERT ON numbers BEGIN
        INSERT INTO log VALUES ('a;b');
        INSERT INTO log VALUES (CASE WHEN new.n > 1 THEN 'many' ELSE 'few' END);
    END;
    INSERT INTO numbers VALUES (1)
    """
    async with one_connection(tmp_path) as connection:
        await script(connection, text)
        assert (await run(connection, "SELECT said FROM log")).rows == [("a;b",), ("few",)]


async def test_a_script_with_transaction_statements_of_its_own_rules_itself(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        with pytest.raises(Exception, match="no such table"):
            await script(connection, "BEGIN; INSERT INTO numbers VALUES (1); COMMIT; INSERT INTO nowhere VALUES (1)")
        assert await count(connection) == 1
        assert connection.lane.owner is None


async def test_a_script_with_a_commit_is_refused_inside_a_transaction(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        with pytest.raises(QueryError, match="outside of a transaction"):
            await script(connection, "INSERT INTO numbers VALUES (1); COMMIT")
        await rollback(connection)
        assert await count(connection) == 0


@pytest.mark.parametrize("size", [0, 1, 5000, 5001, 12345])
async def test_insert_many_loads_every_row(tmp_path: Path, size: int) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        assert await insert_many(connection, ("numbers",), ["n"], ((i,) for i in range(size))) == size
        assert await value(connection, "SELECT coalesce(sum(n), 0) FROM numbers") == sum(range(size))
        assert connection.lane.owner is None


async def test_insert_many_takes_an_async_iterable(tmp_path: Path) -> None:
    async def rows() -> AsyncIterator[tuple[int]]:
        for i in range(6000):
            yield (i,)

    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        assert await insert_many(connection, ("main", "numbers"), ["n"], rows()) == 6000
        assert await count(connection) == 6000


@pytest.mark.parametrize("bad", [1, 5500, 11999])
async def test_insert_many_is_all_or_nothing(tmp_path: Path, bad: int) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE numbers (n INTEGER NOT NULL)")
        with pytest.raises(Exception, match="NOT NULL"):
            await insert_many(connection, ("numbers",), ["n"], ((None if i == bad else i,) for i in range(12000)))
        assert await count(connection) == 0
        assert connection.lane.owner is None


async def test_insert_many_undoes_all_when_its_rows_raise(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[int]]:
        for i in range(7000):
            if i == 6500:
                raise LookupError("no more")
            yield (i,)

    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        with pytest.raises(LookupError):
            await insert_many(connection, ("numbers",), ["n"], rows())
        assert await count(connection) == 0
        assert connection.lane.owner is None


@pytest.mark.parametrize("wrong", [1, 5000, 5001, 7000])
@pytest.mark.parametrize("row", [(1,), (1, 2, 3), ()])
async def test_insert_many_says_which_row_has_another_length(tmp_path: Path, wrong: int, row: tuple[int, ...]) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE pairs (a INTEGER, b INTEGER)")
        rows = (row if number == wrong else (number, 0) for number in range(1, 7001))
        with pytest.raises(QueryError) as caught:
            await insert_many(connection, ("pairs",), ["a", "b"], rows)
        assert str(caught.value) == f"row {wrong} has {len(row)} values for 2 columns; nothing was inserted"
        assert await count(connection, "pairs") == 0
        assert connection.lane.owner is None


async def test_insert_many_says_which_row_is_no_row(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        rows: list[Any] = [(1,), 2]
        with pytest.raises(QueryError) as caught:
            await insert_many(connection, ("numbers",), ["n"], rows)
        assert str(caught.value) == "row 2 is no sequence of values but a int; nothing was inserted"


async def test_insert_many_inside_a_transaction_belongs_to_it(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        assert await insert_many(connection, ("numbers",), ["n"], [(i,) for i in range(7000)]) == 7000
        await rollback(connection)
        assert await count(connection) == 0


async def test_insert_many_quotes_names(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, 'CREATE TABLE "odd ""table" ("a; b" INTEGER)')
        await insert_many(connection, ('odd "table',), ["a; b"], [(1,)])
        assert await count(connection, '"odd ""table"') == 1


async def test_a_constraint_tells_table_and_columns(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE users (email TEXT, name TEXT, UNIQUE (email, name))")
        await run(connection, "INSERT INTO users VALUES ('a', 'b')")
        with pytest.raises(Exception, match="UNIQUE") as caught:
            await run(connection, "INSERT INTO users VALUES ('a', 'b')")
        error = to_error(caught.value)
        assert isinstance(error, ConstraintError)
        assert (error.kind, error.table, error.columns) == ("unique", "users", ("email", "name"))
