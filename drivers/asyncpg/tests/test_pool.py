"""asyncpg's own pool behind the closures: what is lent, given back, counted and ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import psycopg
import pytest
from databases import until
from dbcore_asyncpg import Connection, driver, start_pool

import dbcore as db
from dbcore.events import ConnectionReset, Event
from dbcore.loading import resolve


def url_of(postgres_url: str) -> str:
    return postgres_url.replace("postgresql:", "postgresql+asyncpg:", 1)


def opened(postgres_url: str, *, observe: Callable[[Event], None] | None = None, **pool: Any) -> db.Database:
    return db.open({"url": url_of(postgres_url), "pool": pool}, observe=observe)


@contextlib.asynccontextmanager
async def pooled(postgres_url: str, **pool: Any) -> AsyncGenerator[db.PoolOps[Connection], None]:
    """The pool without the face."""
    running = await driver.start_pool(resolve({"url": url_of(postgres_url), "pool": pool}))
    assert isinstance(running, db.PoolOps)
    try:
        yield running
    finally:
        await running.stop()


# -- checkout and release ----------------------------------------------------------------------------------------------


async def test_the_pool_lends_native_connections_and_a_release_that_is_harmless_twice(postgres_url: str) -> None:
    async with pooled(postgres_url, max_size=1) as pool:
        native, release = await pool.checkout()
        assert type(native) is Connection
        assert await native.fetchval("SELECT 1") == 1
        release()
        release()
        again, release_again = await pool.checkout()
        assert again is native
        release()  # of the former checkout: the connection stays with its new holder
        assert pool.stats is not None
        assert pool.stats().in_use == 1
        release_again()


@pytest.mark.parametrize(
    ("address", "cure"),
    [("127.0.0.1:1", "is a server running at that address"), ("no-such-host.invalid", "correct host")],
)
async def test_a_connect_that_fails_says_what_to_look_at(address: str, cure: str) -> None:
    with pytest.raises(db.DbConnectionError, match=cure) as caught:
        await start_pool(resolve({"url": f"asyncpg://app@{address}/shop"}))
    assert caught.value.retryable


async def test_start_pool_is_all_that_is_needed_without_the_face(postgres_url: str) -> None:
    pool = await start_pool(resolve(url_of(postgres_url)))
    native, release = await pool.checkout(timeout=5)
    assert await native.fetchval("SELECT 2") == 2
    release()
    await pool.stop()


async def test_one_statement_after_the_other_needs_one_connection(postgres_url: str) -> None:
    """The native pool would open a second one while the first is on its way back."""
    async with opened(postgres_url) as database:
        for number in range(20):
            assert await database.fetch_value("SELECT $1", [number]) == number
        assert database.stats().connects == 1


async def test_a_cancelled_checkout_keeps_nothing_and_loses_nothing(postgres_url: str) -> None:
    async with pooled(postgres_url, max_size=2) as pool:
        assert pool.stats is not None
        for turns in range(40):
            held, release = await pool.checkout()
            task = asyncio.create_task(anything(pool))
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            task.cancel()
            release()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()()
            assert held is not None
        both = [await pool.checkout(timeout=5) for _ in range(2)]
        assert pool.stats().in_use == 2
        for _, give_back in both:
            give_back()
        await until(lambda: pool.stats is not None and pool.stats().resetting == 0)
        assert pool.stats().size <= 2


async def anything(pool: db.PoolOps[Connection]) -> db.Release:
    return (await pool.checkout())[1]


async def test_a_checkout_in_vain_says_who_holds_what(postgres_url: str) -> None:
    async with opened(postgres_url, max_size=1) as database, database.connection():
        with pytest.raises(db.PoolTimeout, match=r"within 0\.05 s: all connections were busy") as caught:
            async with database.connection(timeout=0.05):
                pass
    error = caught.value
    assert (error.reason, error.retryable) == ("exhausted", True)
    assert error.stats is not None
    assert (error.stats.in_use, error.stats.timeouts) == (1, 0)
    assert "test_pool.py" in error.holders[0].site


async def test_a_timeout_of_0_takes_what_is_there_and_waits_for_nothing(postgres_url: str) -> None:
    async with pooled(postgres_url, max_size=1) as pool:
        _, release = await pool.checkout(timeout=0)
        with pytest.raises(db.PoolTimeout):
            await pool.checkout(timeout=0)
        release()


async def test_a_connect_that_takes_too_long_is_told_from_a_busy_pool() -> None:
    async with silent_server() as port:
        keys = {"url": f"asyncpg://app@127.0.0.1:{port}/shop?sslmode=disable", "startup": "lazy"}
        async with db.open(keys) as database:
            with pytest.raises(db.PoolTimeout) as caught:
                async with database.connection(timeout=0.1):
                    pass
            assert caught.value.reason == "connecting"
        async with db.open({**keys, "pool": {"connect_timeout": 0.1}}) as database:
            with pytest.raises(db.DbConnectionError, match=r"no answer within 0\.1 s") as failed:
                await database.fetch_value("SELECT 1")
            assert failed.value.retryable


@contextlib.asynccontextmanager
async def silent_server() -> AsyncGenerator[int, None]:
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


# -- what a release undoes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tracked", "full", "transaction"])
async def test_a_release_restores_what_the_mode_promises(postgres_url: str, mode: str) -> None:
    async with opened(postgres_url, max_size=1, reset=mode) as database:
        async with database.connection() as connection:
            await connection.execute("SET application_name TO changed")
            await connection.execute("CREATE TEMP TABLE leaked (n int)")
            await connection.execute("SET ROLE pg_monitor")
        shown = await database.fetch_one(
            "SELECT current_setting('application_name'), to_regclass('leaked')::text, current_role"
        )
        if mode == "transaction":
            assert shown == ("changed", "leaked", "pg_monitor")
            async with database.connection() as connection:
                await connection.execute("DISCARD ALL")
        else:
            assert shown[:2] == ("dbcore", None)
            assert shown[2] != "pg_monitor"


async def test_a_release_costs_a_trip_only_where_the_session_was_changed(postgres_url: str) -> None:
    events: list[Event] = []
    async with opened(postgres_url, max_size=1, observe=events.append) as database:
        assert await database.fetch_value("SELECT 1") == 1
        await database.execute("SELECT set_config('a.b', 'c', false)")
        assert await database.fetch_value("SELECT current_setting('a.b', true)") in (None, "")
        async with database.connection() as connection:
            assert connection.native.get_server_pid() > 0
    assert sum(isinstance(event, ConnectionReset) for event in events) == 2
    assert database.stats().resets == 2


async def test_a_transaction_that_is_left_open_is_rolled_back_and_said(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(postgres_url, max_size=1) as database:
        async with database.connection() as connection:
            await connection.execute("BEGIN")
        async with database.connection() as connection:
            assert not connection.in_transaction
            assert await connection.fetch_value("SELECT 1") == 1
        assert database.stats().connects == 1
    assert [record.name for record in caplog.records] == ["dbcore.asyncpg"]
    assert "left open is rolled back" in caplog.text


async def test_a_connection_that_the_server_has_closed_is_replaced(postgres_url: str) -> None:
    async with opened(postgres_url, max_size=1) as database:
        pid = await database.fetch_value("SELECT pg_backend_pid()")
        with psycopg.connect(postgres_url, autocommit=True) as outside:
            outside.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        await until(lambda: database.stats().lost)
        assert await database.fetch_value("SELECT pg_backend_pid()") != pid
        assert (database.stats().lost, database.stats().connects) == (1, 2)


async def test_a_server_that_says_read_only_is_not_kept(postgres_url: str) -> None:
    async with opened(postgres_url, max_size=1) as database:
        async with database.connection() as connection:
            await connection.execute("SET default_transaction_read_only TO on")
            with pytest.raises(db.QueryError) as caught:
                await connection.execute("CREATE TABLE never (n int)")
            assert caught.value.sqlstate == "25006"
        assert await database.fetch_value("SHOW default_transaction_read_only") == "off"
        assert database.stats().connects == 2


# -- counting ----------------------------------------------------------------------------------------------------------


async def test_its_statistics_add_up(postgres_url: str) -> None:
    async with opened(postgres_url, min_size=2, max_size=3) as database:
        stats = database.stats()
        assert (stats.size, stats.idle, stats.min_size, stats.max_size) == (2, 2, 2, 3)
        async with database.connection():
            stats = database.stats()
            assert (stats.in_use, stats.idle, stats.size) == (1, 1, 2)
        stats = database.stats()
        assert (stats.in_use, stats.resetting, stats.idle) == (0, 1, 1)
        await until(lambda: database.stats().idle == 2)
        assert (stats.checkouts, stats.connects, stats.connect_failures) == (1, 2, 0)
        assert stats.connect_seconds > 0
    assert database.stats().size == 0


async def test_holders_are_named_longest_first(postgres_url: str) -> None:
    async with opened(postgres_url) as database, database.connection(), database.transaction():
        first, second = database.holders()
        assert (first.in_transaction, second.in_transaction) == (False, True)
        assert first.held_for >= second.held_for
        assert "test_holders_are_named_longest_first" in first.site
    assert database.holders() == ()


async def test_observers_hear_what_happens(postgres_url: str) -> None:
    events: list[Event] = []
    async with opened(postgres_url, max_size=1, observe=events.append) as database:
        await database.fetch_value("SELECT 1")
        async with database.connection():
            with pytest.raises(db.PoolTimeout):
                async with database.connection(timeout=0.01):
                    pass
    assert [type(event).__name__ for event in events] == [
        *("ConnectionOpened", "CheckoutServed", "StatementFinished", "ConnectionReleased"),
        *("CheckoutServed", "CheckoutFailed", "ConnectionReleased", "ConnectionClosed", "PoolStopped"),
    ]


async def test_an_observer_that_raises_harms_nothing(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    def observe(event: Event) -> None:
        raise ZeroDivisionError

    async with opened(postgres_url, observe=observe) as database:
        assert await database.fetch_value("SELECT 1") == 1
    assert "observe raised" in caplog.text


async def test_idle_connections_above_the_smallest_number_go(postgres_url: str) -> None:
    async with opened(postgres_url, min_size=1, max_size=3, max_idle=0.05) as database:
        await asyncio.gather(*(database.fetch_value("SELECT pg_sleep(0.01)") for _ in range(3)))
        await until(lambda: database.stats().size == 1)
        assert database.stats().shrunk == database.stats().connects - 1


# -- drain and stop ----------------------------------------------------------------------------------------------------


async def test_drain_replaces_idle_ones_now_and_others_when_they_come_back(postgres_url: str) -> None:
    async with opened(postgres_url, min_size=2, max_size=2) as database:
        async with database.connection() as held:
            await database.drain()
            await until(lambda: database.stats().drained == 1)
            assert await held.fetch_value("SELECT 1") == 1
        await until(lambda: database.stats().drained == 2)


async def test_stop_waits_for_a_release_that_is_under_way(postgres_url: str) -> None:
    async with pooled(postgres_url, max_size=1) as pool:
        native, release = await pool.checkout()
        await native.execute("BEGIN")
        release()
        await pool.stop()
        assert native.is_closed()
        release()
        with pytest.raises(db.PoolClosed):
            await pool.checkout()


async def test_stop_does_not_lend_to_those_who_wait(postgres_url: str) -> None:
    async with pooled(postgres_url, max_size=1) as pool:
        _, release = await pool.checkout()
        waiting = [asyncio.create_task(anything(pool)) for _ in range(3)]
        await until(lambda: pool.stats is not None and pool.stats().waiting == 3)
        stopping = asyncio.ensure_future(pool.stop())
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [db.PoolClosed] * 3
        release()
        await stopping


async def test_a_statement_that_is_cut_off_by_stop_is_a_lost_connection(postgres_url: str) -> None:
    database = opened(postgres_url, stop_timeout=0.05)
    await database.start()
    working = asyncio.create_task(database.fetch_value("SELECT pg_sleep(60)"))
    await until(lambda: database.stats().in_use)
    await database.stop()
    with pytest.raises(db.DbConnectionError) as caught:
        await working
    assert caught.value.outcome_unknown


async def test_startup_try_starts_without_a_server_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    url = "asyncpg://app@127.0.0.1:1/shop"
    async with db.open({"url": url, "startup": "try"}) as database:
        assert "started without a connection" in caplog.text
        with pytest.raises(db.DbConnectionError, match="refused") as caught:
            await database.fetch_value("SELECT 1")
        assert caught.value.retryable
        assert database.stats().connect_failures == 1


async def test_credentials_are_asked_for_each_new_connection(postgres_url: str) -> None:
    parts = resolve(url_of(postgres_url)).settings
    asked: list[int] = []

    def credentials() -> dict[str, Any]:
        asked.append(1)
        return {"password": parts.password if len(asked) > 1 else "wr0ng"}

    keys = {"driver": "asyncpg", "host": parts.host, "port": parts.port, "user": parts.user}
    async with db.open({**keys, "database": parts.database, "credentials": credentials}) as database:
        assert await database.fetch_value("SELECT 1") == 1
    assert len(asked) == 2
