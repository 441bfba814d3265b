"""Cancellation: no work goes on behind a statement that nobody waits for, and the connection is good for the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import pytest
from dbcore_mysql import Connection, cancelling
from dbcore_mysql.driver import driver, make_hooks
from dbcore_mysql.inserting import insert_many
from dbcore_mysql.statements import batch, execute_many, query, script
from dbcore_mysql.transactions import rollback
from mysql_connections import configured, connected, failure, rows, running, start, under_way, until
from mysql_place import fresh_database

import dbcore as db
from dbcore.errors import DbConnectionError, UsageError

SLEEP = "SELECT SLEEP(600)"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
LONG_LOOP = "variables.max_recursive_iterations=4294967295"


async def test_a_cancelled_statement_ends_at_the_server_and_its_connection_is_used_again(mysql_url: str) -> None:
    async with connected(f"{mysql_url}?{LONG_LOOP}") as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        for sql in (SLEEP, ENDLESS, "SELECT BENCHMARK(1000000000, SHA1('a'))", "DO SLEEP(600)") * 3:
            task = await under_way(admin, number, query(connection, sql, ()))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not await running(admin, number)
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT CONNECTION_ID()") == [(number,)]


async def test_a_statement_that_is_cancelled_before_the_server_has_begun_is_ended_too(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        number = connection.thread_id()
        for turns in range(40):
            task = asyncio.ensure_future(query(connection, SLEEP, ()))
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT CONNECTION_ID()") == [(number,)]


async def test_a_kill_that_comes_late_never_hits_the_next_statement(
    mysql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statements that end just when the server is told to end them."""
    monkeypatch.setattr(cancelling, "_GRACE", 0)
    async with connected(mysql_url) as (hooks, connection):
        number = connection.thread_id()
        for turn in range(150):
            task = asyncio.ensure_future(query(connection, "SELECT SLEEP(%s)", [turn % 15 / 2000]))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT SLEEP(0.001), 1") == [(0, 1)]
        assert await rows(connection, "SELECT CONNECTION_ID()") == [(number,)]


async def test_a_timeout_ends_the_work_too(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await query(connection, SLEEP, ())
        assert hooks.is_clean(connection)


async def test_a_cancelled_statement_leaves_its_transaction_as_it_was(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        await query(connection, "CREATE TEMPORARY TABLE t (a INT)", ())
        await start(connection)
        await query(connection, "INSERT INTO t VALUES (1)", ())
        task = await under_way(admin, connection.thread_id(), query(connection, SLEEP, ()))
        task.cancel()
        await asyncio.wait([task])
        assert await rows(connection, "SELECT a FROM t") == [(1,)]
        await rollback(connection)
        assert await rows(connection, "SELECT a FROM t") == []
        await hooks.reset(connection)
        assert hooks.is_clean(connection)


Work = Callable[[Connection], Coroutine[Any, Any, object]]
SEVERAL: Mapping[str, Work] = {
    "batch": lambda connection: batch(connection, [("INSERT INTO kept VALUES (1)", ()), (SLEEP, ()), ("DO 1", ())]),
    "execute_many": lambda connection: execute_many(connection, "INSERT INTO kept SELECT SLEEP(%s)", [[0], [600], [0]]),
    "script": lambda connection: script(
        connection, f"INSERT INTO kept VALUES (1); {SLEEP}; INSERT INTO kept VALUES (2)"
    ),
}


@pytest.mark.parametrize("way", SEVERAL)
async def test_several_statements_are_cancelled_as_one(mysql_url: str, way: str) -> None:
    with fresh_database(mysql_url) as (url, _):
        async with connected(url) as (hooks, connection), connected(url) as (_, admin):
            await query(connection, "CREATE TABLE kept (a INT)", ())

            async def at_the_slow_one() -> bool:
                sql = "SELECT 1 FROM information_schema.processlist WHERE id = %s AND state = 'User sleep'"
                return bool(await rows(admin, sql, connection.thread_id()))

            task = asyncio.ensure_future(SEVERAL[way](connection))
            await until(at_the_slow_one)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT a FROM kept") == []
            assert (await failure(connection.query("SELECT 1; SELECT 2"))).sqlstate == "42000"


async def test_an_insert_of_many_rows_is_cancelled_while_it_waits_for_its_rows(mysql_url: str) -> None:
    waiting = asyncio.Event()

    async def source() -> AsyncGenerator[tuple[int], None]:
        for number in range(3000):
            yield (number,)
        waiting.set()
        await asyncio.Event().wait()

    with fresh_database(mysql_url) as (url, _):
        async with connected(url) as (hooks, connection):
            await query(connection, "CREATE TABLE kept (a INT)", ())
            task = asyncio.ensure_future(insert_many(connection, ("kept",), ["a"], source()))
            await waiting.wait()
            task.cancel()
            await asyncio.wait([task])
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT a FROM kept") == []


async def test_200_cancelled_statements_in_a_row_cost_no_connection(mysql_url: str) -> None:
    with fresh_database(mysql_url) as (url, admin):

        def mine(what: str) -> int:
            sql = f"SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() {what}"
            name = url.rpartition("/")[2]
            ((count,),) = admin(sql.replace("DATABASE()", f"'{name}'"))
            return int(count)

        async def some_asleep() -> bool:
            return mine("AND state = 'User sleep'") > 0

        async with db.open(configured(url, pool={"max_size": 2})) as database:

            async def idle() -> bool:
                return database.stats().idle == database.stats().size

            for number in range(200):
                task = asyncio.create_task(database.execute("SELECT SLEEP(10)"))
                if number % 10 == 0:
                    await until(some_asleep)
                else:  # it is cancelled somewhere on its way
                    for _ in range(number % 7):
                        await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                async with asyncio.timeout(2):
                    await until(idle)
                assert mine("AND state = 'User sleep'") == 0
            assert await database.fetch_value("SELECT 1") == 1
            stats = database.stats()
            assert (stats.in_use, stats.resetting, stats.closing, stats.lost) == (0, 0, 0, 0)
            assert stats.connects <= 2


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_a_second_cancellation_drops_the_connection_and_the_server_is_told(mysql_url: str, turns: int) -> None:
    """Laws: E7. It is told: MySQL would find out when it next writes to the client."""
    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        task = await under_way(admin, number, query(connection, SLEEP, ()))
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not hooks.is_clean(connection)
        assert not hooks.is_usable(connection)

        async def ended() -> bool:
            return not await running(admin, number)

        await until(ended)


async def test_without_a_second_connection_the_first_is_dropped(
    mysql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused() -> Connection:
        raise DbConnectionError("too many connections", retryable=True)

    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        connection.open_another = refused
        task = await under_way(admin, number, query(connection, SLEEP, ()))
        task.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await task
        assert "too many connections" in caplog.text
        assert not hooks.is_clean(connection)
        await query(admin, f"KILL {number}", ())


async def test_another_server_of_the_same_name_is_told_nothing(
    mysql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind one name there may be several; the number of a connection means something to one of them alone."""
    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        connection.identity = ("another", 3306, 2)
        task = await under_way(admin, number, query(connection, SLEEP, ()))
        task.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await task
        assert "another server" in caplog.text
        assert not hooks.is_clean(connection)
        assert await running(admin, number)
        await query(admin, f"KILL {number}", ())


async def test_a_cancel_that_takes_too_long_drops_the_connection(
    mysql_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cancelling, "CANCEL_SECONDS", 0.2)

    async def never() -> Connection:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        connection.open_another = never
        task = await under_way(admin, number, query(connection, SLEEP, ()))
        task.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await task
        assert not hooks.is_usable(connection)
        await query(admin, f"KILL {number}", ())


async def test_a_cancel_asks_for_credentials_that_are_good_now(mysql_url: str) -> None:
    asked: list[int] = []

    def credentials() -> dict[str, str]:
        asked.append(1)
        return {}

    config = replace(configured(mysql_url), credentials=credentials)
    hooks = make_hooks(config)
    connection = await hooks.connect()
    async with connected(mysql_url) as (_, admin):
        task = await under_way(admin, connection.thread_id(), query(connection, SLEEP, ()))
        task.cancel()
        await asyncio.wait([task])
    assert len(asked) == 2
    await hooks.close(connection)


async def test_two_tasks_on_one_connection_are_told(mysql_url: str) -> None:
    async with connected(mysql_url) as (_, connection), connected(mysql_url) as (_, admin):
        task = await under_way(admin, connection.thread_id(), query(connection, SLEEP, ()))
        with pytest.raises(UsageError, match="one connection for each task"):
            await query(connection, "SELECT 1", ())
        task.cancel()
        await asyncio.wait([task])


async def test_a_reset_ends_what_another_task_still_does(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        work = execute_many(connection, "DO SLEEP(%s)", [[600], [600], [600]])
        task = await under_way(admin, number, work)
        await hooks.reset(connection)
        await asyncio.wait([task])
        assert isinstance(task.exception(), db.DbError)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT CONNECTION_ID()") == [(number,)]


async def test_an_abort_wakes_who_waits(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection), connected(mysql_url) as (_, admin):
        number = connection.thread_id()
        task = await under_way(admin, number, query(connection, SLEEP, ()))
        assert hooks.abort is not None
        hooks.abort(connection)
        hooks.abort(connection)
        await asyncio.wait([task])
        assert isinstance(task.exception(), DbConnectionError)
        await query(admin, f"KILL {number}", ())


def test_the_driver_is_a_value() -> None:
    assert (driver.name, driver.schemes) == ("mysql", frozenset({"mysql", "mariadb"}))
