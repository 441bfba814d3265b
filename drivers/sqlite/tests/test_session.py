"""What one holder leaves behind, the next one does not find."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, Literal

import aiosqlite
import pytest
from dbcore_sqlite import Connection
from dbcore_sqlite.session import is_clean, is_usable, touch
from dbcore_sqlite.statements import batch, script
from dbcore_sqlite.streams import stream
from sqlite_pools import begin_read, begin_write, count, held, numbers, run, sqlite_pool, value


def one(reset: str = "tracked") -> dict[str, Any]:
    return {"max_size": 1, "reset": reset}


MARKS: list[tuple[str, str, list[tuple[object]]]] = [
    ("PRAGMA foreign_keys = 0", "PRAGMA foreign_keys", [(1,)]),
    ("PRAGMA recursive_triggers(1)", "PRAGMA recursive_triggers", [(0,)]),
    ("PRAGMA query_only = 1", "PRAGMA query_only", [(0,)]),
    ("PRAGMA temp_store(2)", "PRAGMA temp_store", [(0,)]),
    ("PRAGMA cache_size = 17", "PRAGMA cache_size", [(-2000,)]),
    ("PRAGMA main.cache_size(17)", "PRAGMA cache_size", [(-2000,)]),
    ("PRAGMA case_sensitive_like = 1", "SELECT 'a' LIKE 'A'", [(1,)]),
    ("PRAGMA locking_mode = exclusive", "PRAGMA locking_mode", [("normal",)]),
    ("ATTACH ':memory:' AS other", "SELECT name FROM pragma_database_list WHERE name = 'other'", []),
    ("CREATE TEMP TABLE t (a)", "SELECT name FROM sqlite_temp_master", []),
    ('CREATE TABLE "temp".t (a)', "SELECT name FROM sqlite_temp_master", []),
    ('CREATE TABLE "temp"/* . */.t (a)', "SELECT name FROM sqlite_temp_master", []),
    ("\ufeffPRAGMA foreign_keys = 0", "PRAGMA foreign_keys", [(1,)]),
    ("PRAGMA \ufeff foreign_keys = 0", "PRAGMA foreign_keys", [(1,)]),
    ("\ufeffATTACH ':memory:' AS other", "SELECT name FROM pragma_database_list WHERE name = 'other'", []),
    ("\ufeffCREATE TEMP TABLE t (a)", "SELECT name FROM sqlite_temp_master", []),
    ("CREATE TEMPORARY VIEW v AS SELECT 1", "SELECT name FROM sqlite_temp_master", []),
]


@pytest.mark.parametrize("reset", ["tracked", "full"])
@pytest.mark.parametrize(("path", "clean"), [("app.db", 1), (":memory:", 2)])
async def test_synchronous_is_put_back(tmp_path: Path, path: str, reset: str, clean: int) -> None:
    async with sqlite_pool(tmp_path, one(reset), path=path) as pool:
        async with held(pool) as connection:
            await run(connection, "PRAGMA synchronous = 0")
            assert await value(connection, "PRAGMA synchronous") == 0
        async with held(pool) as again:
            assert again is connection
            assert await value(again, "PRAGMA synchronous") == clean


async def test_what_is_read_from_a_database_in_memory_is_put_back_after_native_use(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one(), path=":memory:") as pool:
        async with held(pool) as connection:
            touch(connection)
            await connection.execute("PRAGMA cache_size = 17")
        async with held(pool) as again:
            assert again is connection
            assert await value(again, "PRAGMA cache_size") == -2000


@pytest.mark.parametrize("path", ["app.db", ":memory:"])
@pytest.mark.parametrize("reset", ["tracked", "full"])
@pytest.mark.parametrize(("change", "look", "clean"), MARKS)
async def test_a_change_of_the_session_is_undone(
    tmp_path: Path, path: str, reset: str, change: str, look: str, clean: object
) -> None:
    """Laws: H7."""
    async with sqlite_pool(tmp_path, one(reset), path=path) as pool:
        async with held(pool) as connection:
            await run(connection, change)
            assert (await run(connection, look)).rows != clean
        async with held(pool) as connection:
            assert (await run(connection, look)).rows == clean


async def test_what_only_reads_leaves_a_connection_clean(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one()) as pool, held(pool) as connection:
        await numbers(connection)
        insert = "INSERT INTO numbers VALUES (1)"
        reading = ("SELECT 1", "PRAGMA table_info(numbers)", "PRAGMA main.index_list(numbers)")
        for sql in (*reading, "PRAGMA foreign_key_check(numbers)", "PRAGMA user_version = 3", insert):
            await run(connection, sql)
            assert is_clean(connection), sql


async def test_reset_transaction_leaves_the_session_as_it_is(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one("transaction")) as pool:
        async with held(pool) as connection:
            await run(connection, "PRAGMA recursive_triggers = 1")
            await numbers(connection)
            await run(connection, "BEGIN")
            await run(connection, "INSERT INTO numbers VALUES (1)")
        async with held(pool) as again:
            assert again is connection
            assert await value(again, "PRAGMA recursive_triggers") == 1
            assert await count(again) == 0


async def test_a_script_and_a_batch_are_watched_too(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            await script(connection, "CREATE TABLE a (b); CREATE TEMP TABLE t (a);")
            await batch(connection, [("CREATE TEMP TABLE u (a)", ())])
        async with held(pool) as connection:
            assert (await run(connection, "SELECT name FROM sqlite_temp_master")).rows == []


async def test_what_was_done_through_the_native_connection_is_undone(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            touch(connection)
            await connection.execute("PRAGMA recursive_triggers = 1")
            await connection.execute("CREATE TEMP TABLE t (a)")
            connection.row_factory = dict
        async with held(pool) as again:
            assert again is connection
            assert await value(again, "PRAGMA recursive_triggers") == 0
            assert (await run(again, "SELECT name FROM sqlite_temp_master")).rows == []


async def test_a_transaction_left_open_on_a_connection_in_other_hands_is_rolled_back(tmp_path: Path) -> None:
    """Python's `isolation_level = None` commits: the reset must not come to that before the rollback."""
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            await run(connection, "CREATE TABLE left_open (n INTEGER)")
        async with held(pool) as connection:
            touch(connection)
            await begin_write(connection)
            await run(connection, "INSERT INTO left_open VALUES (1)")
        async with held(pool) as again:
            assert again is connection
            assert await value(again, "SELECT count(*) FROM left_open") == 0


async def open_cursor(connection: Connection) -> aiosqlite.Cursor:
    """Natively, with more rows to come."""
    await numbers(connection)
    await run(connection, "INSERT INTO numbers VALUES (1), (2), (3)")
    touch(connection)
    cursor = await connection.execute("SELECT n FROM numbers")
    await cursor.fetchone()
    return cursor


async def test_a_native_cursor_left_open_costs_the_connection(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            cursor = await open_cursor(connection)
        async with held(pool) as other:
            assert other is not connection
        del cursor


async def test_a_cursor_left_open_is_noticed_each_time_and_nobody_is_warned_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            touch(connection)
        async with held(pool) as connection:
            cursor = await open_cursor(connection)
        async with held(pool) as other:
            assert other is not connection
        del cursor
    assert not caplog.records


async def test_transaction_leaves_what_was_set_on_the_connection_beside_its_transaction(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one("transaction")) as pool:
        async with held(pool) as connection:
            touch(connection)
            connection.native.row_factory = sqlite3.Row
            await begin_read(connection)
            await value(connection, "SELECT 1")
        async with held(pool) as again:
            assert again is connection
            assert not again.native.in_transaction
            assert again.native.row_factory is sqlite3.Row


async def test_full_replaces_a_connection_that_was_in_other_hands(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one("full")) as pool:
        async with held(pool) as connection:
            touch(connection)
            connection.native.create_function("leaked", 0, lambda: 1)
        async with held(pool) as other:
            with pytest.raises(Exception, match="no such function"):
                await run(other, "SELECT leaked()")


async def test_a_stream_left_open_is_closed(tmp_path: Path) -> None:
    """Laws: H10."""
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            await numbers(connection)
            await run(connection, "INSERT INTO numbers VALUES (1), (2), (3)")
            rows = stream(connection, "SELECT n FROM numbers", (), 1)
            await anext(rows)
            assert not is_clean(connection)
        async with held(pool) as again:
            assert again is connection
            assert not again.streams
            with pytest.raises(Exception, match="closed early"):
                await anext(rows)


async def test_a_read_only_transaction_left_open_does_not_bind_the_next_holder(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            await numbers(connection)
            await begin_read(connection)
            await count(connection)
        async with held(pool) as again:
            await run(again, "INSERT INTO numbers VALUES (1)")


async def test_a_transaction_that_never_began_costs_no_hop_to_reset(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            job = connection.job
            await begin_write(connection)
        async with held(pool) as again:
            assert again.job is job


async def test_a_connection_closed_by_its_holder_is_replaced(tmp_path: Path) -> None:
    """Laws: B3."""
    async with sqlite_pool(tmp_path, one()) as pool:
        async with held(pool) as connection:
            await connection.close()
            assert not is_usable(connection)
            assert not is_clean(connection)
        async with held(pool) as other:
            assert await value(other, "SELECT 1") == 1


@pytest.mark.parametrize("mode", ["transaction", "tracked", "full"])
async def test_what_the_next_holder_writes_is_kept_whatever_isolation_level_was_set(
    tmp_path: Path, mode: Literal["transaction", "tracked", "full"]
) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 1, "reset": mode}) as pool:
        async with held(pool) as connection:
            await numbers(connection)
            touch(connection)
            connection.native.isolation_level = "DEFERRED"
        async with held(pool) as connection:
            await run(connection, "INSERT INTO numbers VALUES (1)")
            assert not connection.inside
        async with held(pool) as connection:
            assert await count(connection) == 1


async def test_a_temporary_table_that_counts_costs_no_connection(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 1, "min_size": 1}) as pool:
        async with held(pool) as connection:
            await run(connection, "CREATE TEMP TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)")
            await run(connection, "INSERT INTO t DEFAULT VALUES")
        async with held(pool) as again:
            assert again is connection
            assert await value(again, "SELECT count(*) FROM sqlite_temp_master WHERE name = 't'") == 0


@pytest.mark.parametrize("mode", ["transaction", "tracked", "full"])
async def test_a_native_connection_that_was_closed_is_replaced(
    tmp_path: Path, mode: Literal["transaction", "tracked", "full"], caplog: pytest.LogCaptureFixture
) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 1, "reset": mode}) as pool:
        for whole in (True, False):
            async with held(pool) as connection:
                touch(connection)
                if whole:
                    await connection.close()
                else:
                    await asyncio.to_thread(connection.native.close)  # it waits for its threads
            async with held(pool) as other:
                assert other is not connection
                assert await value(other, "SELECT 1") == 1
    assert "raised" not in caplog.text
