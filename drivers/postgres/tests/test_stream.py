"""Streams."""

from __future__ import annotations

import tracemalloc

import pytest
from dbcore_postgres.connection import transaction_status
from dbcore_postgres.statements import batch, query, script
from dbcore_postgres.streaming import stream
from dbcore_postgres.transactions import commit
from postgres_connections import backend, connected, failure, rows, start

from dbcore.errors import QueryError, UsageError

MANY = "SELECT n, 'row ' || n AS name FROM generate_series(1, $1::int) AS n"


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (10, [10]), (25, [10, 10, 5])])
async def test_rows_come_in_chunks_of_the_size_asked_for(postgres_url: str, count: int, sizes: list[int]) -> None:
    async with connected(postgres_url) as (hooks, connection):
        chunks = [chunk async for chunk in stream(connection, MANY, (count,), 10)]
        assert [len(chunk.rows) for chunk in chunks] == sizes
        assert [row for chunk in chunks for row in chunk.rows] == [(n, f"row {n}") for n in range(1, count + 1)]
        assert all(chunk.columns == ("n", "name") for chunk in chunks)
        assert hooks.is_clean(connection)


async def test_what_goes_together_after_a_stream_is_not_taken_for_one(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(2):
            assert [len(chunk.rows) async for chunk in stream(connection, MANY, (25,), 10)] == [10, 10, 5]
            for _ in range(2):
                found = await batch(connection, [(MANY, (25,)), ("SELECT 1", ())])
                assert [result.count for result in found] == [25, 1]


async def test_a_long_stream_needs_little_memory(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        tracemalloc.start()
        try:
            count = 0
            async for chunk in stream(connection, MANY, (100_000,), 1000):
                count += len(chunk.rows)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert count == 100_000
        assert peak < 2_000_000


async def test_a_stream_that_is_left_early_stops_the_statement(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        pid = await backend(connection)
        left = stream(connection, MANY, (10_000_000,), 10)
        await anext(left)
        await left.aclose()
        assert hooks.is_clean(connection)
        assert await backend(connection) == pid


async def test_a_stream_that_is_left_early_does_not_doom_its_transaction(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (a int)")
        await start(connection)
        await query(connection, "INSERT INTO things VALUES (1)", ())
        left = stream(connection, MANY, (10_000_000,), 10)
        await anext(left)
        assert transaction_status(connection) == "open"
        await left.aclose()
        await query(connection, "INSERT INTO things VALUES (2)", ())
        await commit(connection)
        assert await rows(connection, "SELECT a FROM things ORDER BY a") == [(1,), (2,)]


async def test_a_stream_begins_the_transaction_that_waits(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await start(connection, "serializable")
        async for chunk in stream(connection, "SHOW transaction_isolation", (), 10):
            assert list(chunk.rows) == [("serializable",)]
        await commit(connection)
        assert transaction_status(connection) == "idle"


async def test_other_statements_have_to_wait_until_a_stream_is_closed(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        running = stream(connection, MANY, (100_000,), 10)
        await anext(running)
        error = await failure(query(connection, "SELECT 1", ()))
        assert isinstance(error, UsageError)
        assert "stream" in str(error)
        assert (await anext(running)).rows[0] == (11, "row 11")
        await running.aclose()


async def test_an_error_in_mid_stream_is_raised_and_the_connection_lives(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        running = stream(connection, "SELECT 1 / (50 - n) FROM generate_series(1, 100) AS n", (), 10)

        async def read() -> None:
            async for _ in running:
                pass

        assert isinstance(await failure(read()), QueryError)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT 1") == [(1,)]
