"""One statement at a time: counts, rows, parameters, texts that come again."""

from __future__ import annotations

from typing import Any

from dbcore.connection import Connection
from dbcore.errors import NotFound, QueryError, TooManyRows
from dbcore.testing.conformance.checks import Mine, check, raises, same
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.sql import numbers
from dbcore.testing.conformance.subject import Subject

# -- counts ------------------------------------------------------------------------------------------------------------


@promise()
async def execute_counts_the_rows_that_it_changed(subject: Subject) -> None:
    """`execute` returns the number of rows that an INSERT, an UPDATE or a DELETE affected."""
    async with subject.items() as items:
        run, table = items.database.execute, items.table
        two = f"INSERT INTO {table} (id, name) VALUES ($1, $2), ($3, $4)"
        same(await run(two, [1, "a", 2, "b"]), 2, "rows of an INSERT of two")
        same(await run(f"UPDATE {table} SET name = $1", ["c"]), 2, "rows of an UPDATE of two")
        same(await run(f"UPDATE {table} SET name = $1 WHERE id = $2", ["d", 9]), 0, "rows of an UPDATE of none")
        same(await run(f"DELETE FROM {table} WHERE id = $1", [1]), 1, "rows of a DELETE of one")
        same(await run(f"DELETE FROM {table} WHERE id = $1", [1]), 0, "rows of a DELETE of none")


@promise()
async def execute_counts_the_rows_that_a_query_returned(subject: Subject) -> None:
    """`execute` of a query returns the number of its rows."""
    async with subject.open() as database:
        same(await database.execute(numbers(7)), 7, "rows of a query of seven")
        same(await database.execute(numbers(0)), 0, "rows of a query of none")


@promise()
async def execute_counts_nothing_for_a_change_of_the_schema(subject: Subject) -> None:
    """`execute` returns 0 for a CREATE TABLE, whatever was changed before."""
    async with subject.items() as items, items.database.connection() as connection:
        await connection.execute(f"INSERT INTO {items.table} (id, name) VALUES (1, 'a'), (2, 'b')")
        other = subject.unique()
        same(await connection.execute(f"CREATE TABLE {other} (id INTEGER)"), 0, "rows of a CREATE TABLE")
        await connection.execute(f"DROP TABLE {other}")


@promise()
async def a_statement_counts_its_own_rows_alone(subject: Subject) -> None:
    """A count is that of the statement it came with, also where the one before it failed or changed more."""
    async with subject.items() as items, items.database.connection() as connection:
        await connection.execute(f"INSERT INTO {items.table} (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        with raises(QueryError, "an INSERT of a key that is taken"):
            await connection.execute(items.insert, [1, "again"])
        same(await connection.execute(f"DELETE FROM {items.table} WHERE id = 77"), 0, "rows of a DELETE of none")
        same(await connection.execute(f"DELETE FROM {items.table} WHERE id > 1"), 2, "rows of a DELETE of two")


# -- rows --------------------------------------------------------------------------------------------------------------


@promise()
async def fetch_all_returns_every_row_in_order(subject: Subject) -> None:
    """`fetch_all` returns all rows, in the order that the database gave them, be they none or 10,000."""
    async with subject.open() as database:
        for count in (0, 1, 2, 10_000):
            rows = await database.fetch_all(numbers(count), into=int)
            same(len(rows), count, "number of rows")
            check(rows == list(range(count)), f"{count} rows come in order, and did not")


@promise()
async def fetch_methods_want_the_number_of_rows_they_are_named_for(subject: Subject) -> None:
    """`fetch_one` and `fetch_value` want one row, `fetch_optional` one or none; else `NotFound` or `TooManyRows`."""
    async with subject.items() as items:
        database, none = items.database, f"SELECT id, name FROM {items.table} WHERE id = $1"
        await database.execute(items.insert, [7, "seven"])
        same(await database.fetch_one(none, [7]), (7, "seven"), "the only row")
        same(await database.fetch_optional(none, [7]), (7, "seven"), "the only row")
        same(await database.fetch_value(none, [7]), 7, "the first column of the only row")
        same(await database.fetch_optional(none, [8]), None, "fetch_optional of no row")
        with raises(NotFound, "fetch_one of no row") as caught:
            await database.fetch_one(none, [8])
        same((caught.error.sql, caught.error.driver), (none, subject.vtable.name), "text and driver of the error")
        with raises(NotFound, "fetch_value of no row"):
            await database.fetch_value(none, [8])
        for method in (database.fetch_one, database.fetch_optional, database.fetch_value):
            with raises(TooManyRows, f"{method.__name__} of two rows"):
                await method(numbers(2))


@promise()
async def a_statement_without_rows_can_be_fetched(subject: Subject) -> None:
    """`fetch_all` of a statement that returns no rows runs it, and returns an empty list."""
    async with subject.items() as items:
        same(await items.database.fetch_all(items.insert, [1, "a"]), [], "rows of an INSERT")
        same(await items.ids(), [1], "ids in the table")


@promise()
async def a_function_that_is_run_gets_a_connection_and_gives_it_back(subject: Subject) -> None:
    """`run` gives a function a connection of its own, returns what it returned, and releases on every way out.

    Laws: K8.
    """

    async def answer(connection: Connection[Any]) -> int:
        return await connection.fetch_value("SELECT 3", into=int)

    async def fail(connection: Connection[Any]) -> None:
        raise Mine

    async with subject.open(pool={"max_size": 1, "checkout_timeout": 5}) as database:
        same(await database.run(answer), 3, "what `run` returned")
        with raises(Mine, "a function that raises"):
            await database.run(fail)
        same(await database.run(answer), 3, "what `run` returned after that")


@promise()
async def a_statement_on_its_own_is_there_for_everybody_when_it_returns(subject: Subject) -> None:
    """Outside of a transaction each statement is committed when it returns."""
    async with (
        subject.items(pool={"max_size": 2}) as items,
        items.database.connection() as one,
        items.database.connection() as other,
    ):
        await one.execute(items.insert, [1, "a"])
        same(await other.fetch_value(items.count), 1, "rows that another connection sees")
        check(not one.in_transaction, "after a statement on its own no transaction is open, and one was")


# -- parameters --------------------------------------------------------------------------------------------------------


@promise()
async def parameters_stand_where_they_belong(subject: Subject) -> None:
    """`$1`, `$2`, ... stand in any order, each as often as wanted; `:name` likewise, with a mapping."""
    async with subject.open() as database, subject.table(database, "a INTEGER, b INTEGER, c VARCHAR(100)") as table:
        insert = f"INSERT INTO {table} (a, b, c) VALUES"
        await database.execute(f"{insert} ($2, $1, $3)", [20, 10, "turned"])
        await database.execute(f"{insert} ($1, $1, $2)", [30, "twice"])
        await database.execute(f"{insert} (:b, :a, :c)", {"a": 50, "b": 40, "c": "by name"})
        await database.execute(f"{insert} (:x, :x, :c)", {"x": 60, "c": "one name twice"})
        rows = await database.fetch_all(f"SELECT a, b, c FROM {table} ORDER BY a")
        wanted = [(10, 20, "turned"), (30, 30, "twice"), (40, 50, "by name"), (60, 60, "one name twice")]
        same([tuple(row) for row in rows], wanted, "rows that were written by parameters")
        where = f"SELECT c FROM {table} WHERE b = $2 AND a = $1 AND c <> $3 AND a = $1"
        same(await database.fetch_value(where, [10, 20, "x"]), "turned", "a row that was found by parameters")


@promise()
async def many_parameters_keep_their_order(subject: Subject) -> None:
    """A statement may have some hundred parameters."""
    rows = [(number, f"name {number}") for number in range(150)]
    async with subject.items() as items:
        marks = ", ".join(f"(${2 * number + 1}, ${2 * number + 2})" for number in range(len(rows)))
        values = [value for row in rows for value in row]
        count = await items.database.execute(f"INSERT INTO {items.table} (id, name) VALUES {marks}", values)
        same(count, len(rows), "rows of an INSERT with 300 parameters")
        found = await items.database.fetch_all(f"SELECT id, name FROM {items.table} ORDER BY id")
        check([tuple(row) for row in found] == rows, "300 parameters keep their order, and did not")


@promise()
async def what_is_no_placeholder_is_left_alone(subject: Subject) -> None:
    """Percent signs, question marks, `$1` and `:name` in literals and comments reach the database as they are."""
    text = "it''s $2 :a %s ? % %% 100%"
    async with subject.items() as items:
        database, table = items.database, items.table
        await database.execute(f"INSERT INTO {table} (id, name) /* :c $7 ? */ VALUES ($1, '{text}') -- :d %s", [5])
        await database.execute(f"INSERT INTO {table} (id, name) VALUES (:id, '{text}')", {"id": 6})
        await database.execute(f"INSERT INTO {table} (id, name) VALUES (7, '{text}')")
        names = await database.fetch_all(f"SELECT name FROM {table}", into=str)
        same(names, [text.replace("''", "'")] * 3, "a literal that looks like placeholders")
        same(await database.fetch_value(f"SELECT id % 3 FROM {table} WHERE id = $1", [5]), 2, "5 % 3, with a parameter")
        same(await database.fetch_value("SELECT 5 % 3"), 2, "5 % 3, without one")


@promise()
async def a_parameter_is_a_value_and_never_sql(subject: Subject) -> None:
    """Whatever is in a text parameter is stored as it is."""
    texts = ["'; DROP TABLE x; --", '"', "\\", "\\'", "%s", "?", "$1", ":a", "`", "", " ", "é 東京 👩\u200d🚀"]
    async with subject.items() as items:
        for number, text in enumerate(texts):
            await items.database.execute(items.insert, [number, text])
        found = await items.database.fetch_all(f"SELECT name FROM {items.table} ORDER BY id", into=str)
        same(found, texts, "texts that were written as parameters")


@promise()
async def one_text_takes_parameters_of_other_types_later(subject: Subject) -> None:
    """A statement that ran with one type of value runs with another, and with `None`, on the same connection."""
    async with subject.open() as database, subject.table(database, "a BIGINT, b NUMERIC(10, 2)") as table:
        values: list[Any] = [1, None, 2**40, 2, None, -1]
        async with database.connection() as connection:
            for value in values:
                await connection.execute(f"INSERT INTO {table} (a, b) VALUES ($1, $2)", [value, value and 1])
            found = await connection.fetch_all(f"SELECT a FROM {table} WHERE a IS NOT NULL ORDER BY a", into=int)
            same(found, [-1, 1, 2, 2**40], "whole numbers of several widths")
            nothing = await connection.fetch_value(f"SELECT count(*) FROM {table} WHERE a IS NULL", into=int)
            same(nothing, 2, "NULLs that were written as None")


# -- texts -------------------------------------------------------------------------------------------------------------


@promise()
async def a_semicolon_at_the_end_is_no_second_statement(subject: Subject) -> None:
    """A text may end in a semicolon, and in a comment after it."""
    async with subject.open() as database:
        same(await database.fetch_value("SELECT 1;"), 1, "SELECT 1;")
        same(await database.fetch_value("SELECT 1; -- done"), 1, "SELECT 1; -- done")


@promise()
async def a_wrong_statement_leaves_the_connection_usable(subject: Subject) -> None:
    """After a statement that the database refused the connection takes the next one, as often as that happens."""
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        for _ in range(10):
            with raises(QueryError, "SELEKT 1"):
                await connection.execute("SELEKT 1")
            same(await connection.fetch_value("SELECT 1"), 1, "SELECT 1")


@promise()
async def a_text_is_read_anew_when_its_table_has_changed(subject: Subject) -> None:
    """A query that was prepared gives the columns that its table has now, whoever changed the table."""
    async with subject.items(pool={"max_size": 2}) as items:
        sql = f"SELECT * FROM {items.table}"
        async with items.database.connection() as one, items.database.connection() as other:
            await one.execute(items.insert, [1, "a"])
            for _ in range(8):  # libraries prepare a text when it comes again, some after five times
                for connection in (one, other):
                    same(tuple(await connection.fetch_one(sql)), (1, "a"), "the row")
            await one.execute(f"ALTER TABLE {items.table} ADD COLUMN extra INTEGER")
            for connection in (one, other):
                same(tuple(await connection.fetch_one(sql)), (1, "a", None), "the row with its new column")


@promise()
async def more_texts_than_any_cache_holds_are_answered(subject: Subject) -> None:
    """Hundreds of different statements on one connection all get their own answer."""
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        for number in (*range(400), *range(20)):
            same(await connection.fetch_value(f"SELECT {number}"), number, f"SELECT {number}")
