"""Streams: bounded however slow their reader, ended however they are left."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from dbcore_mysql import Connection
from dbcore_mysql.statements import query, script
from dbcore_mysql.streaming import stream
from dbcore_mysql.transactions import commit
from mysql_connections import connected, failure, rows, running, start
from mysql_place import fresh_database

from dbcore.errors import UsageError

NUMBERS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s) SELECT i, REPEAT('x', 500) FROM n"
)
DIGITS = "WITH d AS (SELECT 0 AS n" + " UNION ALL SELECT 1" * 9 + ")"
ENDLESS = f"{DIGITS} SELECT d1.n, REPEAT('x', %s) FROM d AS d1" + "".join(f", d AS d{n}" for n in range(2, 13))
"""10**12 rows, which are sent as they are found."""
LONG_LOOP = "variables.max_recursive_iterations=4294967295"


def buffered(connection: Connection) -> int:
    protocol: Any = connection._proto
    return len(protocol.buffer)


async def test_a_slow_reader_holds_the_server_up_and_not_the_rows(mysql_url: str) -> None:
    async with connected(f"{mysql_url}?{LONG_LOOP}") as (hooks, connection):
        largest = seen = 0
        async with aclosing(stream(connection, NUMBERS, [60_000], 1000)) as results:
            async for result in results:
                for _ in range(20):
                    await asyncio.sleep(0)  # time in which much could come
                seen += result.count
                largest = max(largest, buffered(connection))
        assert seen == 60_000
        assert largest <= 2**20
        assert hooks.is_clean(connection)
        assert hooks.is_usable(connection)


@pytest.mark.parametrize("take", [0, 1, 3])
async def test_a_stream_that_is_left_early_is_ended_at_the_server(mysql_url: str, take: int) -> None:
    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        for _ in range(3):
            source = stream(connection, ENDLESS, [500], 10)
            for _ in range(take):
                await anext(source)
            await source.aclose()
            assert not await running(admin, number)
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT CONNECTION_ID()") == [(number,)]


async def test_a_stream_inside_of_a_transaction_leaves_it_open(mysql_url: str) -> None:
    async with connected(mysql_url) as (_, connection):
        await query(connection, "CREATE TEMPORARY TABLE t (a INT)", ())
        await start(connection)
        await query(connection, "INSERT INTO t VALUES (1)", ())
        source = stream(connection, ENDLESS, [500], 10)
        await anext(source)
        await source.aclose()
        assert connection.in_transaction
        await commit(connection)
        assert await rows(connection, "SELECT a FROM t") == [(1,)]


async def test_a_statement_beside_an_open_stream_is_refused(mysql_url: str) -> None:
    async with connected(mysql_url) as (_, connection):
        async with aclosing(stream(connection, NUMBERS, [500], 10)) as results:
            await anext(results)
            with pytest.raises(UsageError, match="stream is open"):
                await query(connection, "SELECT 1", ())
            assert sum([result.count async for result in results]) == 490
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_an_error_in_the_middle_of_a_stream_is_told_and_ends_it(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        sql = "SELECT i, 1 / IF(i = 900, (SELECT 1 UNION SELECT 2), 1) FROM (" + NUMBERS + ") AS n"
        source = stream(connection, sql, [1000], 10)

        async def read() -> None:
            async for _ in source:
                pass

        assert (await failure(read())).sqlstate == "21000"
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_a_statement_that_returns_no_rows_is_an_empty_stream(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        assert [result async for result in stream(connection, "DO 1", (), 10)] == []
        assert hooks.is_clean(connection)


async def test_a_procedure_can_be_streamed(mysql_url: str) -> None:
    with fresh_database(mysql_url) as (url, _):
        async with connected(url) as (hooks, connection):
            await script(connection, "CREATE PROCEDURE p() BEGIN SELECT 1 AS a; SELECT 2 AS b; END")
            found = [result.rows async for result in stream(connection, "CALL p()", (), 10)]
            assert found == [[(1,)]]
            await hooks.reset(connection)
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT 1") == [(1,)]
