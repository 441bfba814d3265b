"""Many tasks, two processes, hundreds of cancellations, many rows: through the face, as an application does it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest
from sqlite_pools import SLOW, SLOW_WRITE, THREADS

import dbcore

TASKS, TURNS = 100, 50

_STORM = f"""
import asyncio, sys
import dbcore

async def main():
    pool = {{"max_size": 10, "checkout_timeout": 300}}
    async with dbcore.open({{"url": "sqlite:///" + sys.argv[1], "busy_timeout": 60, "pool": pool}}) as database:
        reads = 0

        async def write():
            for _ in range({TURNS}):
                async with database.transaction() as tx:
                    n = await tx.fetch_value("SELECT n FROM counter")
                    await tx.execute("UPDATE counter SET n = $1", [n + 1])

        async def read():
            nonlocal reads
            last = 0
            while True:
                n = await database.fetch_value("SELECT n FROM counter")
                assert n >= last, "a reader goes forward in time"
                last, reads = n, reads + 1
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            for _ in range({TASKS}):
                group.create_task(write())
        assert reads > 0
        for reader in readers:
            assert not reader.done(), reader.exception()
            reader.cancel()

asyncio.run(main())
"""


@pytest.mark.parametrize("processes", [1, 2])
async def test_100_tasks_of_50_write_transactions_beside_readers_lose_nothing(tmp_path: Path, processes: int) -> None:
    path = tmp_path / "app.db"
    async with dbcore.open(f"sqlite:///{path}") as database:
        await database.execute_script("CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)")
    command = [sys.executable, "-c", _STORM, str(path)]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    storms = [
        await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
        for _ in range(processes)
    ]
    for storm in storms:
        _, said = await storm.communicate()
        assert storm.returncode == 0, said.decode()
    async with dbcore.open(f"sqlite:///{path}") as database:
        assert await database.fetch_value("SELECT n FROM counter") == processes * TASKS * TURNS


@pytest.mark.parametrize("sql", [SLOW, SLOW_WRITE])
async def test_200_cancelled_statements_leave_their_threads_idle_and_leak_nothing(tmp_path: Path, sql: str) -> None:
    threads = set(threading.enumerate())
    async with dbcore.open(f"sqlite:///{tmp_path / 'app.db'}") as database:
        await database.execute("CREATE TABLE numbers (n INTEGER)")
        for turn in range(200):
            before = database.stats().checkouts
            task = asyncio.create_task(database.execute(sql))
            while database.stats().checkouts == before:
                await asyncio.sleep(0)
            for _ in range(turn % 5 * 40):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):  # a second, as promised, and more for a busy machine
                assert await database.fetch_value("SELECT count(*) FROM numbers") == 0
            assert database.stats().in_use == 0
        stats = database.stats()
        assert (stats.connects, stats.size, stats.idle) == (1, 1, 1)
        assert len(set(threading.enumerate()) - threads) == THREADS + 1  # the writer
    assert not set(threading.enumerate()) - threads


async def test_a_long_stream_takes_little_memory(tmp_path: Path) -> None:
    sql = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i, 'row ' || i FROM n"
    )
    async with dbcore.open(f"sqlite:///{tmp_path / 'app.db'}") as database:
        seen = 0
        tracemalloc.start()
        try:
            async with database.stream(sql) as rows:
                async for row in rows:
                    seen += row[0]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert seen == 100_000 * 100_001 // 2
    assert peak < 1_000_000, "a million such rows keep within the same"


async def test_one_shot_writes_wait_before_their_checkout_and_leave_connections_to_readers(tmp_path: Path) -> None:
    source = {"url": f"sqlite:///{tmp_path}/app.db", "pool": {"max_size": 3}, "writers": 1}
    async with dbcore.open(source) as database:
        await database.execute("CREATE TABLE notes (n INTEGER)")
        async with database.connection() as writer:
            await writer.execute("BEGIN IMMEDIATE")  # keeps the lane until it ends
            writes = [asyncio.create_task(database.execute("INSERT INTO notes VALUES ($1)", [n])) for n in range(20)]
            for _ in range(5):
                assert await database.fetch_value("SELECT count(*) FROM notes") == 0
            stats = database.stats()
            assert stats.in_use == 2  # the writer, and the one write that was admitted
            await writer.execute("COMMIT")
            await asyncio.gather(*writes)
        assert await database.fetch_value("SELECT count(*) FROM notes") == 20
