"""Streams: constant memory, one hop a batch, closed on every way out."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from dbcore_sqlite import Connection
from dbcore_sqlite.streams import stream
from dbcore_sqlite.transactions import commit
from sqlite_pools import SLOW, begin_write, count, held, numbers, one_connection, run, sqlite_pool, under_way, value

UP_TO = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n"


async def sizes(connection: Connection, total: int, size: int) -> list[int]:
    return [len(batch.rows) async for batch in stream(connection, UP_TO, (total,), size)]


@pytest.mark.parametrize(("total", "batches"), [(1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4])])
async def test_rows_come_in_batches(tmp_path: Path, total: int, batches: list[int]) -> None:
    async with one_connection(tmp_path) as connection:
        assert await sizes(connection, total, 4) == batches
        assert not connection.streams


async def test_a_stream_without_rows_tells_its_columns(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        found = [batch async for batch in stream(connection, "SELECT 1 AS a WHERE 0", (), 10)]
        assert [(batch.columns, list(batch.rows)) for batch in found] == [(("a",), [])]


async def test_many_rows_take_little_memory(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        seen = 0
        tracemalloc.start()
        try:
            async for batch in stream(connection, UP_TO, (300_000,), 1000):
                seen += len(batch.rows)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert seen == 300_000
        assert peak < 2_000_000


async def test_a_stream_left_early_lets_go_of_the_database(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as connection, held(pool) as writer:
        await numbers(connection)
        await run(connection, "INSERT INTO numbers VALUES (1), (2), (3)")
        rows = stream(connection, "SELECT n FROM numbers", (), 1)
        await anext(rows)
        await rows.aclose()
        assert not connection.streams
        await run(writer, "INSERT INTO numbers VALUES (4)")
        assert await count(connection) == 4
        assert await value(writer, "PRAGMA wal_checkpoint(TRUNCATE)") == 0


async def test_a_reader_that_streams_does_not_stop_writers(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as connection, held(pool) as writer:
        await numbers(connection)
        await run(connection, "INSERT INTO numbers VALUES (1), (2), (3)")
        rows = stream(connection, "SELECT n FROM numbers", (), 1)
        await anext(rows)
        assert connection.lane.owner is None
        await run(writer, "INSERT INTO numbers VALUES (4)")
        assert [batch.rows async for batch in rows] == [[(2,)], [(3,)]], "it sees the database as it was"


async def test_a_stream_of_a_write_holds_the_lane_to_its_end(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        rows = stream(connection, "INSERT INTO numbers VALUES (1), (2), (3) RETURNING n", (), 1)
        assert (await anext(rows)).rows == [(1,)]
        assert connection.lane.owner is connection
        assert [batch.rows async for batch in rows] == [[(2,)], [(3,)]]
        assert connection.lane.owner is None
        assert await count(connection) == 3


async def test_a_cancelled_stream_is_closed(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:

        async def read() -> None:
            async for _ in stream(connection, SLOW, (), 10):
                pass

        task = asyncio.create_task(read())
        await under_way(connection)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.is_quiet
        assert not connection.streams
        assert await value(connection, "SELECT 1") == 1


async def test_a_stream_inside_a_transaction_sees_its_writes(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        await begin_write(connection)
        await run(connection, "INSERT INTO numbers VALUES (1)")
        assert [batch.rows async for batch in stream(connection, "SELECT n FROM numbers", (), 10)] == [[(1,)]]
        await commit(connection)


async def test_an_error_of_the_statement_comes_out_of_the_stream(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        with pytest.raises(Exception, match="no such table"):
            await anext(stream(connection, "SELECT * FROM nowhere", (), 10))
        assert not connection.streams


DEFERRED = "CREATE TABLE children (n INTEGER, parent INTEGER REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)"
ORPHANS = "INSERT INTO children VALUES (1, 7), (2, 7), (3, 7) RETURNING n"


async def test_a_stream_of_a_write_left_early_has_written_all(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        rows = stream(connection, "INSERT INTO numbers VALUES (1), (2), (3) RETURNING n", (), 1)
        await anext(rows)
        await rows.aclose()
        assert await count(connection) == 3


async def test_a_stream_of_a_write_left_early_tells_that_nothing_was_written(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
        await run(connection, DEFERRED)
        rows = stream(connection, ORPHANS, (), 1)
        await anext(rows)
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            await rows.aclose()
        assert (connection.streams, connection.lane.owner) == (set(), None)
        assert await count(connection, "children") == 0
