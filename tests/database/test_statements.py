"""One statement at a time: counts, rows, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from databases import Place

import dbcore as db

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n ORDER BY i"


# -- execute -----------------------------------------------------------------------------------------------------------


async def test_execute_counts_rows_that_are_returned_too(place: Place) -> None:
    async with place.items() as database:
        assert await database.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b') RETURNING id") == 2
        assert await database.fetch_value("SELECT count(*) FROM items") == 2


async def test_execute_counts_what_a_statement_that_begins_with_with_changed(place: Place) -> None:
    async with place.items() as database:
        sql = "WITH one(id) AS (SELECT CAST($1 AS INTEGER)) INSERT INTO items SELECT id, 'a' FROM one"
        assert await database.execute(sql, [7]) == 1


# -- fetch -------------------------------------------------------------------------------------------------------------


async def test_fetch_one_raises_for_more_rows_and_says_how_many(place: Place) -> None:
    async with place.open() as database:
        with pytest.raises(db.TooManyRows, match="3 rows"):
            await database.fetch_one(NUMBERS, [3])


async def test_fetch_value_returns_the_first_column_of_the_only_row(place: Place) -> None:
    async with place.items() as database:
        await database.execute("INSERT INTO items VALUES (7, 'seven')")
        assert await database.fetch_value("SELECT id, name FROM items") == 7
        assert await database.fetch_value("SELECT max(id) FROM items WHERE id > $1", [9]) is None


async def test_a_connection_has_the_same_methods_as_the_database(place: Place) -> None:
    async with place.items() as database, database.connection() as connection:
        assert await connection.execute("INSERT INTO items VALUES ($1, $2)", [1, "a"]) == 1
        assert await connection.fetch_all("SELECT id FROM items") == [(1,)]
        assert await connection.fetch_one("SELECT name FROM items") == ("a",)
        assert await connection.fetch_optional("SELECT name FROM items WHERE id = $1", [2]) is None
        assert await connection.fetch_value("SELECT name FROM items") == "a"
        assert connection.driver == place.driver


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


async def test_several_statements_in_one_text_are_not_run_in_part(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError, match="execute_script"):
            await database.execute("INSERT INTO items VALUES (1, 'a'); INSERT INTO items VALUES (2, 'b')")
        assert await database.fetch_value("SELECT count(*) FROM items") == 0
