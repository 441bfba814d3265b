"""Cancellation: no work goes on behind a statement that nobody waits for, and the connection is good for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import pytest
from dbcore_postgres import Connection
from dbcore_postgres.connection import abort, transaction_status
from dbcore_postgres.copying import insert_many
from dbcore_postgres.statements import batch, execute_many, query, script
from dbcore_postgres.transactions import rollback
from postgres_connections import backend, configured, connected, failure, rows, start, until

import dbcore as db
from dbcore.driver import CancelledTooLate
from dbcore.errors import DbConnectionError, UsageError


async def active(admin: Connection, pid: int) -> bool:
    return bool(await rows(admin, "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", pid))


async def under_way(admin: Connection, pid: int, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    """Start something, and return when the server works on it."""
    task = asyncio.ensure_future(work)
    await until(lambda: active(admin, pid))
    return task


async def test_a_cancelled_statement_ends_at_the_server_and_its_connection_is_used_again(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        pid = await backend(connection)
        for _ in range(20):
            task = await under_way(admin, pid, query(connection, "SELECT pg_sleep(600)", ()))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not await active(admin, pid)
            assert hooks.is_clean(connection)
            assert await backend(connection) == pid


async def test_a_statement_that_is_cancelled_before_the_server_has_begun_is_ended_too(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        pid = await backend(connection)
        for turns in range(100):
            task = asyncio.ensure_future(query(connection, "SELECT pg_sleep(600)", ()))
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert hooks.is_clean(connection)
        assert await backend(connection) == pid


async def test_a_timeout_ends_the_work_too(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await query(connection, "SELECT pg_sleep(600)", ())
        assert hooks.is_clean(connection)


async def test_a_cancelled_statement_dooms_its_transaction_and_no_more(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        pid = await backend(connection)
        await start(connection)
        task = await under_way(admin, pid, query(connection, "SELECT pg_sleep(600)", ()))
        task.cancel()
        await asyncio.wait([task])
        await rollback(connection)
        assert hooks.is_clean(connection)


async def test_200_cancelled_statements_in_a_row_cost_no_connection(postgres_url: str) -> None:
    name = "dbcore_200_cancelled"
    mine = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"
    async with connected(postgres_url) as (_, admin):

        async def some_active() -> bool:
            return await rows(admin, f"{mine} AND state = 'active'") != [(0,)]

        config = configured(postgres_url, application_name=name, pool={"max_size": 2})
        async with db.open(config) as database:
            for number in range(200):
                task = asyncio.create_task(database.execute("SELECT pg_sleep(10)"))
                if number % 4:  # else it is cancelled somewhere on its way
                    await until(some_active)
                else:
                    for _ in range(number % 7):
                        await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                async with asyncio.timeout(1):
                    await until(lambda: database_is_idle(database))
                assert not await some_active()
                assert await rows(admin, mine) <= [(2,)]
            assert await database.fetch_value("SELECT 1") == 1
            stats = database.stats()
            assert (stats.in_use, stats.resetting, stats.closing, stats.lost) == (0, 0, 0, 0)


async def database_is_idle(database: db.Database) -> bool:
    stats = database.stats()
    return stats.idle == stats.size


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_a_second_cancellation_leaves_at_once_and_what_comes_next_waits_for_the_end(
    postgres_url: str, turns: int
) -> None:
    """Laws: E7."""
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        pid = await backend(connection)
        task = await under_way(admin, pid, query(connection, "SELECT pg_sleep(600)", ()))
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not hooks.is_clean(connection)
        assert await backend(connection) == pid
        assert not await active(admin, pid)
        assert hooks.is_clean(connection)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hears no request to cancel: what runs is through before it could be ended."""

    async def unheard(self: Connection, *, timeout: float) -> None:
        """Tell nobody."""

    monkeypatch.setattr(Connection, "cancel_safe", unheard)


async def cut(admin: Connection, connection: Connection, work: Coroutine[Any, Any, object]) -> BaseException:
    """Cancel something while the server works on it, and return what it ends with."""
    task = await under_way(admin, await backend(connection), work)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


THROUGH_SOON = "INSERT INTO things SELECT 1 FROM pg_sleep(0.3)"


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("many", [False, True])
async def test_a_cancellation_that_came_too_late_says_so(postgres_url: str, many: bool) -> None:
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        await script(connection, "CREATE TEMP TABLE things (a int)")
        await hooks.reset(connection)
        await script(connection, "CREATE TEMP TABLE things (a int)")
        work = batch(connection, [(THROUGH_SOON, ())] * 2) if many else query(connection, THROUGH_SOON, ())
        assert isinstance((await cut(admin, connection, work)).__cause__, CancelledTooLate)
        assert await rows(connection, "SELECT count(*) FROM things") == [(1 + many,)]


async def test_a_cancellation_that_came_in_time_says_nothing(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        assert (await cut(admin, connection, query(connection, "SELECT pg_sleep(600)", ()))).__cause__ is None


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("begin", ["begin", "text"])
async def test_a_cancelled_statement_that_was_through_dooms_its_transaction_all_the_same(
    postgres_url: str, begin: str
) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        await script(connection, "CREATE TEMP TABLE things (a int)")
        if begin == "text":
            await query(connection, "BEGIN", ())
        else:
            await start(connection)
        await rows(connection, "SELECT 'first'")
        work = query(connection, THROUGH_SOON, ())
        assert (await cut(admin, connection, work)).__cause__ is None
        assert transaction_status(connection) == "failed"


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("way", ["alone", "in a batch", "in a script"])
async def test_a_cancelled_ddl_that_was_through_has_its_columns_looked_at_anew(postgres_url: str, way: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        for _ in range(2):
            await rows(connection, "SELECT 'known'")
        assert not connection.prepared.unwanted
        ddl = "CREATE TEMP TABLE things AS SELECT 1 AS a FROM pg_sleep(0.3)"
        if way == "alone":
            await cut(admin, connection, query(connection, ddl, ()))
        elif way == "in a batch":
            await cut(admin, connection, batch(connection, [("SELECT 1", ()), (ddl, ())]))
        else:
            await cut(admin, connection, script(connection, ddl))
        assert connection.prepared.unwanted  # what was known is prepared anew, with the types as they are now


@pytest.mark.usefixtures("deaf")
async def test_a_commit_whose_time_was_up_while_it_was_done_leaves_the_outcome_unknown(postgres_url: str) -> None:
    config = configured(postgres_url, statement_timeout=0.2, pool={"max_size": 1})
    async with db.open(config) as database, database.connection() as connection:
        await connection.execute_script(
            "CREATE TEMP TABLE things (a int); CREATE FUNCTION pg_temp.slow() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END$$; CREATE CONSTRAINT TRIGGER later AFTER INSERT ON things "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.slow()"
        )
        with pytest.raises(db.QueryTimeout) as caught:
            async with connection.transaction():
                await connection.execute("INSERT INTO things VALUES (1)")
        assert caught.value.outcome_unknown
        assert not connection.in_transaction
        assert await connection.fetch_value("SELECT count(*) FROM things") == 1


@pytest.mark.parametrize("many", [False, True])
async def test_a_cancelled_batch_leaves_nothing(postgres_url: str, many: bool) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        await script(connection, "CREATE TEMP TABLE things (a int)")
        pid = await backend(connection)
        slow = "INSERT INTO things SELECT $1::int + count(*) FROM pg_sleep($2)"
        data = [(1, 0.0), (2, 600.0), (3, 0.0)]
        work = execute_many(connection, slow, data) if many else batch(connection, [(slow, row) for row in data])
        task = await under_way(admin, pid, work)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]
        assert await backend(connection) == pid


async def test_a_batch_that_is_cancelled_while_it_is_sent_leaves_nothing(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (a int)")
        pid = await backend(connection)
        task = asyncio.ensure_future(
            execute_many(connection, "INSERT INTO things VALUES ($1)", [(number,) for number in range(5000)])
        )
        await until(lambda: sending(connection))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]
        assert await backend(connection) == pid


async def sending(connection: Connection) -> bool:
    return bool(connection.pgconn.pipeline_status)


async def test_a_cancelled_copy_leaves_nothing(postgres_url: str) -> None:
    waiting = asyncio.Event()

    async def source() -> AsyncGenerator[tuple[int], None]:
        for number in range(2000):
            yield (number,)
        waiting.set()
        await asyncio.Event().wait()

    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (a int)")
        pid = await backend(connection)
        task = asyncio.ensure_future(insert_many(connection, ("things",), ["a"], source()))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]
        assert await backend(connection) == pid


async def test_a_cancelled_transaction_control_does_not_hang(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await start(connection)
        await rows(connection, "SELECT 1")
        task = asyncio.ensure_future(rollback(connection))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await hooks.reset(connection)
        assert hooks.is_clean(connection)


async def test_two_tasks_on_one_connection_are_told_and_neither_is_harmed(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        pid = await backend(connection)
        task = await under_way(admin, pid, query(connection, "SELECT pg_sleep(0.05), 7", ()))
        for work in (
            query(connection, "SELECT 1", ()),
            batch(connection, [("SELECT 1", ()), ("SELECT 2", ())]),
            script(connection, "SELECT 1"),
            insert_many(connection, ("things",), ["a"], [(1,)]),
        ):
            assert isinstance(await failure(work), UsageError)
        assert (await task).rows[0][1] == 7  # type: ignore[attr-defined]  # a Result


async def test_an_abort_wakes_who_waits(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        task = await under_way(admin, await backend(connection), query(connection, "SELECT pg_sleep(600)", ()))
        abort(connection)
        assert isinstance(await failure(task), DbConnectionError)
        assert connection.closed


async def test_an_abort_leaves_nothing_that_the_event_loop_watches(postgres_url: str) -> None:
    loop = asyncio.get_running_loop()
    async with connected(postgres_url) as (_, connection):
        file = connection.pgconn.socket
        task = asyncio.ensure_future(query(connection, "SELECT 1", ()))
        while connection.waiter is None or not connection.waiter.done():  # until it is woken, and has not run
            await asyncio.sleep(0)
        abort(connection)
        assert not loop.remove_reader(file)
        await asyncio.wait([task])
        assert task.exception() is not None


async def test_an_abort_wakes_who_waits_by_psycopgs_own_interface(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        task = await under_way(admin, await backend(connection), connection.execute("SELECT pg_sleep(600)"))
        abort(connection)
        assert isinstance(await failure(task), DbConnectionError)
        assert connection.closed


async def test_a_dropped_connection_is_noticed_by_the_server(postgres_url: str) -> None:
    interval = 0.05
    async with (
        connected(postgres_url, client_connection_check_interval=interval) as (_, connection),
        connected(postgres_url) as (_, admin),
    ):
        pid = await backend(connection)
        task = await under_way(admin, pid, query(connection, "SELECT pg_sleep(600)", ()))
        abort(connection)
        await asyncio.wait([task])

        async def gone() -> bool:
            return not await rows(admin, "SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)

        await until(gone)
