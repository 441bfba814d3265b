"""`:memory:` is one database for the whole pool."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from dbcore_sqlite.streams import stream
from dbcore_sqlite.transactions import commit
from sqlite_pools import THREADS, begin_write, count, held, numbers, one_connection, run, sqlite_pool, value

from dbcore.errors import PoolDeadlock

MEMORY = ":memory:"


async def test_every_connection_sees_the_same_database(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, path=MEMORY) as pool, held(pool) as one, held(pool) as other:
        await numbers(one)
        await run(one, "INSERT INTO numbers VALUES (1)")
        assert await count(other) == 1


async def test_two_pools_have_two_databases(tmp_path: Path) -> None:
    async with one_connection(tmp_path, path=MEMORY) as one, one_connection(tmp_path, path=MEMORY) as other:
        await numbers(one)
        assert await value(other, "SELECT count(*) FROM sqlite_master") == 0


async def test_the_data_outlive_every_connection(tmp_path: Path) -> None:
    """Laws: I15."""
    async with sqlite_pool(tmp_path, path=MEMORY) as pool:
        async with held(pool) as connection:
            await numbers(connection)
        assert pool.drain
        await pool.drain()
        async with held(pool) as other:
            assert other is not connection
            assert await count(other) == 0


async def test_the_data_end_with_the_pool(tmp_path: Path) -> None:
    for _ in range(2):
        async with sqlite_pool(tmp_path, path=MEMORY) as pool, held(pool) as connection:
            await numbers(connection)


async def test_readers_and_writers_take_turns_and_never_see_a_lock(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 6}, path=MEMORY, busy_timeout=0) as pool:
        async with held(pool) as connection:
            await numbers(connection)
            await run(connection, "INSERT INTO numbers VALUES (0)")

        async def write() -> None:
            for _ in range(20):
                async with held(pool) as connection:
                    await begin_write(connection)
                    n = await value(connection, "SELECT n FROM numbers")
                    await run(connection, "UPDATE numbers SET n = ?", n + 1)
                    await commit(connection)

        async def read() -> None:
            for _ in range(40):
                async with held(pool) as connection:
                    assert await count(connection) == 1

        async with asyncio.TaskGroup() as group:
            for work in [write] * 6 + [read] * 6:
                group.create_task(work())
        async with held(pool) as connection:
            assert await value(connection, "SELECT n FROM numbers") == 120


async def test_an_own_read_beside_an_own_transaction_fails_at_once(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, path=MEMORY) as pool, held(pool) as one, held(pool) as other:
        await numbers(one)
        await begin_write(one)
        await run(one, "INSERT INTO numbers VALUES (1)")
        with pytest.raises(PoolDeadlock, match="waits for itself"):
            await count(other)
        await commit(one)
        assert await count(other) == 1


async def test_an_open_stream_keeps_the_lane(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, path=MEMORY) as pool, held(pool) as connection:
        await numbers(connection)
        await run(connection, "INSERT INTO numbers VALUES (1), (2), (3)")
        rows = stream(connection, "SELECT n FROM numbers", (), 1)
        await anext(rows)
        assert connection.lane.owner is connection
        await rows.aclose()
        assert connection.lane.owner is None


async def test_a_connection_can_be_opened_while_a_transaction_is_open(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, path=MEMORY, busy_timeout=0) as pool, held(pool) as one:
        await numbers(one)
        await begin_write(one)
        await run(one, "INSERT INTO numbers VALUES (1)")
        async with held(pool):
            pass
        await commit(one)


async def test_the_lane_covers_readers_where_a_file_has_no_wal(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 4}, journal_mode="delete", busy_timeout=0) as pool:
        async with held(pool) as connection:
            await numbers(connection)
            await run(connection, "INSERT INTO numbers VALUES (0)")

        async def work() -> None:
            for _ in range(10):
                async with held(pool) as connection:
                    await run(connection, "UPDATE numbers SET n = n + 1")
                    await count(connection)

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(work())
        async with held(pool) as connection:
            assert await value(connection, "SELECT n FROM numbers") == 60


async def test_stop_leaves_no_thread(tmp_path: Path) -> None:
    """Laws: J8."""
    before = set(threading.enumerate())
    async with sqlite_pool(tmp_path, {"min_size": 3}, path=MEMORY):
        assert len(set(threading.enumerate()) - before) == 3 * THREADS
    assert not set(threading.enumerate()) - before
