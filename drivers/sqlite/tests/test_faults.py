"""What goes wrong with the file, as the user of the face sees it: a clear error, and a pool that recovers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from connections import until
from dbcore_sqlite.statements import script
from sqlite_pools import count, numbers, one_connection, run, under_way

import dbcore
from dbcore import Database

PATIENCE = 0.02


@asynccontextmanager
async def opened(path: Path, **keys: Any) -> AsyncGenerator[Database, None]:
    async with dbcore.open({"url": f"sqlite:///{path}", "busy_timeout": PATIENCE, **keys}) as database:
        yield database


async def refusal(path: Path, **keys: Any) -> dbcore.DbConnectionError:
    with pytest.raises(dbcore.DbConnectionError) as caught:
        async with opened(path, **keys):
            pass
    assert caught.value.driver == "sqlite"
    assert str(path) in str(caught.value)
    return caught.value


async def make(path: Path, rows: int = 1) -> None:
    async with opened(path) as database:
        await database.execute("CREATE TABLE numbers (n INTEGER)")
        await database.insert_many("numbers", ["n"], ((number,) for number in range(rows)))


async def insert(database: Database) -> None:
    await database.execute("INSERT INTO numbers VALUES (1)")


async def total(database: Database) -> int:
    found: int = await database.fetch_value("SELECT count(*) FROM numbers")
    return found


async def is_back(database: Database) -> bool:
    with suppress(dbcore.DbConnectionError):
        await total(database)
        return True
    return False


async def every_connection(database: Database) -> list[int]:
    """What each of two connections, held at once, sees."""
    async with database.connection() as one, database.connection() as other:
        return [await each.fetch_value("SELECT count(*) FROM numbers") for each in (one, other)]


# -- the disk ----------------------------------------------------------------------------------------------------------

_LIMITED = """
import asyncio, resource, sys
import dbcore

BLOB = b"x" * 300_000

async def refused(work):
    try:
        await work
    except dbcore.QueryError as error:
        assert "the disk is full, failing or away" in str(error), error
        assert "SQLITE_IOERR_WRITE" in str(error), error
        return
    raise AssertionError("nothing was refused")

async def transaction(database):
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO blobs VALUES (1)")
        await tx.execute("INSERT INTO blobs VALUES ($1)", [BLOB])

async def main():
    async with dbcore.open({"url": "sqlite:///" + sys.argv[1], "journal_mode": sys.argv[2]}) as database:
        await database.execute("CREATE TABLE blobs (b)")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        await refused(database.execute("INSERT INTO blobs VALUES ($1)", [BLOB]))
        await refused(transaction(database))
        await refused(database.execute_many("INSERT INTO blobs VALUES ($1)", [[BLOB], [BLOB]]))
        await refused(database.insert_many("blobs", ["b"], [[BLOB]]))
        assert await database.fetch_value("SELECT count(*) FROM blobs") == 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await transaction(database)
        assert await database.fetch_value("SELECT count(*) FROM blobs") == 2
        assert await database.fetch_value("PRAGMA integrity_check") == "ok"
        assert database.stats().size == 1, database.stats()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits for the size of a file")
@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
async def test_a_file_that_cannot_grow_is_an_error_until_it_can(tmp_path: Path, journal_mode: str) -> None:
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / "app.db"), journal_mode]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_no_room_ends_the_transaction_and_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "app.db", pragmas={"max_page_count": 20}) as database:
        await database.execute("CREATE TABLE blobs (b)")
        with pytest.raises(dbcore.QueryError, match=r"SQLITE_FULL.*no room is left"):
            await database.execute("INSERT INTO blobs VALUES ($1)", [b"x" * 200_000])
        with pytest.raises(dbcore.TransactionError, match="rolled it back"):
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO blobs VALUES (1)")
                with pytest.raises(dbcore.QueryError, match="no room is left"):
                    await tx.execute("INSERT INTO blobs VALUES ($1)", [b"x" * 200_000])
                await tx.execute("INSERT INTO blobs VALUES (2)")
        await database.execute("INSERT INTO blobs VALUES (3)")
        assert await database.fetch_all("SELECT b FROM blobs") == [(3,)]


# -- locks of others ---------------------------------------------------------------------------------------------------


async def in_transaction(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO numbers VALUES (1)")


async def bulk(database: Database) -> None:
    await database.insert_many("numbers", ["n"], [(1,)])


@pytest.mark.parametrize("write", [insert, in_transaction, bulk])
async def test_a_lock_of_another_process_is_a_conflict_and_readers_go_on(
    tmp_path: Path, write: Callable[[Database], Any]
) -> None:
    await make(tmp_path / "app.db")
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as foreign:
        async with opened(tmp_path / "app.db") as database:
            foreign.execute("BEGIN IMMEDIATE")
            with pytest.raises(dbcore.ConflictError, match="busy_timeout") as caught:
                await write(database)
            assert caught.value.retryable
            assert await total(database) == 1
            foreign.execute("COMMIT")
            await write(database)
            assert await total(database) == 2


async def test_a_file_locked_whole_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    await make(tmp_path / "app.db")
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as foreign:
        foreign.execute("PRAGMA journal_mode = delete")
        foreign.execute("BEGIN EXCLUSIVE")
        error = await refusal(tmp_path / "app.db", journal_mode="delete")
        assert error.retryable
        assert "was locked by somebody else for busy_timeout = 0.02 s" in str(error)
        foreign.execute("ROLLBACK")
        async with opened(tmp_path / "app.db", journal_mode="delete") as database:
            foreign.execute("BEGIN EXCLUSIVE")
            with pytest.raises(dbcore.ConflictError):
                await total(database)
            foreign.execute("ROLLBACK")
            assert await total(database) == 1


# -- the wrong file ----------------------------------------------------------------------------------------------------


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    error = await refusal(tmp_path)
    assert "is a folder; path must name a file" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("size", [50, 5000])
async def test_a_file_with_a_spoilt_head_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "app.db"
    await make(path)
    path.write_bytes(b"x" * size)
    error = await refusal(path)
    assert "is not a SQLite database" in str(error)
    assert not error.retryable
    assert path.read_bytes() == b"x" * size


async def test_a_spoilt_page_is_an_error_where_it_is_read_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    await make(path, 20_000)
    async with opened(path) as database:
        await database.execute("CREATE TABLE whole (n INTEGER)")
        page = await database.fetch_value("PRAGMA page_size")
    content = bytearray(path.read_bytes())
    content[page * 5 : page * 10] = b"\xff" * (page * 5)
    path.write_bytes(content)
    async with opened(path) as database:
        with pytest.raises(dbcore.DbConnectionError, match=r"SQLITE_CORRUPT.*restore it from a backup") as caught:
            await database.fetch_value("SELECT sum(n) FROM numbers")
        assert not caught.value.retryable
        with pytest.raises(dbcore.DbConnectionError, match="SQLITE_CORRUPT"):
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO whole VALUES (1)")
                await tx.fetch_value("SELECT sum(n) FROM numbers")
        await database.execute("INSERT INTO whole VALUES (2)")
        assert await database.fetch_all("SELECT n FROM whole") == [(2,)]


# -- no writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [insert, in_transaction, bulk])
async def test_a_file_opened_for_reading_takes_no_write_and_goes_on(
    tmp_path: Path, write: Callable[[Database], Any]
) -> None:
    await make(tmp_path / "app.db")
    async with opened(tmp_path / "app.db", read_only=True) as database:
        with pytest.raises(dbcore.QueryError, match="allows no writing"):
            await write(database)
        assert await total(database) == 1


def may_write_anything(folder: Path) -> bool:
    """Whether permissions mean nothing here, as for root."""
    probe = folder / "probe"
    probe.touch(mode=0o400)
    return os.access(probe, os.W_OK)


async def test_a_file_without_permission_to_write_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    await make(path)
    path.chmod(0o400)
    if may_write_anything(tmp_path):
        pytest.skip("root may do everything")
    error = await refusal(path)
    assert "no permission to open" in str(error)
    assert "set read_only = true" in str(error)
    async with opened(path, read_only=True) as database:
        assert await total(database) == 1


# -- deleted and replaced ----------------------------------------------------------------------------------------------


async def test_a_file_deleted_under_the_pool_is_made_anew_for_all_of_its_connections(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "app.db"
    await make(path)
    async with opened(path) as database:
        await insert(database)
        path.unlink()
        await insert(database)
        assert await total(database) == 3, "WAL keeps the file alive"
        async with database.connection() as older, database.connection() as newer:
            assert await older.fetch_value("SELECT count(*) FROM numbers") == 3
            with pytest.raises(dbcore.QueryError, match="no such table"):
                await newer.fetch_value("SELECT count(*) FROM numbers")
        assert "was deleted or replaced while it was open" in caplog.text
        assert str(path) in caplog.text
        await database.execute("CREATE TABLE numbers (n INTEGER)")
        assert await every_connection(database) == [0, 0]
        assert len(caplog.records) == 1


async def test_a_file_deleted_without_wal_is_an_error_for_the_first_writer(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    await make(path)
    async with opened(path, journal_mode="delete") as database:
        path.unlink()
        with pytest.raises(dbcore.DbConnectionError, match="moved or deleted while it was open") as caught:
            await insert(database)
        assert caught.value.retryable
        await database.execute("CREATE TABLE numbers (n INTEGER)")
        assert await every_connection(database) == [0, 0]


async def test_a_deleted_file_that_may_not_be_created_is_an_error_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    await make(path)
    async with opened(path, create=False, journal_mode="delete") as database:
        path.rename(tmp_path / "away.db")
        with pytest.raises(dbcore.DbConnectionError, match="moved or deleted"):
            await insert(database)
        with pytest.raises(dbcore.DbConnectionError, match="does not exist, and create is false"):
            await insert(database)
        (tmp_path / "away.db").rename(path)
        await until(lambda: is_back(database))
        assert await total(database) == 1


async def test_a_file_that_was_replaced_is_the_new_one_for_every_connection(tmp_path: Path) -> None:
    path, backup = tmp_path / "app.db", tmp_path / "backup.db"
    await make(path)
    await make(backup, 7)
    async with opened(path) as database:
        assert await every_connection(database) == [1, 1]
        backup.replace(path)
        await database.drain()
        assert await every_connection(database) == [7, 7]
        assert await database.fetch_value("PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize(
    "text",
    ["BEGIN IMMEDIATE; INSERT INTO numbers VALUES (1); COMMIT", "BEGIN; INSERT INTO numbers VALUES (1); COMMIT"],
)
async def test_a_script_with_a_transaction_of_its_own_waits_for_another_process_too(tmp_path: Path, text: str) -> None:
    async with one_connection(tmp_path, busy_timeout=10) as connection:
        await numbers(connection)
        with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(script(connection, text))
            await under_way(connection)
            assert not task.done()
            foreign.execute("ROLLBACK")
            await task
        assert await count(connection) == 1


async def test_a_script_that_waits_for_another_process_can_be_cancelled(tmp_path: Path) -> None:
    async with one_connection(tmp_path, busy_timeout=60) as connection:
        await numbers(connection)
        with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(script(connection, "BEGIN IMMEDIATE; DELETE FROM numbers; COMMIT"))
            await under_way(connection)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            foreign.execute("ROLLBACK")
        await run(connection, "INSERT INTO numbers VALUES (1)")
        assert await count(connection) == 1
