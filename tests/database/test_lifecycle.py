"""From open to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest
from databases import Place, until

import dbcore as db
from dbcore.events import Endpoint
from dbcore.pool import Release
from dbcore.testing import Gate, Script, fails, hangs, passes, scripted_driver, settled, virtual, waits


def other_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


# -- open --------------------------------------------------------------------------------------------------------------


async def test_open_does_nothing_yet(place: Place) -> None:
    """Laws: M2."""
    threads = threading.active_count()
    before = place.seen()
    database = place.open()
    assert (place.seen(), threading.active_count(), other_tasks()) == (before, threads, set())
    assert "not started" in repr(database)


def test_open_needs_no_event_loop(place: Place) -> None:
    """Laws: M1."""
    assert place.open().driver == place.driver


async def test_a_database_tells_what_it_is_and_no_secret(place: Place) -> None:
    async with place.open() as database:
        assert (database.name, database.driver, database.config.driver) == ("main", place.driver, place.driver)
        info = await database.server_info()
        assert any(digit in info.version for digit in "0123456789")
        if place.secret is not None:
            shown = f"{database!r} {database.config!r} {database.config.settings!r} {database.stats()} {info}"
            assert place.secret not in shown
            assert "p@ss" not in shown


# -- start -------------------------------------------------------------------------------------------------------------


async def test_start_opens_the_smallest_number_of_connections(place: Place) -> None:
    async with place.open(pool={"min_size": 3, "max_size": 4}) as database:
        assert (database.stats().size, database.stats().idle) == (3, 3)
        assert place.seen() == 3


async def test_start_twice_is_harmless(place: Place) -> None:
    """Laws: A25, J10."""
    async with place.open(pool={"min_size": 1}) as database:
        await database.start()
        assert database.stats().connects == 1


async def test_start_from_many_tasks_makes_one_pool(place: Place) -> None:
    """Laws: J10."""
    database = place.open(pool={"min_size": 1})
    await asyncio.gather(*(database.start() for _ in range(10)))
    assert database.stats().connects == 1
    assert place.seen() == 1
    await database.stop()


def test_start_raises_the_real_reason_quickly(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Laws: A24, P1."""

    async def start(what: str, url: str, word: str) -> None:
        database = db.open(url)
        started = asyncio.get_running_loop().time()
        with pytest.raises(db.DbConnectionError, match=word) as caught:
            await database.start()
        assert asyncio.get_running_loop().time() - started < 2, what
        assert caught.value.driver == place.driver
        assert "not started" in repr(database)
        assert other_tasks() == set()
        shown = f"{caught.value!s} {caught.value!r} {caught.value.args} {caplog.text}"
        assert "wr0ng-secret" not in shown
        assert place.secret is None or place.secret not in shown

    for what, (url, word) in place.unreachable.items():
        asyncio.run(start(what, url, word))


async def test_start_may_be_tried_again(place: Place) -> None:
    """Laws: J16."""
    for url, _ in place.unreachable.values():
        database = db.open(url)
        for _ in range(2):
            with pytest.raises(db.DbConnectionError):
                await database.start()
        await database.stop()


async def test_a_permanent_failure_reaches_a_checkout_at_once(place: Place) -> None:
    """Wrong password, no such database, no such folder: waiting for the timeout would help nobody."""
    for what, (url, word) in place.unreachable.items():
        if what == "nobody listens":  # it may listen again
            continue
        async with db.open({"url": url, "startup": "lazy"}) as database:
            started = asyncio.get_running_loop().time()
            with pytest.raises(db.DbConnectionError, match=word):
                await database.fetch_value("SELECT 1")
            assert asyncio.get_running_loop().time() - started < 2, what


async def test_startup_lazy_connects_with_the_first_checkout(place: Place) -> None:
    async with place.open(startup="lazy", pool={"min_size": 2}) as database:
        assert database.stats().size == 0
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().connects >= 1


async def test_startup_try_starts_without_a_database_and_waits_for_it(place: Place) -> None:
    for url, _ in place.unreachable.values():
        async with db.open({"url": url, "startup": "try", "pool": {"checkout_timeout": 0.3}}) as database:
            assert database.stats().size == 0
            with pytest.raises((db.DbConnectionError, db.PoolTimeout)):
                await database.fetch_value("SELECT 1")


@virtual
async def test_startup_try_serves_when_the_database_is_back() -> None:
    """Laws: A23."""
    script = Script()
    script.connect.then(fails(db.DbConnectionError("away", retryable=True)), passes())
    driver = scripted_driver(script, {"SELECT 1": [(1,)]})
    async with db.open({"driver": "scripted", "startup": "try"}, driver=driver) as database:
        assert database.stats().size == 0
        assert await database.fetch_value("SELECT 1") == 1


@virtual
async def test_a_cancelled_start_leaves_nothing_and_can_be_repeated() -> None:
    gate = Gate()
    script = Script()
    script.connect.then(waits(gate))
    database = db.open("scripted://", driver=scripted_driver(script))
    task = asyncio.create_task(database.start())
    await settled()
    task.cancel()
    await settled()
    assert task.cancelled()
    assert other_tasks() == set()
    async with database:
        assert database.stats().idle == 1


@virtual
async def test_what_a_start_that_is_cancelled_in_every_turn_leaves_behind_the_stop_waits_for() -> None:
    ended: list[str] = []

    async def start_pool(config: db.Config[Any]) -> db.PoolOps[Any]:
        try:
            await asyncio.sleep(100)
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            ended.append("put away")
        raise AssertionError("it is cancelled")

    database = db.open("scripted://", driver=replace(scripted_driver(Script()), start_pool=start_pool))
    task = asyncio.create_task(database.start())
    await settled()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert ended == []
    await database.stop()
    assert ended == ["put away"]
    assert other_tasks() == set()


@virtual
async def test_a_start_that_every_task_is_cancelled_with_keeps_no_stop_waiting() -> None:
    script = Script()
    script.connect.always(hangs())
    database = db.open("scripted://", driver=scripted_driver(script))
    task = asyncio.create_task(database.start())
    await settled()
    task.cancel()
    await asyncio.sleep(0)
    for other in other_tasks():
        other.cancel()
    await database.stop()
    assert task.cancelled()


@virtual
async def test_a_start_that_fails_with_whatever_it_is_may_be_tried_again() -> None:
    class Exit(BaseException):
        """As test runners and signal handlers have them."""

    driver = scripted_driver(Script())
    starts: list[db.Config[Any]] = []

    async def start_pool(config: db.Config[Any]) -> Any:
        starts.append(config)
        if len(starts) == 1:
            raise Exit
        return await driver.start_pool(config)

    database = db.open("scripted://", driver=replace(driver, start_pool=start_pool))
    with pytest.raises(Exit):
        await database.start()
    await database.start()
    await database.stop()


@virtual
async def test_a_start_that_is_cancelled_leaves_the_other_starter_to_it() -> None:
    gate = Gate()
    script = Script()
    script.connect.then(waits(gate))
    database = db.open("scripted://", driver=scripted_driver(script))
    first, second = asyncio.create_task(database.start()), asyncio.create_task(database.start())
    await settled()
    first.cancel()
    await second
    assert first.cancelled()
    assert database.stats().idle == 1
    await database.stop()


@virtual
async def test_use_during_start_is_refused_and_harms_nothing() -> None:
    """Laws: J11."""
    gate = Gate()
    script = Script()
    script.connect.then(waits(gate))
    async with contextlib.AsyncExitStack() as stack:
        database = db.open("scripted://", driver=scripted_driver(script))
        starting = asyncio.create_task(stack.enter_async_context(database))
        await settled()
        for _ in range(2):
            with pytest.raises(db.UsageError, match="was not started"):
                await database.execute("write")
        gate.open()
        await starting
        assert await database.execute("write") == 0
    assert len(script.statements) == 1


@virtual
async def test_a_stop_does_not_wait_for_a_start_that_hangs() -> None:
    script = Script()
    script.connect.always(hangs())
    database = db.open("scripted://", driver=scripted_driver(script))
    start = asyncio.create_task(database.start())
    await settled()
    await database.stop()
    assert asyncio.get_running_loop().time() == 0
    with pytest.raises(db.PoolClosed):
        await start


@virtual
async def test_a_start_that_is_cancelled_in_the_turn_in_which_the_pool_is_ready_stops_it() -> None:
    stopped: list[bool] = []

    async def checkout(timeout: float | None = None) -> tuple[Any, Release]:
        raise AssertionError("nobody asks")

    async def stop() -> None:
        stopped.append(True)

    async def start_pool(_config: db.Config[Any]) -> db.PoolOps[Any]:
        asyncio.get_running_loop().call_soon(lambda: starting.cancel())
        return db.PoolOps(checkout=checkout, stop=stop)

    database = db.open("scripted://", driver=replace(scripted_driver(Script()), start_pool=start_pool))
    starting = asyncio.create_task(database.start())
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert stopped == [True]
    await database.stop()


@virtual
async def test_a_driver_that_fails_to_say_how_it_shares_leaves_no_pool_behind() -> None:
    def share(_config: db.Config[Any]) -> None:
        raise RuntimeError("a bug")

    script = Script()
    database = db.open("scripted://", driver=replace(scripted_driver(script), share=share))
    with pytest.raises(RuntimeError, match="a bug"):
        await database.start()
    assert not script.of("connect")


def test_a_stop_from_another_event_loop_is_refused_and_changes_nothing(place: Place) -> None:
    """Laws: M3."""
    database = place.open()
    with asyncio.Runner() as own:
        own.run(database.start())

        def stop_elsewhere() -> None:
            with pytest.raises(db.UsageError, match="another event loop"):
                asyncio.run(database.stop())

        thread = threading.Thread(target=stop_elsewhere)
        thread.start()
        thread.join()
        assert own.run(database.fetch_value("SELECT 1")) == 1
        own.run(database.stop())


@virtual
async def test_a_stop_during_start_ends_both() -> None:
    gate = Gate()
    script = Script()
    script.connect.then(waits(gate))
    database = db.open("scripted://", driver=scripted_driver(script))
    starting = asyncio.create_task(database.start())
    await settled()
    stopping = asyncio.create_task(database.stop())
    await settled()
    gate.open()
    await stopping
    with pytest.raises(db.PoolClosed):
        await starting
    assert script.open == 0
    assert other_tasks() == set()


# -- stop --------------------------------------------------------------------------------------------------------------


async def test_after_stop_no_task_thread_or_connection_is_left(place: Place) -> None:
    """Laws: J8."""
    threads = set(threading.enumerate())
    async with place.open(pool={"min_size": 3, "max_size": 5}) as database:
        await asyncio.gather(*(database.fetch_value("SELECT 1") for _ in range(20)))
    assert other_tasks() == set()
    assert {thread for thread in threading.enumerate() if thread not in threads} == set()
    await until(lambda: place.seen() == 0)
    assert "stopped" in repr(database)


async def test_stop_is_idempotent_and_may_come_from_many_tasks(place: Place) -> None:
    database = place.open()
    await database.start()
    await asyncio.gather(*(database.stop() for _ in range(10)))
    await database.stop()
    await until(lambda: place.seen() == 0)


async def test_stop_waits_for_who_still_holds_a_connection(place: Place) -> None:
    async with place.items() as database:
        inside = asyncio.Event()
        go_on = asyncio.Event()

        async def work() -> None:
            async with database.transaction() as tx:
                inside.set()
                await go_on.wait()
                await tx.execute("INSERT INTO items VALUES (1, 'a')")

        task = asyncio.create_task(work())
        await inside.wait()
        stopping = asyncio.create_task(database.stop())
        await asyncio.sleep(0)
        with pytest.raises(db.PoolClosed):
            await database.fetch_value("SELECT 1")
        go_on.set()
        await stopping
        await task
    with place.outside() as ask:
        assert ask("SELECT count(*) FROM items") == [(1,)]


async def test_stop_cuts_off_who_never_lets_go_and_says_whom(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Laws: J4."""
    async with place.open(pool={"stop_timeout": 0.1, "max_size": 2}) as database:
        started = asyncio.Event()

        async def hold() -> None:
            async with database.connection() as connection:
                started.set()
                await connection.execute(place.endless)

        holder = asyncio.create_task(hold(), name="the-holder")
        await started.wait()
        async with asyncio.timeout(15):
            await database.stop()
        with pytest.raises(db.DbError):
            await holder
    assert "the-holder" in caplog.text
    assert "cut off" in caplog.text
    await until(lambda: place.seen() == 0)


async def test_a_cancelled_stop_goes_on(place: Place) -> None:
    """Laws: E13."""
    database = place.open()
    await database.start()
    stopping = asyncio.create_task(database.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    await database.stop()
    assert other_tasks() == set()
    await until(lambda: place.seen() == 0)


async def test_an_exception_in_the_block_stops_the_database(place: Place) -> None:
    with pytest.raises(ZeroDivisionError):
        async with place.open():
            raise ZeroDivisionError
    await until(lambda: place.seen() == 0)


# -- drain -------------------------------------------------------------------------------------------------------------


async def test_drain_replaces_every_connection(place: Place) -> None:
    """Laws: J12."""
    async with place.open(pool={"min_size": 2, "max_size": 2}) as database:
        async with database.connection() as held:
            await database.drain()
            assert await held.fetch_value("SELECT 1") == 1
        await until(lambda: database.stats().drained == 2)
        assert await database.fetch_value("SELECT 1") == 1
        await until(lambda: database.stats().idle == 2)
        assert database.stats().connects == 4


# -- forgotten ---------------------------------------------------------------------------------------------------------


def test_a_dropped_database_warns_with_the_place_it_was_opened_at(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def forget() -> None:
        database = place.open()
        await database.start()
        assert await database.fetch_value("SELECT 1") == 1

    async def main() -> None:
        with caplog.at_level(logging.WARNING):
            await forget()
            gc.collect()
            await until(lambda: place.seen() == 0)

    asyncio.run(main())
    (record,) = [record for record in caplog.records if record.name == "dbcore.database"]
    assert "never stopped" in record.message
    assert "databases.py:" in record.message


def test_a_dropped_database_that_was_not_started_or_was_stopped_warns_of_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        place.open()
        async with place.open() as database:
            assert await database.fetch_value("SELECT 1") == 1

    asyncio.run(main())
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_database_that_could_not_be_made_fails_with_its_own_error_alone() -> None:
    """An error in `__del__` would be one more, and an error of the test."""

    def endpoint(_: object) -> Endpoint:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.open("scripted://", driver=replace(scripted_driver(Script()), endpoint=endpoint))
    gc.collect()
