"""Streams: rows one by one, and a connection that is whole again however the block is left."""

from __future__ import annotations

import asyncio

import pytest
from databases import Place

import dbcore as db

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n"
MANY = 10_000


@pytest.mark.parametrize("batch_size", [1, 7, 1000, 20_000])
async def test_a_stream_gives_every_row_in_order(place: Place, batch_size: int) -> None:
    rows = 50 if batch_size == 1 else MANY
    async with place.open() as database, database.stream(NUMBERS, [rows], batch_size=batch_size) as stream:
        assert [row.i async for row in stream] == list(range(1, rows + 1))


async def test_a_stream_of_no_rows_ends_at_once(place: Place) -> None:
    async with place.items() as database, database.stream("SELECT * FROM items") as rows:
        assert [row async for row in rows] == []


async def test_a_stream_that_has_ended_stays_ended(place: Place) -> None:
    async with place.open() as database, database.stream(NUMBERS, [3]) as rows:
        assert len([row async for row in rows]) == 3
        assert [row async for row in rows] == []


async def test_a_stream_on_the_database_holds_a_connection_until_its_block_is_left(place: Place) -> None:
    async with place.open() as database:
        async with database.stream(NUMBERS, [3]) as rows:
            await anext(rows)
            assert database.stats().in_use == 1
        assert database.stats().in_use == 0


async def test_a_stream_left_early_leaves_the_connection_usable(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        async with connection.stream(NUMBERS, [MANY], batch_size=10) as rows:
            async for row in rows:
                if row.i == 15:
                    break
        assert await connection.fetch_value("SELECT 1") == 1


async def test_a_stream_that_is_not_read_leaves_the_connection_usable(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        async with connection.stream(NUMBERS, [MANY]):
            pass
        assert await connection.fetch_value("SELECT 1") == 1


async def test_an_exception_in_the_block_goes_through_and_leaves_the_connection_usable(place: Place) -> None:
    error = ZeroDivisionError()
    async with place.open() as database, database.connection() as connection:
        with pytest.raises(ZeroDivisionError) as caught:
            async with connection.stream(NUMBERS, [MANY], batch_size=10) as rows:
                await anext(rows)
                raise error
        assert caught.value is error
        assert await connection.fetch_value("SELECT 1") == 1


async def test_a_cancelled_stream_leaves_the_connection_usable(place: Place) -> None:
    reading = asyncio.Event()

    async def read(connection: db.Connection[object]) -> None:
        async with connection.stream(NUMBERS, [MANY * 100], batch_size=10) as rows:
            async for _ in rows:
                reading.set()

    async with place.open() as database, database.connection() as connection:
        task = asyncio.create_task(read(connection))
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await connection.fetch_value("SELECT 1") == 1


async def test_a_stream_cancelled_while_it_waits_for_its_first_row_ends_the_work(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        async with connection.stream(place.endless) as rows:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(rows)
        assert await connection.fetch_value("SELECT 1") == 1


async def test_other_statements_are_refused_while_a_stream_is_open(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        async with connection.stream(NUMBERS, [5], batch_size=2) as rows:
            await anext(rows)
            with pytest.raises(db.UsageError, match="stream is open"):
                await connection.fetch_value("SELECT 1")
            with pytest.raises(db.UsageError, match="stream is open"):
                async with connection.stream("SELECT 1"):
                    pass
            with pytest.raises(db.UsageError, match="stream is open"):
                async with connection.transaction():
                    pass
            assert [row.i async for row in rows] == [2, 3, 4, 5]
        assert await connection.fetch_value("SELECT 1") == 1


async def test_a_stream_is_part_of_the_transaction_it_is_opened_in(place: Place) -> None:
    async with place.items() as database:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")
            async with tx.stream("SELECT id FROM items ORDER BY id") as rows:
                assert [row.id async for row in rows] == [1, 2]
            await tx.execute("INSERT INTO items VALUES (3, 'c')")
        assert await database.fetch_value("SELECT count(*) FROM items") == 3


async def test_a_transaction_left_early_out_of_a_stream_is_rolled_back(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO items VALUES (1, 'a')")
                async with tx.stream(NUMBERS, [MANY], batch_size=5) as rows:
                    await anext(rows)
                    raise ZeroDivisionError
        assert await database.fetch_value("SELECT count(*) FROM items") == 0
        assert database.stats().in_use == 0


async def test_a_wrong_statement_fails_at_the_first_row(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        with pytest.raises(db.QueryError) as caught:
            async with connection.stream("SELECT * FROM nowhere") as rows:
                await anext(rows)
        assert caught.value.sql == "SELECT * FROM nowhere"
        assert await connection.fetch_value("SELECT 1") == 1


async def test_a_row_that_does_not_fit_is_counted_over_all_batches(place: Place) -> None:
    sql = "SELECT CASE WHEN i = 8 THEN 'x' ELSE CAST(i AS TEXT) END AS number FROM (" + NUMBERS + ") AS numbers"
    async with place.open() as database:
        with pytest.raises(db.DecodeError, match="row 8"):
            async with database.stream(sql, [10], into=int, batch_size=3) as rows:
                _ = [row async for row in rows]


async def test_a_stream_is_read_inside_of_its_block(place: Place) -> None:
    async with place.open() as database:
        stream = database.stream("SELECT 1")
        with pytest.raises(db.UsageError, match="inside its block"):
            await anext(stream)
        async with stream:
            pass
        with pytest.raises(db.UsageError, match="inside its block"):
            await anext(stream)


async def test_a_batch_has_one_row_at_least(place: Place) -> None:
    async with place.open() as database:
        with pytest.raises(ValueError, match="batch_size"):
            database.stream("SELECT 1", batch_size=0)
