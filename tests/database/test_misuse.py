"""Use that cannot work is refused with a `UsageError` that holds the cure; after stop it is `PoolClosed`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from databases import Place

import dbcore as db
from dbcore.testing import Script, scripted_driver, settled, virtual

Use = Callable[[db.Database], Awaitable[Any]]


async def connect(database: db.Database) -> None:
    async with database.connection():
        pass


async def transact(database: db.Database) -> None:
    async with database.transaction():
        pass


async def read_stream(database: db.Database) -> None:
    async with database.stream("SELECT 1"):
        pass


async def nothing(connection: object) -> None:
    pass


async def look(ask: Callable[[], object]) -> None:
    ask()


USES: dict[str, Use] = {
    "connection": connect,
    "transaction": transact,
    "stream": read_stream,
    "execute": lambda database: database.execute("SELECT 1"),
    "fetch_all": lambda database: database.fetch_all("SELECT 1"),
    "fetch_value": lambda database: database.fetch_value("SELECT 1"),
    "execute_many": lambda database: database.execute_many("SELECT $1", [(1,)]),
    "batch": lambda database: database.batch([("SELECT 1", ())]),
    "execute_script": lambda database: database.execute_script("SELECT 1"),
    "insert_many": lambda database: database.insert_many("items", ["id"], [(1,)]),
    "run": lambda database: database.run(nothing),
    "run_transaction": lambda database: database.run_transaction(nothing),
    "server_info": lambda database: database.server_info(),
    "drain": lambda database: database.drain(),
    "stats": lambda database: look(database.stats),
    "holders": lambda database: look(database.holders),
    "pool": lambda database: look(lambda: database.pool),
}


# -- before start, after stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
async def test_before_start_everything_is_refused(place: Place, use: str) -> None:
    """Laws: J1."""
    database = place.open()
    with pytest.raises(db.UsageError, match=r"'main' was not started.*async with") as caught:
        await USES[use](database)
    assert caught.value.driver == place.driver


@pytest.mark.parametrize("use", [name for name in USES if name not in ("stats", "holders", "pool")])
async def test_after_stop_everything_is_refused_as_closed(place: Place, use: str) -> None:
    """Laws: J1."""
    async with place.open() as database:
        pass
    with pytest.raises(db.PoolClosed, match="stopped") as caught:
        await USES[use](database)
    assert caught.value.driver == place.driver


async def test_a_stopped_database_cannot_be_started_again(place: Place) -> None:
    """Laws: J9, J16."""
    async with place.open() as database:
        pass
    with pytest.raises(db.PoolClosed, match="open the database anew"):
        await database.start()
    never_started = place.open()
    await never_started.stop()
    with pytest.raises(db.PoolClosed):
        await never_started.start()


async def test_the_statistics_of_a_stopped_pool_are_there_and_show_no_connection(place: Place) -> None:
    async with place.open() as database:
        await database.fetch_value("SELECT 1")
    stats = database.stats()
    assert (stats.size, stats.idle, stats.in_use, stats.waiting) == (0, 0, 0, 0)
    assert stats.checkouts == 1
    assert database.holders() == ()


# -- after release -----------------------------------------------------------------------------------------------------


async def test_a_connection_is_refused_after_its_release_with_the_place_of_it(place: Place) -> None:
    """Laws: K4, K7."""
    async with place.open() as database:
        async with database.connection() as connection:
            await connection.execute("SELECT 1")
        for use in (
            lambda: connection.execute("SELECT 1"),
            lambda: connection.batch([("SELECT 1", ())]),
            lambda: connection.transaction().__aenter__(),
            lambda: connection.stream("SELECT 1").__aenter__(),
        ):
            with pytest.raises(db.UsageError, match="released at") as caught:
                await use()
            assert "test_misuse.py:" in str(caught.value)
            assert "async with" in str(caught.value)
        with pytest.raises(db.UsageError, match="released at"):
            _ = connection.native
        with pytest.raises(db.UsageError, match="released at"):
            _ = connection.in_transaction
        assert "released" in repr(connection)
        assert database.stats().in_use == 0


async def test_a_connection_that_nobody_used_is_refused_after_its_release_as_well(place: Place) -> None:
    async with place.open() as database:
        async with database.connection() as connection:
            pass
        with pytest.raises(db.UsageError, match="released at the end of its block"):
            await connection.execute("SELECT 1")
        with pytest.raises(db.UsageError, match="once"):
            await connection.__aenter__()
        assert "released" in repr(connection)


async def test_the_connection_of_a_transaction_is_refused_after_its_end(place: Place) -> None:
    async with place.open() as database:
        async with database.transaction() as tx:
            pass
        with pytest.raises(db.UsageError, match=r"released at .*test_misuse\.py:"):
            await tx.execute("SELECT 1")


async def test_a_connection_object_is_taken_once(place: Place) -> None:
    async with place.open() as database:
        connection = database.connection()
        async with connection:
            with pytest.raises(db.UsageError, match="once"):
                async with connection:
                    pass
            assert await connection.fetch_value("SELECT 1") == 1
        with pytest.raises(db.UsageError, match="once"):
            async with connection:
                pass
        assert database.stats().in_use == 0


async def test_a_connection_that_was_not_taken_says_how_to(place: Place) -> None:
    async with place.open() as database:
        with pytest.raises(db.UsageError, match=r"async with database\.connection"):
            await database.connection().execute("SELECT 1")


# -- two tasks, two loops ----------------------------------------------------------------------------------------------


async def test_two_tasks_at_once_are_refused_with_both_names(place: Place) -> None:
    """Laws: O9."""
    async with place.open() as database, database.connection() as connection:
        first = asyncio.create_task(connection.execute(place.endless), name="the-first")
        await asyncio.sleep(0)

        async def second() -> None:
            with pytest.raises(db.UsageError) as caught:
                await connection.execute("SELECT 1")
            assert "the-first" in str(caught.value)
            assert "the-second" in str(caught.value)
            assert "a connection of its own" in str(caught.value)

        await asyncio.create_task(second(), name="the-second")
        first.cancel()
        await asyncio.wait([first])
        assert await connection.fetch_value("SELECT 1") == 1


async def test_two_tasks_one_after_the_other_are_welcome(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        assert await asyncio.create_task(connection.fetch_value("SELECT 1")) == 1
        assert await asyncio.create_task(connection.fetch_value("SELECT 2")) == 2


def in_another_loop(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    """Run something in an event loop of its own in another thread, and return what it raised."""
    raised: list[BaseException] = []

    async def main() -> None:
        await work()

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return raised[0] if raised else None


@pytest.mark.parametrize("use", ["connection", "transaction", "fetch_value", "execute_many", "stream", "drain"])
async def test_another_event_loop_is_refused_and_harms_nothing(place: Place, use: str) -> None:
    """Laws: M3."""
    async with place.open(pool={"max_size": 1}) as database:
        error = await asyncio.to_thread(in_another_loop, lambda: USES[use](database))
        assert isinstance(error, db.UsageError), error
        assert "event loop" in str(error)
        assert error.driver == place.driver
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().in_use == 0


async def test_a_stop_from_another_event_loop_is_refused_and_harms_nothing(place: Place) -> None:
    async with place.open() as database:
        error = await asyncio.to_thread(in_another_loop, database.stop)
        assert isinstance(error, db.UsageError), error
        assert await database.fetch_value("SELECT 1") == 1


@virtual
async def test_two_tasks_cannot_wait_with_the_same_object() -> None:
    async with db.open({"url": "scripted://", "pool": {"max_size": 1}}, driver=scripted_driver(Script())) as database:

        async def take(what: Any) -> None:
            async with what:
                pass

        for what in (database.connection(), database.transaction()):
            async with database.connection():
                tasks = [asyncio.create_task(take(what)) for _ in range(2)]
                await settled()
            first, second = await asyncio.gather(*tasks, return_exceptions=True)
            assert first is None
            assert isinstance(second, db.UsageError)
            assert database.stats().in_use == 0


@virtual
async def test_an_object_whose_wait_was_in_vain_may_be_taken_again() -> None:
    async with db.open({"url": "scripted://", "pool": {"max_size": 1}}, driver=scripted_driver(Script())) as database:
        again = database.connection(timeout=1)
        async with database.connection():
            with pytest.raises(db.PoolTimeout):
                await asyncio.create_task(again.__aenter__())
        async with again:
            assert await again.execute("write") == 0


def test_a_connection_that_is_held_is_refused_in_another_loop() -> None:
    async def ask(connection: db.Connection[Any]) -> None:
        with pytest.raises(db.UsageError, match="another event loop"):
            await connection.execute("write")

    async def hold() -> tuple[Any, ...]:
        database = db.open("scripted://", driver=scripted_driver(Script()))
        await database.start()
        connection = database.connection()
        await connection.__aenter__()
        return database, connection

    with asyncio.Runner() as first, asyncio.Runner() as second:
        database, connection = first.run(hold())
        second.run(ask(connection))
        with pytest.raises(db.UsageError, match="another event loop"):
            second.run(database.start())
        first.run(connection.__aexit__(None, None, None))
        first.run(database.stop())


# -- forks -------------------------------------------------------------------------------------------------------------

FORK = """
import asyncio, atexit, gc, os, warnings
import dbcore as db
from dbcore.testing import Script, scripted_driver, settled, virtual
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: a fork in a process that has threads

async def refused(use):
    try:
        await use()
    except db.UsageError as error:
        assert "fork" in str(error), error
    else:
        raise AssertionError("not refused in the child")

async def child(database, held, url):
    async def connect():
        async with database.connection():
            pass
    async def transact():
        async with database.transaction():
            pass
    for use in (lambda: database.fetch_value("SELECT 1"), connect, transact, database.pool.checkout, database.drain):
        await refused(use)
    await refused(lambda: held.fetch_value("SELECT 'asked by the child'"))
    if os.environ["WAY"] == "stop":
        await database.stop()
    async with db.open(url) as own:  # the cure
        assert await own.fetch_value("SELECT 2") == 2

def run_child(database, held, url):
    asyncio._set_running_loop(None)  # as a fork outside of any coroutine would have it
    asyncio.run(child(database, held, url))
    del database, held
    gc.collect()
    if os.environ["WAY"] == "exit":
        atexit._run_exitfuncs()

async def main():
    url = os.environ["DATABASE_URL"]
    async with db.open(url) as database, database.connection() as held:
        assert await held.fetch_value("SELECT 1") == 1
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run_child(database, held, url)
                code = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        assert await held.fetch_value("SELECT 3") == 3
        assert await database.fetch_value("SELECT 4") == 4
    print("parent is well")

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.parametrize("way", ["exit", "stop"])
def test_a_forked_child_is_refused_and_the_parent_goes_on(place: Place, tmp_path: Path, way: str) -> None:
    """Laws: M5."""
    program = tmp_path / "fork.py"
    program.write_text(FORK)
    environment = {**os.environ, "DATABASE_URL": place.url, "WAY": way}
    run = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "parent is well\n", run.stderr
    assert "Traceback" not in run.stderr, run.stderr


@pytest.mark.parametrize("timeout", [0, -1, "5", True])
async def test_a_timeout_that_is_no_time_span_is_refused_before_anything_is_sent(place: Place, timeout: Any) -> None:
    async with place.open() as database:
        with pytest.raises(db.UsageError, match="timeout is a number of seconds above 0"):
            await database.execute("SELECT 1", timeout=timeout)


async def test_a_statement_that_is_no_text_is_refused(place: Place) -> None:
    nothing: Any = None
    async with place.open() as database:
        with pytest.raises(db.QueryError, match="the statement is a NoneType"):
            await database.fetch_value(nothing)


async def test_a_timeout_names_the_setting_that_ended_the_statement(place: Place) -> None:
    async with place.open(statement_timeout=0.05) as database:
        with pytest.raises(db.QueryTimeout, match=r"longer than statement_timeout = 0\.05 s"):
            await database.fetch_all(place.endless)
        with pytest.raises(db.QueryTimeout, match=r"longer than timeout = 0\.04 s"):
            await database.fetch_all(place.endless, timeout=0.04)


async def test_a_failed_connect_names_the_connection_of_the_config(place: Place) -> None:
    for url, _ in place.unreachable.values():
        with pytest.raises(db.DbConnectionError, match=r"^connection 'reports': ") as caught:
            await db.open({"connections": {"reports": {"url": url}}}).start()
        if caught.value.retryable:
            continue  # a checkout waits for its end, and PoolTimeout names the pool
        async with db.open({"connections": {"reports": {"url": url, "startup": "lazy"}}}) as database:
            for _ in range(2):
                with pytest.raises(db.DbConnectionError, match=r"^connection 'reports': (?!connection)"):
                    await database.execute("SELECT 1")
