"""Writers line up, in order, and nobody inside the process ever hears "database is locked"."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from dbcore_sqlite import Connection, start_pool
from dbcore_sqlite.bulk import insert_many
from dbcore_sqlite.errors import to_error
from dbcore_sqlite.lane import Line
from dbcore_sqlite.transactions import commit, rollback
from sqlite_pools import (
    begin_read,
    begin_write,
    count,
    held,
    numbers,
    run,
    sqlite_config,
    sqlite_pool,
    under_way,
    value,
)

import dbcore
import dbcore as db
from dbcore.errors import ConflictError, PoolClosed, PoolDeadlock, PoolTimeout
from dbcore.pool import PoolOps


async def test_writers_on_many_connections_lose_nothing_and_never_see_a_lock(tmp_path: Path) -> None:
    async def work(pool: PoolOps[Connection], number: int) -> None:
        assert pool.admit
        for turn in range(15):
            if (number + turn) % 3:
                leave = await pool.admit(None)
                async with held(pool) as connection:
                    await begin_write(connection)
                    n = await value(connection, "SELECT n FROM numbers")
                    await run(connection, "UPDATE numbers SET n = ?", n + 1)
                    await commit(connection)
                leave()
            else:
                async with held(pool) as connection:
                    await run(connection, "UPDATE numbers SET n = n + 1")

    async with sqlite_pool(tmp_path, {"max_size": 8}, busy_timeout=0) as pool:
        async with held(pool) as connection:
            await numbers(connection)
            await run(connection, "INSERT INTO numbers VALUES (0)")
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(work(pool, number))
        async with held(pool) as connection:
            assert await value(connection, "SELECT n FROM numbers") == 300
            assert connection.lane.owner is None


async def test_a_line_serves_who_came_first_and_nobody_passes() -> None:
    line = Line(1, name="main", timeout=10)
    assert line.enter_now()
    served: list[int] = []

    async def wait(number: int) -> None:
        await line.enter()
        served.append(number)
        line.leave()

    tasks = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    line.leave()
    assert not line.enter_now()
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4]
    assert line.enter_now()


async def test_a_cancelled_waiter_keeps_nothing() -> None:
    line = Line(1, name="main", timeout=10)
    await line.enter()
    first, second = asyncio.create_task(line.enter()), asyncio.create_task(line.enter())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    line.leave()
    await second
    assert line.waiting == 0


async def test_a_waiter_cancelled_in_the_turn_of_its_hand_over_passes_it_on() -> None:
    line = Line(1, name="main", timeout=10)
    await line.enter()
    first, second = asyncio.create_task(line.enter()), asyncio.create_task(line.enter())
    await asyncio.sleep(0)
    line.leave()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    await second


async def test_a_writer_whose_time_is_up_is_told_why(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"checkout_timeout": 0.05}) as pool, held(pool) as one, held(pool) as other:
        await numbers(one)
        await begin_write(one)

        async def write() -> None:
            await run(other, "INSERT INTO numbers VALUES (1)")

        with pytest.raises(PoolTimeout, match="'main'") as caught:
            await asyncio.create_task(write())
        assert caught.value.reason == "writers"
        assert caught.value.stats is not None
        assert caught.value.stats.in_use == 2
        assert any(holder.in_transaction for holder in caught.value.holders)
        await rollback(one)
        await write()
        assert await count(one) == 1


async def test_a_task_that_waits_for_its_own_lane_fails_at_once(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as one, held(pool) as other:
        assert pool.admit
        await numbers(one)
        await begin_write(one)
        with pytest.raises(PoolDeadlock, match="waits for itself"):
            await run(other, "INSERT INTO numbers VALUES (1)")
        with pytest.raises(PoolDeadlock, match="waits for itself"):
            await begin_write(other)
        with pytest.raises(PoolDeadlock, match="waits for itself"):
            await pool.admit(None)
        assert await count(other) == 0, "it may read there"
        await commit(one)
        await run(other, "INSERT INTO numbers VALUES (1)")


async def test_the_gate_admits_as_many_as_the_setting_says(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, writers=2) as pool:
        admit = pool.admit
        assert admit is not None
        leave = [await asyncio.ensure_future(admit(None)) for _ in range(2)]
        with pytest.raises(PoolTimeout) as caught:
            await asyncio.ensure_future(admit(0.02))
        assert caught.value.reason == "writers"
        waiting = asyncio.ensure_future(admit(None))
        await asyncio.sleep(0)
        leave[0]()
        leave[0]()
        (await waiting)()
        leave[1]()


async def test_a_task_that_was_admitted_passes_the_gate_again(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, writers=1) as pool:
        assert pool.admit
        leave = await pool.admit(None)
        again = await pool.admit(None)
        again()
        leave()
        (await pool.admit(0))()


async def test_the_time_given_to_a_transaction_covers_the_lane_too(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as one, held(pool) as other:
        await begin_write(one)
        loop = asyncio.get_running_loop()

        async def write() -> None:
            assert pool.admit
            leave = await pool.admit(0.05)
            try:
                await begin_write(other)
            finally:
                leave()

        started = loop.time()
        with pytest.raises(PoolTimeout):
            await asyncio.create_task(write())
        assert loop.time() - started < 5
        await rollback(one)


async def test_a_transaction_on_a_connection_waits_for_the_lane_as_long_as_it_is_told(tmp_path: Path) -> None:
    database = db.open(f"sqlite:///{tmp_path}/app.db")
    async with database, database.transaction() as tx, database.connection() as other:
        await tx.execute("CREATE TABLE items (id INTEGER)")

        async def write() -> None:
            with pytest.raises(PoolTimeout, match=r"for 0\.01 s") as caught:
                async with other.transaction(timeout=0.01):
                    pass
            assert caught.value.reason == "writers"
            async with other.transaction(read_only=True, timeout=0.01):
                pass  # it waits for nobody

        await asyncio.create_task(write())
        await tx.rollback()


async def test_a_writer_whose_time_is_up_hears_of_the_limit_it_was_given(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as one, held(pool) as other:
        await begin_write(one)

        async def write() -> None:
            assert pool.admit
            leave = await pool.admit(0.05)
            try:
                await asyncio.sleep(0)  # the checkout takes a part of it
                await begin_write(other)
            finally:
                leave()

        with pytest.raises(PoolTimeout, match=r"in front for 0\.05 s;"):
            await asyncio.create_task(write())
        await rollback(one)


@pytest.mark.parametrize("leave_open", [True, False])
async def test_a_transaction_that_is_dropped_gives_its_place_behind_the_gate_back(
    tmp_path: Path, leave_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    async with db.open({"url": url, "writers": 1, "pool.checkout_timeout": 1}) as database:

        async def forget() -> None:
            tx = await database.transaction().__aenter__()
            if not leave_open:
                await tx.rollback()

        for _ in range(2):
            await asyncio.create_task(forget())
            gc.collect()
            await database.execute("CREATE TABLE IF NOT EXISTS items (id INTEGER)")
        assert "dropped without being released" in caplog.text


async def test_an_admission_is_given_back_once(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, writers=1) as pool, held(pool) as connection:
        assert pool.admit
        lane = connection.lane
        leave = await pool.admit(None)
        lane.dismiss(asyncio.current_task())
        again = await pool.admit(None)
        leave()
        with pytest.raises(PoolTimeout):
            await asyncio.create_task(admitted(pool, 0))
        again()
        await asyncio.create_task(admitted(pool, 0))


async def admitted(pool: PoolOps[Connection], timeout: float) -> None:
    assert pool.admit
    (await pool.admit(timeout))()


async def test_rows_that_are_slow_to_come_keep_no_writer_out(tmp_path: Path) -> None:
    asked, come = asyncio.Event(), asyncio.Event()

    async def rows() -> AsyncIterator[tuple[int]]:
        asked.set()
        await come.wait()
        yield (1,)

    url = f"sqlite:///{tmp_path}/app.db"
    async with db.open({"url": url, "writers": 1, "pool.checkout_timeout": 1}) as database:
        await database.execute("CREATE TABLE items (id INTEGER)")
        loading = asyncio.create_task(database.insert_many("items", ["id"], rows()))
        await asked.wait()
        assert await database.execute("INSERT INTO items VALUES (2)") == 1
        come.set()
        assert await loading == 1


async def test_rows_that_are_slow_to_come_leave_all_of_the_wait_for_the_lane(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as one, held(pool) as other:
        await numbers(one)
        await begin_write(one)

        async def rows() -> AsyncIterator[tuple[int]]:
            assert asyncio.current_task() not in other.lane.admitted
            yield (1,)

        async def load() -> int:
            assert pool.admit
            leave = await pool.admit(0)
            try:
                return await insert_many(other, ("numbers",), ["n"], rows())
            finally:
                leave()

        loading = asyncio.create_task(load())
        while not one.lane.line.waiting:
            await asyncio.sleep(0)
        await rollback(one)
        assert await loading == 1


async def test_a_transaction_rolled_back_early_leaves_all_of_the_wait_to_the_next_write(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, writers=1) as pool, held(pool) as connection:
        assert pool.admit
        leave = await pool.admit(0)
        await begin_write(connection)
        await rollback(connection)
        assert asyncio.current_task() not in connection.lane.admitted
        await asyncio.create_task(admitted(pool, 0))
        leave()


async def test_those_at_the_gate_hear_of_the_stop(tmp_path: Path) -> None:
    pool = await start_pool(sqlite_config(tmp_path, writers=1))
    admit = pool.admit
    assert admit is not None
    leave = await admit(None)
    waiting = asyncio.ensure_future(admit(None))
    await asyncio.sleep(0)
    await pool.stop()
    with pytest.raises(PoolClosed):
        await waiting
    leave()
    with pytest.raises(PoolClosed):
        await admit(None)


PLACES = pytest.mark.parametrize("path", ["app.db", ":memory:"])


@PLACES
async def test_a_task_does_not_wait_for_itself_once_it_has_released(tmp_path: Path, path: str) -> None:
    async with sqlite_pool(tmp_path, path=path) as pool, held(pool) as other:
        assert pool.admit
        assert pool.stats
        async with held(pool) as connection:
            await numbers(connection)
            await run(connection, "BEGIN IMMEDIATE")
            await run(connection, "INSERT INTO numbers VALUES (1)")
        assert pool.stats().resetting == 1
        leave = await pool.admit(None)
        assert pool.stats().resetting == 1, "the gate is open meanwhile"
        await begin_write(other)
        assert await count(other) == 0
        await commit(other)
        leave()


@PLACES
async def test_a_transaction_follows_one_left_open_as_text(tmp_path: Path, path: str) -> None:
    where = "sqlite://" if path == ":memory:" else f"sqlite:///{tmp_path / path}"
    async with dbcore.open(where) as database:
        await database.execute("CREATE TABLE numbers (n INTEGER)")
        async with database.connection() as connection:
            await connection.execute("BEGIN IMMEDIATE")
            await connection.execute("INSERT INTO numbers VALUES (1)")
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO numbers VALUES (2)")
        assert await database.fetch_all("SELECT n FROM numbers") == [(2,)]


@PLACES
async def test_a_transaction_follows_one_cancelled_again_and_again(tmp_path: Path, path: str) -> None:
    where = "sqlite://" if path == ":memory:" else f"sqlite:///{tmp_path / path}"
    released, left = threading.Event(), threading.Event()
    async with dbcore.open(where) as database:
        await database.execute("CREATE TABLE numbers (n INTEGER)")
        natives: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                async with database.transaction() as tx:
                    tx.native.native.create_function("wait", 0, lambda: int(released.wait()))  # hears no interrupt
                    await tx.execute("INSERT INTO numbers VALUES (1)")
                    natives.set_result(tx.native)
                    await tx.execute("INSERT INTO numbers VALUES (wait())")
            except asyncio.CancelledError:
                left.set()
                assert database.stats().resetting == 1
                asyncio.get_running_loop().call_later(0.01, released.set)
                async with database.transaction() as tx:
                    await tx.execute("INSERT INTO numbers VALUES (2)")

        task = asyncio.create_task(work())
        await under_way(await natives)
        while not left.is_set():
            task.cancel()
            await asyncio.sleep(0)
        await task
        assert await database.fetch_all("SELECT n FROM numbers") == [(2,)]


async def test_the_lane_is_given_back_by_the_reset_of_a_forgotten_transaction(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool:
        async with held(pool) as connection:
            await numbers(connection)
            await begin_write(connection)
            await run(connection, "INSERT INTO numbers VALUES (1)")
        async with held(pool) as other:
            await run(other, "INSERT INTO numbers VALUES (2)")
            assert await count(other) == 1


async def refused(connection: Connection) -> None:
    """Wait until the next statement of the connection has been told of a lock."""
    before = connection.job
    async with asyncio.timeout(10):
        while connection.job is before or connection.job is None or not connection.job.ended:
            await asyncio.sleep(0)


async def test_a_lock_of_another_process_is_waited_for(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as connection:
        await numbers(connection)
        foreign = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(run(connection, "INSERT INTO numbers VALUES (1)"))
        await refused(connection)
        assert not task.done()
        foreign.execute("COMMIT")
        foreign.close()
        assert (await task).count == 1


@pytest.mark.parametrize("begin_one", [begin_read, begin_write])
async def test_the_first_statement_of_a_transaction_waits_for_another_process_without_wal_too(
    tmp_path: Path, begin_one: Callable[[Connection], Awaitable[None]]
) -> None:
    async with sqlite_pool(tmp_path, journal_mode="delete") as pool, held(pool) as connection:
        await numbers(connection)
        foreign = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        foreign.execute("BEGIN EXCLUSIVE")
        await begin_one(connection)
        task = asyncio.create_task(count(connection))
        for _ in range(3):
            await refused(connection)
        assert not task.done()
        foreign.execute("COMMIT")
        foreign.close()
        assert await task == 0
        await commit(connection)


async def test_a_lock_of_another_process_that_stays_is_a_conflict(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, busy_timeout=0.05) as pool, held(pool) as connection:
        await numbers(connection)
        foreign = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        await begin_write(connection)
        with pytest.raises(sqlite3.OperationalError) as caught:
            await run(connection, "INSERT INTO numbers VALUES (1)")
        error = to_error(caught.value)
        assert isinstance(error, ConflictError)
        assert error.retryable
        await rollback(connection)
        foreign.execute("COMMIT")
        foreign.close()
        await run(connection, "INSERT INTO numbers VALUES (1)")


async def test_a_wait_for_another_process_ends_with_its_task(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, busy_timeout=60) as pool, held(pool) as connection:
        await numbers(connection)
        foreign = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(run(connection, "INSERT INTO numbers VALUES (1)"))
        await refused(connection)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        foreign.execute("COMMIT")
        foreign.close()
        assert await count(connection) == 0
        assert connection.lane.owner is None


async def test_a_reader_that_turns_writer_too_late_is_a_conflict(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as connection:
        await numbers(connection)
        await run(connection, "BEGIN")
        assert await count(connection) == 0
        foreign = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        foreign.execute("INSERT INTO numbers VALUES (1)")
        foreign.close()
        with pytest.raises(sqlite3.OperationalError) as caught:
            await run(connection, "INSERT INTO numbers VALUES (2)")
        error = to_error(caught.value)
        assert isinstance(error, ConflictError)
        assert error.retryable
        assert "SQLITE_BUSY_SNAPSHOT" in str(error)
        await run(connection, "ROLLBACK")


_OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from sqlite_pools import begin_write, held, run, sqlite_pool, value
from dbcore_sqlite.transactions import commit

async def work(pool, turns):
    for _ in range(turns):
        leave = await pool.admit(None)
        async with held(pool) as connection:
            await begin_write(connection)
            n = await value(connection, "SELECT n FROM numbers")
            await run(connection, "UPDATE numbers SET n = ?", n + 1)
            await commit(connection)
        leave()

async def main():
    async with sqlite_pool(Path(sys.argv[1]), busy_timeout=30) as pool:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(work(pool, 25))

asyncio.run(main())
"""


async def test_two_processes_that_write_at_once_lose_no_update(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as connection:
        await numbers(connection)
        await run(connection, "INSERT INTO numbers VALUES (0)")
        command = [sys.executable, "-c", _OTHER_PROCESS, str(tmp_path)]
        path = {"PYTHONPATH": os.pathsep.join(sys.path)}
        processes = [await asyncio.create_subprocess_exec(*command, env=path, stderr=subprocess.PIPE) for _ in range(2)]
        for process in processes:
            _, said = await process.communicate()
            assert process.returncode == 0, said.decode()
        assert await value(connection, "SELECT n FROM numbers") == 200


class Held:
    """A COMMIT that has begun, in the worker, and goes on when it is told to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begun, self._released = threading.Event(), threading.Event()

    def _stop(self, text: str) -> None:
        if text == "COMMIT":
            self._begun.set()
            self._released.wait()

    async def begun(self) -> asyncio.Task[None]:
        self._connection.native.set_trace_callback(self._stop)
        task = asyncio.create_task(commit(self._connection))
        await asyncio.to_thread(self._begun.wait)
        return task

    def release(self) -> None:
        self._released.set()

    def forget(self) -> None:
        self._connection.native.set_trace_callback(None)


async def test_the_lane_goes_on_while_the_commit_is_under_way(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as one, held(pool) as other:
        await numbers(one)
        await begin_write(one)
        await run(one, "INSERT INTO numbers VALUES (1)")
        held_up = Held(one)
        first = await held_up.begun()
        assert one.lane.owner is None
        await begin_write(other)
        second = asyncio.create_task(run(other, "INSERT INTO numbers SELECT n + 1 FROM numbers"))
        await asyncio.sleep(0)
        assert other.job is not None
        assert not other.job.started, "it stands behind the COMMIT"
        held_up.release()
        await first
        await second
        held_up.forget()
        await commit(other)
        assert await value(one, "SELECT sum(n) FROM numbers") == 3


async def test_a_commit_that_fails_does_not_hurt_the_writer_behind_it(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, busy_timeout=0) as pool, held(pool) as one, held(pool) as other:
        await run(one, "CREATE TABLE a (id INTEGER PRIMARY KEY)")
        await run(one, "CREATE TABLE b (a INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
        await begin_write(one)
        await run(one, "INSERT INTO b VALUES (1)")
        first = asyncio.create_task(commit(one))
        await asyncio.sleep(0)
        await begin_write(other)
        await run(other, "INSERT INTO a VALUES (7)")
        await commit(other)
        with pytest.raises(Exception, match="FOREIGN KEY"):
            await first
        assert await count(one, "b") == 0
        assert await count(one, "a") == 1


async def test_a_transaction_that_was_begun_behind_a_commit_can_be_cancelled_there(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path) as pool, held(pool) as one, held(pool) as other:
        await numbers(one)
        await begin_write(one)
        await run(one, "INSERT INTO numbers VALUES (1)")
        held_up = Held(one)
        first = await held_up.begun()
        await begin_write(other)
        second = asyncio.create_task(run(other, "INSERT INTO numbers VALUES (2)"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        held_up.release()
        await first
        held_up.forget()
        with pytest.raises(asyncio.CancelledError):
            await second
        await rollback(other)
        assert other.lane.owner is None
        assert await count(one) == 1


async def test_without_wal_the_lane_is_kept_until_the_commit_is_through(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, journal_mode="delete") as pool, held(pool) as one:
        await numbers(one)
        await begin_write(one)
        await run(one, "INSERT INTO numbers VALUES (1)")
        held_up = Held(one)
        task = await held_up.begun()
        assert one.lane.owner is one
        held_up.release()
        await task
        held_up.forget()
        assert one.lane.owner is None


async def test_one_timer_serves_a_line_and_everybody_keeps_his_own_limit() -> None:
    loop = asyncio.get_running_loop()
    line = Line(1, name="main", timeout=10)
    assert line.enter_now()
    ended: list[str] = []

    async def wait(name: str, timeout: float) -> None:
        with pytest.raises(PoolTimeout, match=f"for {timeout:g} s"):
            await line.enter(timeout)
        ended.append(name)

    tasks = [loop.create_task(wait("long", 0.03)), loop.create_task(wait("short", 0.01))]
    await asyncio.gather(*tasks)
    assert ended == ["short", "long"]
    assert not line.waiting
    line.leave()
    assert line.enter_now()
