"""What a pool makes of a server that dies, hangs, is full, or comes back: on a real Postgres of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from postgres_server import Server

import dbcore as db
from dbcore.testing import FaultProxy


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Apart from the shared server, for these tests are not kind to it."""
    with Server({"max_connections": "30", "superuser_reserved_connections": "3"}) as own:
        yield own


@asynccontextmanager
async def opened(url: str, **pool: Any) -> AsyncGenerator[db.Database, None]:
    async with db.open({"url": url, "pool": pool}) as database:
        yield database


def through(proxy: FaultProxy, server: Server) -> str:
    return server.url.replace(f":{server.port}/", f":{proxy.port}/")


def ask(server: Server, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.socket_url, autocommit=True) as outside:
        return outside.execute(sql.encode()).fetchall()


def terminate(server: Server, which: str = "true") -> int:
    found = ask(
        server,
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
        f"WHERE application_name = 'dbcore' AND {which}",
    )
    return int(found[0][0])


async def warm(database: db.Database, count: int) -> list[int]:
    """Use `count` connections at once; return the processes behind them."""
    gate = asyncio.Barrier(count)

    async def one() -> int:
        async with database.connection() as connection:
            pid = await connection.fetch_value("SELECT pg_backend_pid()")
            await gate.wait()
            return int(pid)

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_a_backend_killed_while_idle_costs_nobody_an_error(server: Server) -> None:
    """Laws: F4, F5."""
    async with opened(server.url, max_size=3) as database:
        pids = await warm(database, 3)
        assert await asyncio.to_thread(terminate, server, f"pid = {pids[0]}") == 1
        for _ in range(6):
            assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().lost <= 1


async def test_all_backends_killed_while_idle_cost_nobody_an_error(server: Server) -> None:
    """Laws: F4, F5, F6, F9."""
    async with opened(server.url, max_size=5) as database:
        before = await warm(database, 5)
        assert await asyncio.to_thread(terminate, server) == 5
        after = await warm(database, 5)
        assert not set(before) & set(after)
        assert database.stats().lost == 5


async def test_a_backend_killed_under_its_holder_is_one_error_and_a_free_slot(server: Server) -> None:
    """Laws: B4, F1, F2."""
    async with opened(server.url, max_size=1) as database:
        with pytest.raises(db.DbConnectionError) as caught:
            async with database.connection() as connection:
                await connection.execute("SELECT 1")
                await asyncio.to_thread(terminate, server)
                await connection.execute("SELECT 1")
        assert caught.value.driver == "postgres"
        assert caught.value.__cause__ is not None
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().size == 1


async def test_a_session_of_the_holder_dies_with_its_statement_and_the_transaction_is_no_success(
    server: Server,
) -> None:
    """Laws: F2, O8."""
    async with opened(server.url, max_size=2) as database:
        await database.execute("DROP TABLE IF EXISTS fault_tx")
        await database.execute("CREATE TABLE fault_tx (n int)")
        with pytest.raises(db.DbConnectionError):
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO fault_tx VALUES (1)")
                await asyncio.to_thread(terminate, server)
        assert await database.fetch_value("SELECT count(*) FROM fault_tx") == 0


async def test_a_server_restarted_under_100_busy_tasks_shows_only_two_kinds_of_error(server: Server) -> None:
    """Laws: D6, F6, N9. Bar 3 of the engine: never more than max_size, and healthy within one connect of its return."""
    size = 8
    wrong: list[BaseException] = []
    done = asyncio.Event()
    watched: list[int] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.is_set():
            try:
                sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbcore'"
                watched.append(int(ask(server, sql)[0][0]))
            except psycopg.OperationalError:
                watching.wait(0.01)  # the server is away

    async with opened(server.url, max_size=size, checkout_timeout=20, backoff_max=0.5) as database:

        async def work() -> None:
            while not done.is_set():
                try:
                    await database.fetch_value("SELECT pg_sleep(0.001) IS NULL")
                except (db.DbConnectionError, db.PoolTimeout):
                    await asyncio.sleep(0)
                except Exception as error:  # whatever else comes is the finding
                    wrong.append(error)
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        tasks = [asyncio.create_task(work()) for _ in range(100)]
        try:
            await warm(database, size)
            await asyncio.to_thread(server.restart)
            assert await database.fetch_value("SELECT 1") == 1
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            assert await database.fetch_value("SELECT 1") == 1
        finally:
            done.set()
            await asyncio.gather(*tasks)
            watching.set()
            await asyncio.to_thread(watcher.join)
        assert wrong == []
        assert max(watched) <= size
        assert len(set(await warm(database, size))) == size


async def test_a_full_server_is_waited_for(server: Server) -> None:
    """Laws: A6, D6."""
    others = [psycopg.connect(server.url) for _ in range(30)]  # a superuser gets the reserved ones too
    try:
        async with db.open({"url": server.url, "startup": "try", "pool": {"max_size": 2}}) as database:
            with pytest.raises(db.PoolTimeout) as caught:
                await database.run(lambda connection: connection.fetch_value("SELECT 1"), timeout=0.3)
            assert caught.value.reason == "connect_failing"
            assert isinstance(caught.value.__cause__, db.DbConnectionError)
            assert caught.value.__cause__.sqlstate == "53300"
            waiting = asyncio.create_task(database.fetch_value("SELECT 1"))
            await asyncio.sleep(0)
            others.pop().close()
            assert await waiting == 1
    finally:
        for other in others:
            other.close()


async def test_a_wrong_password_is_told_in_the_time_of_one_connect(server: Server) -> None:
    """Laws: A6, A24, D6. Bar 4 of the engine: the checkout timeout of 30 s plays no part."""
    url = server.url.replace(server.url.split(":")[2].split("@")[0], "not-the-password")
    database = db.open({"url": url, "startup": "lazy", "pool": {"checkout_timeout": 30}})
    async with database:
        began = time.monotonic()
        with pytest.raises(db.DbConnectionError) as caught:
            await database.fetch_value("SELECT 1")
        took = time.monotonic() - began
        assert caught.value.sqlstate == "28P01"
        assert not caught.value.retryable
        assert "not-the-password" not in str(caught.value)
        assert database.stats().connect_failures == 1
        assert took < 30 / 2  # not a limit on speed: half of the time that a wait would have taken


async def test_a_frozen_network_costs_one_ping_and_then_a_new_connection(server: Server) -> None:
    """Laws: E12, F6, G9."""
    async with (
        FaultProxy("127.0.0.1", server.port) as proxy,
        opened(through(proxy, server), max_size=3, ping_after=0, reset_timeout=0.2, connect_timeout=2) as database,
    ):
        await warm(database, 2)
        proxy.freeze()
        waiting = asyncio.create_task(database.fetch_value("SELECT 1"))
        while database.stats().lost == 0:
            await asyncio.sleep(0)
        proxy.thaw()
        assert await waiting == 1


async def test_a_cut_network_is_one_error_for_those_inside_and_none_for_those_after(server: Server) -> None:
    """Laws: F1, F4, F9."""
    async with (
        FaultProxy("127.0.0.1", server.port) as proxy,
        opened(through(proxy, server), max_size=4) as database,
    ):
        await warm(database, 4)
        running = asyncio.create_task(database.fetch_value("SELECT pg_sleep(60)"))
        while database.stats().in_use == 0:
            await asyncio.sleep(0)
        proxy.cut()
        with pytest.raises(db.DbConnectionError):
            await running
        assert await asyncio.gather(*(database.fetch_value("SELECT 1") for _ in range(8))) == [1] * 8
        assert database.stats().size <= 4


async def test_a_connect_that_hangs_in_the_handshake_ends_at_its_own_limit(server: Server) -> None:
    """Laws: A8, D5, D6."""
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.freeze()
        source = {"url": through(proxy, server), "startup": "lazy", "pool": {"connect_timeout": 0.1, "max_size": 2}}
        async with db.open(source) as database:
            with pytest.raises(db.PoolTimeout) as caught:
                await database.run(lambda connection: connection.fetch_value("SELECT 1"), timeout=0.5)
            assert caught.value.reason in {"connect_failing", "connecting"}
            assert isinstance(caught.value.__cause__, db.DbConnectionError)
            proxy.thaw()
            assert await database.fetch_value("SELECT 1") == 1


async def test_stop_is_bounded_with_a_server_that_answers_nothing(server: Server) -> None:
    """Laws: J4, J15, J19."""
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        source = {
            "url": through(proxy, server),
            "pool": {"max_size": 3, "stop_timeout": 0.2, "reset_timeout": 0.2},
        }
        database = db.open(source)
        await database.start()
        await warm(database, 3)
        running = asyncio.create_task(database.fetch_value("SELECT pg_sleep(60)"))
        while database.stats().in_use == 0:
            await asyncio.sleep(0)
        proxy.freeze()
        await database.stop()
        with pytest.raises(db.DbConnectionError):
            await running
        assert database.stats().size == 0


async def test_an_outage_is_probed_and_not_stormed(server: Server) -> None:
    """Laws: N1, N3, N9."""
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        source = {
            "url": through(proxy, server),
            "pool": {"max_size": 10, "min_size": 0, "backoff_min": 0.05, "backoff_max": 0.1},
        }
        async with db.open(source) as database:
            proxy.refuse()
            tasks = [asyncio.create_task(database.fetch_value("SELECT 1")) for _ in range(50)]
            while database.stats().connect_failures < 12:
                await asyncio.sleep(0)
            assert database.stats().connecting <= 1
            await proxy.admit()
            assert await asyncio.gather(*tasks) == [1] * 50
            assert database.stats().max_size == 10
