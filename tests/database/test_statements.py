"""One statement at a time: counts, rows, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from databases import Place

import dbcore as db

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n ORDER BY i"


# -- execute -----------------------------------------------------------------------------------------------------------


async def test_execute_counts_the_rows_that_it_changed(place: Place) -> None:
    async with place.items() as database:
        assert await database.execute("INSERT INTO items VALUES ($1, $2), ($3, $4)", [1, "a", 2, "b"]) == 2
        assert await database.execute("UPDATE items SET name = $1", ["c"]) == 2
        assert await database.execute("DELETE FROM items WHERE id = $1", [1]) == 1
        assert await database.execute("DELETE FROM items WHERE id = $1", [1]) == 0


async def test_execute_counts_rows_that_are_returned_too(place: Place) -> None:
    async with place.items() as database:
        assert await database.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b') RETURNING id") == 2
        assert await database.fetch_value("SELECT count(*) FROM items") == 2


async def test_execute_counts_nothing_for_a_change_of_the_schema(place: Place) -> None:
    async with place.items() as database:
        await database.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")
        assert await database.execute("CREATE TABLE other (id INTEGER)") == 0


async def test_execute_counts_what_a_statement_that_begins_with_with_changed(place: Place) -> None:
    async with place.items() as database:
        sql = "WITH one(id) AS (SELECT CAST($1 AS INTEGER)) INSERT INTO items SELECT id, 'a' FROM one"
        assert await database.execute(sql, [7]) == 1


# -- fetch -------------------------------------------------------------------------------------------------------------


async def test_fetch_all_returns_every_row_in_order(place: Place) -> None:
    async with place.open() as database:
        assert await database.fetch_all(NUMBERS, [5]) == [(1,), (2,), (3,), (4,), (5,)]


async def test_fetch_all_returns_an_empty_list_for_no_row(place: Place) -> None:
    async with place.items() as database:
        assert await database.fetch_all("SELECT * FROM items") == []


async def test_fetch_one_returns_the_only_row(place: Place) -> None:
    async with place.open() as database:
        assert await database.fetch_one(NUMBERS, [1]) == (1,)


async def test_fetch_one_raises_for_no_row(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.NotFound) as caught:
            await database.fetch_one("SELECT * FROM items WHERE id = $1", [77])
        assert caught.value.sql == "SELECT * FROM items WHERE id = $1"
        assert caught.value.driver == place.driver


async def test_fetch_one_raises_for_more_rows_and_says_how_many(place: Place) -> None:
    async with place.open() as database:
        with pytest.raises(db.TooManyRows, match="3 rows"):
            await database.fetch_one(NUMBERS, [3])


async def test_fetch_optional_returns_the_row_or_none(place: Place) -> None:
    async with place.items() as database:
        assert await database.fetch_optional("SELECT id FROM items") is None
        await database.execute("INSERT INTO items VALUES (1, 'a')")
        assert await database.fetch_optional("SELECT id FROM items") == (1,)


async def test_fetch_optional_raises_for_more_rows(place: Place) -> None:
    async with place.open() as database:
        with pytest.raises(db.TooManyRows):
            await database.fetch_optional(NUMBERS, [2])


async def test_fetch_value_returns_the_first_column_of_the_only_row(place: Place) -> None:
    async with place.items() as database:
        await database.execute("INSERT INTO items VALUES (7, 'seven')")
        assert await database.fetch_value("SELECT id, name FROM items") == 7
        assert await database.fetch_value("SELECT max(id) FROM items WHERE id > $1", [9]) is None


@pytest.mark.parametrize(("rows", "error"), [(0, db.NotFound), (2, db.TooManyRows)])
async def test_fetch_value_wants_exactly_one_row(place: Place, rows: int, error: type[db.DbError]) -> None:
    async with place.open() as database:
        with pytest.raises(error):
            await database.fetch_value("SELECT * FROM (VALUES (1), (2)) AS two WHERE column1 <= $1", [rows])


async def test_a_statement_that_returns_no_rows_can_be_fetched(place: Place) -> None:
    async with place.items() as database:
        assert await database.fetch_all("INSERT INTO items VALUES (1, 'a')") == []
        assert await database.fetch_value("SELECT count(*) FROM items") == 1


async def test_a_connection_has_the_same_methods_as_the_database(place: Place) -> None:
    async with place.items() as database, database.connection() as connection:
        assert await connection.execute("INSERT INTO items VALUES ($1, $2)", [1, "a"]) == 1
        assert await connection.fetch_all("SELECT id FROM items") == [(1,)]
        assert await connection.fetch_one("SELECT name FROM items") == ("a",)
        assert await connection.fetch_optional("SELECT name FROM items WHERE id = $1", [2]) is None
        assert await connection.fetch_value("SELECT name FROM items") == "a"
        assert connection.driver == place.driver


async def test_run_gives_a_connection_and_returns_what_the_function_returned(place: Place) -> None:
    async def work(connection: db.Connection[Any]) -> int:
        return int(await connection.fetch_value("SELECT $1", [3]))

    async with place.open() as database:
        assert await database.run(work) == 3
        assert database.stats().in_use == 0


async def test_run_releases_the_connection_when_the_function_raises(place: Place) -> None:
    """Laws: K8."""

    async def work(connection: db.Connection[Any]) -> None:
        raise ZeroDivisionError

    async with place.open() as database:
        with pytest.raises(ZeroDivisionError):
            await database.run(work)
        assert database.stats().in_use == 0


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "params", "row"),
    [
        ("SELECT $1, $2", [1, 2], (1, 2)),
        ("SELECT $2, $1", [1, 2], (2, 1)),
        ("SELECT $2, $1, $2", [1, 2], (2, 1, 2)),
        ("SELECT $1, $1", ["x"], ("x", "x")),
        ("SELECT :b, :a", {"a": 1, "b": 2}, (2, 1)),
        ("SELECT :a, :b, :a", {"a": 1, "b": 2}, (1, 2, 1)),
        ("SELECT $1, '$2', ':a', '%s', '?', '%'", [1], (1, "$2", ":a", "%s", "?", "%")),
        ("SELECT :a, '$1', ':b' /* :c */ -- :d", {"a": 1}, (1, "$1", ":b")),
        ("SELECT 5 % 3, '100%'", (), (2, "100%")),
        ("SELECT $1, 5 % $2", [1, 3], (1, 2)),
        ("SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11", range(11), tuple(range(11))),
    ],
)
async def test_parameters_stand_where_they_belong(
    place: Place, sql: str, params: Sequence[Any] | Mapping[str, Any], row: tuple[Any, ...]
) -> None:
    async with place.open() as database:
        assert await database.fetch_one(sql, params) == row


@pytest.mark.parametrize(
    ("sql", "params", "words"),
    [
        ("SELECT $1, $2", [1], "no parameter for \\$2"),
        ("SELECT $1", [1, 2], "no placeholder \\$2"),
        ("SELECT 1", [1], "no placeholder \\$1"),
        ("SELECT :a, :b", {"a": 1}, "no parameter for :b"),
        ("SELECT :a", {"a": 1, "z": 2}, ":z"),
        ("SELECT $1", {"a": 1}, "mapping"),
        ("SELECT :a", [1], "sequence"),
        ("SELECT $1, :a", [1], "use \\$1 with a sequence, or :name with a mapping"),
        ("SELECT $1", [2**63], "64 bits"),
        ("SELECT $1", "one", "list"),
        ("SELECT 1; SELECT 2", (), "execute_script"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is_sent(
    place: Place, sql: str, params: Any, words: str
) -> None:
    async with place.open() as database:
        before = database.stats().checkouts
        for method in (database.execute, database.fetch_all, database.fetch_one, database.fetch_value):
            with pytest.raises(db.QueryError, match=words) as caught:
                await method(sql, params)
            assert caught.value.sql == sql
            assert caught.value.driver == place.driver
        assert database.stats().checkouts == before


async def test_a_refused_statement_leaves_a_transaction_as_it_was(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO items VALUES (1, 'a')")
            with pytest.raises(db.QueryError):
                await tx.execute("INSERT INTO items VALUES ($1, $2)", [2])
        assert await database.fetch_value("SELECT count(*) FROM items") == 1


async def test_a_semicolon_at_the_end_is_no_second_statement(place: Place) -> None:
    async with place.open() as database:
        assert await database.fetch_value("SELECT 1; -- done") == 1


async def test_several_statements_in_one_text_are_not_run_in_part(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError, match="execute_script"):
            await database.execute("INSERT INTO items VALUES (1, 'a'); INSERT INTO items VALUES (2, 'b')")
        assert await database.fetch_value("SELECT count(*) FROM items") == 0


async def test_a_wrong_statement_raises_with_its_text_and_the_connection_stays_usable(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        with pytest.raises(db.QueryError) as caught:
            await connection.execute("SELEKT 1")
        assert caught.value.sql == "SELEKT 1"
        assert caught.value.__cause__ is not None
        assert await connection.fetch_value("SELECT 1") == 1
