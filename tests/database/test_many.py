"""Several at once, all or nothing: execute_many, batch, execute_script, insert_many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from databases import Place

import dbcore as db
from dbcore.events import Event, StatementFinished

INSERT = "INSERT INTO items VALUES ($1, $2)"
COUNT = "SELECT count(*) FROM items"

THOUSAND = [(number, f"name {number}") for number in range(1000)]
BROKEN = [*THOUSAND[:500], (0, "a second zero"), *THOUSAND[501:]]
"""Row 500 of 1,000 fails: its key is taken."""


# -- execute_many ------------------------------------------------------------------------------------------------------


async def test_execute_many_puts_parameters_in_order(place: Place) -> None:
    async with place.items() as database:
        await database.execute_many("INSERT INTO items (name, id) VALUES ($2, $1)", [(1, "a"), (2, "b")])
        assert await database.fetch_all("SELECT * FROM items ORDER BY id") == [(1, "a"), (2, "b")]


async def test_execute_many_of_no_rows_does_nothing(place: Place) -> None:
    async with place.items() as database:
        before = database.stats().checkouts
        assert await database.execute_many(INSERT, []) == 0
        assert database.stats().checkouts == before


async def test_execute_many_is_all_or_nothing(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.ConstraintError) as caught:
            await database.execute_many(INSERT, BROKEN)
        assert caught.value.sql == INSERT
        assert await database.fetch_value(COUNT) == 0


async def test_execute_many_refuses_a_wrong_row_before_anything_is_sent(place: Place) -> None:
    async with place.items() as database:
        before = database.stats().checkouts
        with pytest.raises(db.QueryError, match="row 2: no parameter for") as caught:
            await database.execute_many(INSERT, [(1, "a"), (2,)])
        assert (caught.value.driver, caught.value.sql) == (place.driver, INSERT)
        assert database.stats().checkouts == before


# -- batch -------------------------------------------------------------------------------------------------------------


async def test_a_failed_batch_names_the_statement_that_failed_as_it_was_written(place: Place) -> None:
    events: list[Event] = []
    named = "INSERT INTO items (name, id) VALUES (:name, :id)"
    async with place.items(observe=events.append) as database:
        for twice in range(3):
            with pytest.raises(db.ConstraintError) as constraint:
                await database.batch(
                    [(INSERT, [1, "a"]), ("SELECT 1", ()), (named, {"id": 1, "name": "again"}), (INSERT, [2, "b"])]
                )
            assert constraint.value.sql == named, twice
            assert constraint.value.__cause__ is not None
        (finished, *_) = [event for event in events if isinstance(event, StatementFinished) and event.error is not None]
        assert isinstance(finished.error, db.QueryError)
        assert finished.error.sql == named
        with pytest.raises(db.QueryError) as missing:
            await database.batch([(INSERT, [1, "a"]), ("SELECT * FROM nowhere", ())])
        assert missing.value.sql == "SELECT * FROM nowhere"
        with pytest.raises(db.QueryError) as formless:
            await database.batch([(INSERT, [1, "a"]), (named, {"id": 2, "name": object()}), (INSERT, [3, "c"])])
        assert formless.value.sql == named


@pytest.mark.parametrize("method", ["execute_many", "insert_many", "insert_many of an async source", "batch"])
async def test_rows_may_be_one_list_that_is_filled_anew(place: Place, method: str) -> None:
    def rows() -> Iterator[list[Any]]:
        row: list[Any] = [0, "a"]
        for number in range(3):
            row[0] = number
            yield row

    async def later() -> AsyncIterator[list[Any]]:
        for row in rows():
            yield row

    async with place.items() as database:
        match method:
            case "execute_many":
                await database.execute_many(INSERT, rows())
            case "batch":
                await database.batch((INSERT, row) for row in rows())
            case "insert_many":
                await database.insert_many("items", ["id", "name"], rows())
            case _:
                await database.insert_many("items", ["id", "name"], later())
        assert await database.fetch_all("SELECT id FROM items ORDER BY id", into=int) == [0, 1, 2]


@pytest.mark.parametrize("text", ["BEGIN", "COMMIT", "ROLLBACK", "START TRANSACTION", "-- so?\nEND"])
async def test_what_is_all_or_nothing_takes_no_end_of_a_transaction(place: Place, text: str) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError, match="all is done or nothing"):
            await database.batch([(INSERT, [1, "a"]), (text, ()), (INSERT, [2, "b"])])
        with pytest.raises(db.QueryError, match="all is done or nothing"):
            await database.execute_many(text, [()])
        assert await database.fetch_value("SELECT count(*) FROM items") == 0


async def test_the_event_of_a_batch_counts_the_rows_of_all_its_statements(place: Place) -> None:
    events: list[Event] = []
    async with place.items(observe=events.append) as database:
        two = "SELECT id FROM items UNION ALL SELECT 5"
        await database.batch([(INSERT, [1, "a"]), (two, ()), ("UPDATE items SET name = 'b'", ())])
        (finished,) = [event for event in events if isinstance(event, StatementFinished) and event.sql == ""]
        assert (finished.count, finished.returned, finished.error) == (4, 2, None)


async def test_a_batch_whose_commit_fails_blames_no_statement(place: Place) -> None:
    deferred = "INTEGER REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED"
    async with place.items() as database:
        await database.execute(f"CREATE TABLE parts (item {deferred})")
        with pytest.raises(db.ConstraintError) as caught:
            await database.batch([("INSERT INTO parts VALUES ($1)", [7]), ("SELECT 1", ())])
        assert caught.value.kind == "foreign_key"
        assert caught.value.sql is None
        assert await database.fetch_value("SELECT count(*) FROM parts") == 0


# -- insert_many -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "columns"), [((), ["id"]), ("items", [])])
async def test_insert_many_wants_a_table_and_a_column(
    place: Place, table: str | tuple[str, ...], columns: list[str]
) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError, match="at least one column"):
            await database.insert_many(table, columns, [(1,)])


async def test_insert_many_wants_a_list_of_columns_and_not_one_text(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError, match=r"put it into a list: \['id'\]"):
            await database.insert_many("items", "id", [(1,)])


@pytest.mark.parametrize("row", [{"id": 1, "name": "x"}, {1, 2}, "xy", b"xy", 7], ids=lambda row: type(row).__name__)
async def test_insert_many_refuses_what_is_no_row_though_it_has_a_length(place: Place, row: Any) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError, match=rf"row 2 is no sequence of values but a {type(row).__name__}"):
            await database.insert_many("items", ("id", "name"), [(1, "a"), row])
        assert await database.fetch_value("SELECT count(*) FROM items") == 0


@pytest.mark.parametrize("item", ["SELECT 1", ("SELECT 1",), None], ids=["a text", "one value", "None"])
async def test_a_batch_says_which_item_is_no_pair(place: Place, item: Any) -> None:
    async with place.open() as database:
        with pytest.raises(db.QueryError, match=r"item 2 of the batch is no pair"):
            await database.batch([("SELECT 1", ()), item])
