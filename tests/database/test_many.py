"""Several at once, all or nothing: execute_many, batch, execute_script, insert_many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from databases import Place

import dbcore as db

INSERT = "INSERT INTO items VALUES ($1, $2)"
COUNT = "SELECT count(*) FROM items"

THOUSAND = [(number, f"name {number}") for number in range(1000)]
BROKEN = [*THOUSAND[:500], (0, "a second zero"), *THOUSAND[501:]]
"""Row 500 of 1,000 fails: its key is taken."""


def lazily(rows: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from rows


async def slowly(rows: list[tuple[int, str]]) -> AsyncIterator[tuple[int, str]]:
    for row in rows:
        yield row


# -- execute_many ------------------------------------------------------------------------------------------------------


async def test_execute_many_runs_for_each_row_and_counts_all(place: Place) -> None:
    async with place.items() as database:
        assert await database.execute_many(INSERT, THOUSAND) == 1000
        assert await database.fetch_value(COUNT) == 1000
        assert await database.execute_many("UPDATE items SET name = $2 WHERE id < $1", [(3, "x"), (5, "y")]) == 8


async def test_execute_many_takes_any_iterable_and_both_kinds_of_parameters(place: Place) -> None:
    async with place.items() as database:
        assert await database.execute_many(INSERT, lazily(THOUSAND[:10])) == 10
        named = [{"id": 50, "name": "a"}, {"name": "b", "id": 51}]
        assert await database.execute_many("INSERT INTO items VALUES (:id, :name)", named) == 2
        assert await database.fetch_value("SELECT name FROM items WHERE id = 51") == "b"


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


async def test_execute_many_on_a_connection_is_all_or_nothing_and_leaves_it_usable(place: Place) -> None:
    async with place.items() as database, database.connection() as connection:
        with pytest.raises(db.ConstraintError):
            await connection.execute_many(INSERT, BROKEN)
        assert not connection.in_transaction
        assert await connection.fetch_value(COUNT) == 0
        assert await connection.execute_many(INSERT, THOUSAND) == 1000


async def test_execute_many_refuses_a_wrong_row_before_anything_is_sent(place: Place) -> None:
    async with place.items() as database:
        before = database.stats().checkouts
        with pytest.raises(db.QueryError, match="row 2: no parameter for") as caught:
            await database.execute_many(INSERT, [(1, "a"), (2,)])
        assert (caught.value.driver, caught.value.sql) == (place.driver, INSERT)
        assert database.stats().checkouts == before


async def test_a_failed_execute_many_dooms_its_transaction(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.TransactionError) as caught:
            async with database.transaction() as tx:
                await tx.execute(INSERT, [5000, "before"])
                with pytest.raises(db.ConstraintError):
                    await tx.execute_many(INSERT, BROKEN)
        assert isinstance(caught.value.__cause__, db.ConstraintError)
        assert await database.fetch_value(COUNT) == 0


async def test_a_savepoint_confines_a_failed_execute_many(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [5000, "before"])
            with pytest.raises(db.ConstraintError):
                async with tx.transaction():
                    await tx.execute_many(INSERT, BROKEN)
            await tx.execute(INSERT, [5001, "after"])
        assert await database.fetch_all("SELECT id FROM items ORDER BY id") == [(5000,), (5001,)]


# -- batch -------------------------------------------------------------------------------------------------------------


async def test_batch_gives_a_result_for_each_statement(place: Place) -> None:
    async with place.items() as database:
        inserted, selected, updated = await database.batch(
            [
                ("INSERT INTO items VALUES ($1, $2), (2, 'b')", [1, "a"]),
                ("SELECT id, name FROM items WHERE id >= :low ORDER BY id", {"low": 1}),
                ("UPDATE items SET name = $1 WHERE id = $2", ["c", 2]),
            ]
        )
        assert (inserted.count, selected.count, updated.count) == (2, 2, 1)
        assert selected.columns == ("id", "name")
        assert [tuple(row) for row in selected.rows] == [(1, "a"), (2, "b")]
        assert await database.batch([]) == []


async def test_batch_is_all_or_nothing(place: Place) -> None:
    async with place.items() as database, database.connection() as connection:
        with pytest.raises(db.ConstraintError):
            await connection.batch([(INSERT, [1, "a"]), (INSERT, [1, "again"]), (INSERT, [2, "b"])])
        assert not connection.in_transaction
        assert await connection.fetch_value(COUNT) == 0


async def test_a_failed_batch_dooms_its_transaction(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                with pytest.raises(db.ConstraintError):
                    await tx.batch([(INSERT, [1, "a"]), (INSERT, [1, "again"])])
        assert await database.fetch_value(COUNT) == 0


# -- execute_script ----------------------------------------------------------------------------------------------------


async def test_a_script_runs_every_statement(place: Place) -> None:
    async with place.items() as database:
        await database.execute_script("""
            INSERT INTO items VALUES (1, 'a; b'); -- one; two
            INSERT INTO items VALUES (2, '$1 :x ?');
        """)
        assert await database.fetch_all("SELECT name FROM items ORDER BY id") == [("a; b",), ("$1 :x ?",)]


async def test_a_script_is_all_or_nothing(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.ConstraintError):
            await database.execute_script("INSERT INTO items VALUES (1, 'a'); INSERT INTO items VALUES (1, 'b')")
        assert await database.fetch_value(COUNT) == 0


async def test_a_script_with_transaction_statements_of_its_own_keeps_what_they_committed(place: Place) -> None:
    async with place.items() as database:
        script = """
            BEGIN; INSERT INTO items VALUES (1, 'a'); COMMIT;
            BEGIN; INSERT INTO items VALUES (2, 'b'); INSERT INTO items VALUES (1, 'c'); COMMIT;
        """
        with pytest.raises(db.ConstraintError):
            await database.execute_script(script)
        assert await database.fetch_all("SELECT id FROM items") == [(1,)]


async def test_a_script_inside_of_a_transaction_is_part_of_it(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await tx.execute_script("INSERT INTO items VALUES (1, 'a'); INSERT INTO items VALUES (2, 'b')")
                raise ZeroDivisionError
        assert await database.fetch_value(COUNT) == 0


# -- insert_many -------------------------------------------------------------------------------------------------------


async def test_insert_many_loads_rows_and_returns_their_number(place: Place) -> None:
    async with place.items() as database:
        assert await database.insert_many("items", ["id", "name"], THOUSAND) == 1000
        assert await database.fetch_all("SELECT * FROM items ORDER BY id") == THOUSAND


async def test_insert_many_takes_iterables_and_async_iterables(place: Place) -> None:
    async with place.items() as database:
        assert await database.insert_many("items", ["id", "name"], lazily(THOUSAND[:10])) == 10
        assert await database.insert_many("items", ["id", "name"], slowly(THOUSAND[10:20])) == 10
        assert await database.insert_many("items", ("name", "id"), [("x", 30)]) == 1
        assert await database.insert_many("items", ["id", "name"], []) == 0
        assert await database.fetch_value(COUNT) == 21


async def test_insert_many_is_all_or_nothing(place: Place) -> None:
    async with place.items() as database, database.connection() as connection:
        for rows in (BROKEN, lazily(BROKEN), slowly(BROKEN)):
            with pytest.raises(db.ConstraintError):
                await connection.insert_many("items", ["id", "name"], rows)
            assert not connection.in_transaction
            assert await connection.fetch_value(COUNT) == 0


async def test_insert_many_stores_nothing_when_its_source_fails(place: Place) -> None:
    def failing() -> Iterator[tuple[int, str]]:
        yield from THOUSAND
        raise ZeroDivisionError

    async def failing_slowly() -> AsyncIterator[tuple[int, str]]:
        for row in THOUSAND:
            yield row
        raise ZeroDivisionError

    async with place.items() as database, database.connection() as connection:
        for rows in (failing(), failing_slowly()):
            with pytest.raises(ZeroDivisionError):
                await connection.insert_many("items", ["id", "name"], rows)
            assert not connection.in_transaction
            assert await connection.fetch_value(COUNT) == 0


async def test_insert_many_takes_names_literally(place: Place) -> None:
    async with place.open() as database:
        await database.execute('CREATE TABLE "odd ""name" ("a b" INTEGER, "Select" TEXT)')
        assert await database.insert_many('odd "name', ["a b", "Select"], [(1, "x")]) == 1
        assert await database.fetch_all('SELECT * FROM "odd ""name"') == [(1, "x")]


async def test_insert_many_inside_of_a_transaction_is_part_of_it(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                assert await tx.insert_many("items", ["id", "name"], THOUSAND) == 1000
                raise ZeroDivisionError
        assert await database.fetch_value(COUNT) == 0


async def test_a_failed_insert_many_dooms_its_transaction(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                with pytest.raises(db.ConstraintError):
                    await tx.insert_many("items", ["id", "name"], BROKEN)
        assert await database.fetch_value(COUNT) == 0


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
