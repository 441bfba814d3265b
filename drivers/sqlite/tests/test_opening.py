"""A connect that cannot succeed says why and how to cure it; one that can, does, whoever else opens the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cutting import connects_that_are_cut_off_leave_no_file_open, on_linux
from dbcore_sqlite import start_pool
from dbcore_sqlite.pool import make_home, make_hooks
from sqlite_pools import count, held, one_connection, run, sqlite_config, sqlite_pool, value

from dbcore.errors import ConfigError, DbConnectionError

as_root = hasattr(os, "geteuid") and os.geteuid() == 0


async def refusal(folder: Path, **settings: Any) -> DbConnectionError:
    with pytest.raises(DbConnectionError) as caught:
        await start_pool(sqlite_config(folder, **settings))
    return caught.value


async def test_a_missing_folder_is_permanent_and_named(tmp_path: Path) -> None:
    error = await refusal(tmp_path, path="no/such/app.db")
    assert not error.retryable
    assert f"the folder {tmp_path / 'no/such'} does not exist; create it" in str(error)


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "app.db").mkdir()
    error = await refusal(tmp_path)
    assert not error.retryable
    assert "is a folder; path must name a file" in str(error)


async def test_a_file_that_is_no_database_is_permanent(tmp_path: Path) -> None:
    """Laws: A12."""
    (tmp_path / "app.db").write_bytes(b"something else altogether" * 100)
    error = await refusal(tmp_path)
    assert not error.retryable
    assert "is not a SQLite database" in str(error)
    assert isinstance(error.__cause__, sqlite3.DatabaseError)


@pytest.mark.parametrize("settings", [{"create": False}, {"read_only": True}])
async def test_a_missing_file_is_permanent_where_none_is_created(tmp_path: Path, settings: dict[str, Any]) -> None:
    error = await refusal(tmp_path, **settings)
    assert not error.retryable
    assert "does not exist, and" in str(error)
    assert not (tmp_path / "app.db").exists()


@pytest.mark.skipif(as_root, reason="root may do everything")
async def test_a_file_without_permission_is_permanent(tmp_path: Path) -> None:
    (tmp_path / "app.db").touch(mode=0o000)
    error = await refusal(tmp_path)
    assert not error.retryable
    assert "no permission" in str(error)


async def test_a_file_locked_by_another_process_may_pass(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    foreign.execute("BEGIN EXCLUSIVE")
    error = await refusal(tmp_path, busy_timeout=0.02)
    assert error.retryable
    assert "locked by somebody else" in str(error)
    foreign.execute("COMMIT")
    foreign.close()
    async with one_connection(tmp_path, busy_timeout=0.02):
        pass


async def test_two_pools_that_turn_a_new_file_to_wal_at_once_both_open_it(tmp_path: Path) -> None:
    for turn in range(10):
        pools = await asyncio.gather(
            *(start_pool(sqlite_config(tmp_path, {"min_size": 4}, path=f"{turn}.db")) for _ in range(2))
        )
        for pool in pools:
            async with held(pool) as connection:
                assert await value(connection, "PRAGMA journal_mode") == "wal"
            await pool.stop()


_OPENER = """
import asyncio, sys
from pathlib import Path
from sqlite_pools import held, run, sqlite_pool

async def main():
    for turn in range(10):
        async with sqlite_pool(Path(sys.argv[1]), {"min_size": 3}, path=f"{turn}.db") as pool, held(pool) as connection:
            await run(connection, "CREATE TABLE IF NOT EXISTS numbers (n INTEGER)")
            await run(connection, "INSERT INTO numbers VALUES (1)")

asyncio.run(main())
"""


async def test_processes_that_open_the_same_new_files_at_once_all_succeed(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _OPENER, str(tmp_path)]
    processes = [
        await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE) for _ in range(3)
    ]
    for process in processes:
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
    for turn in range(10):
        async with one_connection(tmp_path, path=f"{turn}.db") as connection:
            assert await count(connection) == 3


async def test_credentials_cannot_give_another_path(tmp_path: Path) -> None:
    """Laws: P3."""
    from dataclasses import replace

    config = replace(sqlite_config(tmp_path), credentials=lambda: {"path": "other.db"})
    with pytest.raises(ConfigError, match="one database"):
        await start_pool(config)


async def test_a_connection_whose_file_was_replaced_is_not_used_again(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, journal_mode="delete") as pool:
        async with held(pool) as connection:
            await run(connection, "CREATE TABLE numbers (n INTEGER)")
            (tmp_path / "app.db").rename(tmp_path / "gone.db")
            with pytest.raises(sqlite3.OperationalError):
                await run(connection, "INSERT INTO numbers VALUES (1)")
        async with held(pool) as other:
            assert other is not connection
            await run(other, "CREATE TABLE numbers (n INTEGER)")


async def test_a_program_that_never_stops_still_exits(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from sqlite_pools import run, sqlite_config
from dbcore_sqlite import start_pool

async def main():
    pool = await start_pool(sqlite_config(Path(sys.argv[1])))
    global kept
    kept = await pool.checkout()
    await run(kept[0], "SELECT 1")

asyncio.run(main())
"""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), env=environment)
    async with asyncio.timeout(20):
        assert await process.wait() == 0


@on_linux
async def test_a_connect_leaves_no_file_open_wherever_it_is_cut_off(tmp_path: Path) -> None:
    """Laws: E6."""
    config = sqlite_config(tmp_path)
    home, _, finish = make_home(config)
    await connects_that_are_cut_off_leave_no_file_open(make_hooks(config, home))
    await finish()
