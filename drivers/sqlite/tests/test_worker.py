"""The thread that runs statements, and the bell by which it tells the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from databases import until
from dbcore_sqlite.bell import Bell
from dbcore_sqlite.connecting import connect
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.pool import make_home
from dbcore_sqlite.session import reset, touch
from dbcore_sqlite.worker import Job, Native
from sqlite_pools import SLOW, held, numbers, one_connection, run, sqlite_config, sqlite_pool, under_way, value

import dbcore
from dbcore.errors import DbConnectionError

on_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the bell has a file on Linux alone")


def bells() -> int:
    """How many bells have their file open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # of the listing itself
            found += "eventfd" in str(entry.readlink())
    return found


def all_have_ended() -> bool:
    """Whether the threads of those whom nobody refers to any more have had their last words, with some patience."""
    for _ in range(500):
        gc.collect()
        if not bells():
            return True
        threading.Event().wait(0.01)
    return False


@pytest.fixture
def no_other_bell() -> None:
    """An earlier test may have left one to the collector."""
    assert all_have_ended()


class WatchesNoFiles(asyncio.SelectorEventLoop):
    """As the event loop of Windows."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> NoReturn:  # type: ignore[override]  # takes anything
        raise NotImplementedError


def run_without_files(main: Callable[[], Awaitable[None]]) -> None:
    async def call() -> None:
        await main()

    with asyncio.Runner(loop_factory=WatchesNoFiles) as runner:
        runner.run(call())


def test_statements_run_where_the_loop_watches_no_files(tmp_path: Path) -> None:
    async def main() -> None:
        async with dbcore.open(f"sqlite:///{tmp_path / 'app.db'}") as database:
            await database.execute("CREATE TABLE numbers (n INTEGER)")
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO numbers VALUES (1)")
            assert await database.fetch_value("SELECT n FROM numbers") == 1
            with pytest.raises(dbcore.QueryError):
                await database.execute("SELEC 1")

    run_without_files(main)


@on_linux
@pytest.mark.usefixtures("no_other_bell")
def test_in_a_loop_that_watches_no_files_the_bell_has_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with sqlite_pool(tmp_path, {"min_size": 2}):
            assert bells() == 0

    run_without_files(main)


@on_linux
@pytest.mark.usefixtures("no_other_bell")
async def test_the_bell_has_one_file_for_as_long_as_there_are_connections(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"min_size": 0}) as pool:
        assert bells() == 0, "no connection, no file"
        async with held(pool), held(pool) as connection:
            assert bells() == 1
            await numbers(connection)
    assert bells() == 0


@on_linux
@pytest.mark.usefixtures("no_other_bell")
async def test_a_bell_is_hung_anew_after_its_last_connection_has_gone(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"min_size": 0}) as pool:
        for turn in range(3):
            async with held(pool) as connection:
                assert await value(connection, "SELECT ?", turn) == turn
                connection.broken = True  # replaced on release
            await until(lambda: not bells())


@on_linux
@pytest.mark.usefixtures("no_other_bell")
def test_a_bell_that_outlives_its_loop_is_taken_down_with_its_last_worker(tmp_path: Path) -> None:
    async def take() -> Connection:
        config = sqlite_config(tmp_path)
        return await connect(make_home(config)[0], config.settings)

    connection = asyncio.run(take())
    assert bells() == 1
    connection.abort()
    connection.thread.join(5)
    del connection
    assert all_have_ended()


def test_a_worker_that_ends_a_job_after_its_loop_was_closed_says_nothing_and_goes_on(tmp_path: Path) -> None:
    released, done = threading.Event(), threading.Event()

    def work(_: Native) -> None:
        released.wait()

    def ask(native: Native) -> None:
        native.execute("SELECT 1").close()

    async def leave() -> Connection:
        config = sqlite_config(tmp_path)
        connection = await connect(make_home(config)[0], config.settings)
        waiting = connection.run(work, interruptible=False)
        waiting.send(None)  # by hand: a task would wait for the end of the work when its loop is closed
        waiting.close()
        return connection

    connection = asyncio.run(leave())
    released.set()
    connection.native.set_trace_callback(lambda _: done.set())
    connection.worker.submit(Job(connection.native, ask, (), (), connection.loop.create_future(), interruptible=True))
    assert done.wait(5)
    connection.abort()
    connection.thread.join(5)
    assert not connection.thread.is_alive()


async def test_close_waits_for_the_statement_that_runs(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        released = threading.Event()
        connection.native.create_function("wait", 0, lambda: int(released.wait()))
        task = asyncio.create_task(value(connection, "SELECT wait()"))
        await under_way(connection)
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        connection.loop.call_soon(released.set)
        assert await task == 1
        await closing
        assert not connection.is_open


async def test_a_native_connection_that_is_closed_by_hand_is_closed_behind_what_runs(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        released = threading.Event()
        connection.native.create_function("wait", 0, lambda: int(released.wait()))
        task = asyncio.create_task(value(connection, "SELECT wait()"))
        await under_way(connection)
        connection.stop()
        released.set()
        assert await task == 1
        with pytest.raises(dbcore.DbConnectionError, match="was closed"):
            await run(connection, "SELECT 1")


async def test_what_a_job_raises_is_its_callers_and_the_worker_lives_on(tmp_path: Path) -> None:
    class Outrageous(BaseException):
        pass

    def work(_: Native) -> NoReturn:
        raise Outrageous

    async with one_connection(tmp_path) as connection:
        with pytest.raises(Outrageous):
            await connection.run(work)
        assert await value(connection, "SELECT 7") == 7


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_connect_that_finds_no_thread_may_pass_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It needs three: one to make the others, aiosqlite's, and the worker."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == number:
            raise RuntimeError("can't start new thread")
        start(thread)

    before = set(threading.enumerate())
    config = sqlite_config(tmp_path)
    home = make_home(config)[0]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(DbConnectionError, match="no thread could be started") as caught:
            await connect(home, config.settings)
    assert caught.value.retryable
    assert not set(threading.enumerate()) - before
    connection = await connect(home, config.settings)
    assert await value(connection, "SELECT 1") == 1
    await connection.close()


async def test_jobs_that_end_together_are_reported_in_their_order() -> None:
    class Ended:
        def __init__(self, number: int) -> None:
            self.number = number

        def report(self) -> None:
            reported.append(self.number)

    reported: list[int] = []
    bell = Bell(asyncio.get_running_loop())
    bell.join()
    for number in range(5):
        bell.ring(Ended(number))
    bell.leave()
    while len(reported) < 5:
        await asyncio.sleep(0)
    assert reported == [0, 1, 2, 3, 4]


async def test_an_interrupted_statement_wakes_nobody_but_its_own_caller(tmp_path: Path) -> None:
    async with sqlite_pool(tmp_path, {"max_size": 2}) as pool, held(pool) as one, held(pool) as other:
        task = asyncio.create_task(run(one, SLOW))
        await under_way(one)
        for number in range(20):
            assert await value(other, "SELECT ?", number) == number
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await value(other, "SELECT 1") == 1


async def test_a_commit_that_was_cancelled_before_it_began_leaves_nothing_open_for_who_stands_behind_it(
    tmp_path: Path,
) -> None:
    def commit(native: Native) -> None:
        native.execute("COMMIT")

    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        connection.native.execute("BEGIN IMMEDIATE")
        future = connection.loop.create_future()
        job = Job(connection.native, commit, (), (), future, interruptible=True, last=True)
        job.cancelled = True
        job.run()
        future.cancel()
        assert not connection.native.in_transaction


async def at_work(connection: Connection) -> threading.Event:
    """Leave a statement behind that runs in aiosqlite's own thread, until the event that this returns is set."""
    began, released = threading.Event(), threading.Event()

    def wait() -> int:
        began.set()
        return int(released.wait())

    touch(connection)
    connection.native.create_function("wait", 0, wait)
    left = asyncio.create_task(connection.execute_fetchall("SELECT wait()"))
    await asyncio.to_thread(began.wait)
    left.cancel()
    return released


async def test_statements_wait_for_what_was_sent_to_aiosqlites_own_thread(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        released = await at_work(connection)
        ours = asyncio.create_task(value(connection, "SELECT 7"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert connection.job is None, "two threads inside of one connection could wait for each other"
        released.set()
        assert await ours == 7


async def test_one_that_is_cancelled_meanwhile_lets_aiosqlites_thread_report_before_the_loop_can_be_closed(
    tmp_path: Path,
) -> None:
    async with one_connection(tmp_path) as connection:
        released = await at_work(connection)
        ours = asyncio.create_task(value(connection, "SELECT 7"))
        await asyncio.sleep(0)
        ours.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ours.done()
        released.set()
        await asyncio.wait([ours])
        assert ours.cancelled()


async def test_a_reset_waits_for_what_was_sent_to_aiosqlites_own_thread_and_ends_the_waiting(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        touch(connection)
        assert connection.touched
        await reset(connection)
        assert not connection.touched


async def test_a_write_that_finds_no_thread_for_the_writer_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "dbcore-sqlite main writer":
            raise RuntimeError("can't start new thread")
        start(thread)

    async with one_connection(tmp_path) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(DbConnectionError, match="no thread could be started"):
                await numbers(connection)
        assert connection.is_quiet
        assert connection.lane.owner is None
        await numbers(connection)


async def test_a_bell_goes_without_a_file_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> NoReturn:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.eventfd", refuse, raising=False)
    async with one_connection(tmp_path) as connection:
        assert await value(connection, "SELECT 7") == 7


async def test_a_job_may_raise_what_no_future_takes(tmp_path: Path) -> None:
    def work(_: Native) -> NoReturn:
        raise StopIteration

    async with one_connection(tmp_path) as connection:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await connection.run(work)
