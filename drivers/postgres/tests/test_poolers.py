"""A real PgBouncer in between: what the setting `pooler` makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pgbouncer import ABSENT, Bouncer, bouncer, program
from postgres_connections import backend, configured, connected, failure, rows
from postgres_server import Server

import dbcore as db
from dbcore.errors import DbConnectionError

__all__ = ["bouncer"]


@pytest.fixture(scope="module")
def sessions(postgres: Server) -> Iterator[Bouncer]:
    """In session mode, and with no more than two connections to the server."""
    if program() is None:
        pytest.skip(ABSENT)
    with Bouncer(postgres, "session", size=2) as running:
        yield running


def opened(bouncer: Bouncer, pooler: str, **pool: Any) -> db.Database:
    return db.open(configured(bouncer.url, pooler=pooler, pool=pool))


async def test_a_pooler_that_nobody_spoke_of_is_named_in_the_error(bouncer: Bouncer) -> None:
    error = await failure(connected(bouncer.url).__aenter__())
    assert isinstance(error, DbConnectionError)
    assert 'pooler = "session" or "transaction"' in str(error)


async def test_a_wrong_password_at_the_pooler_is_an_error_of_connecting(bouncer: Bouncer) -> None:
    wrong = bouncer.url.replace("p%40ss", "other")
    error = await failure(connected(wrong, pooler="transaction").__aenter__())
    assert isinstance(error, DbConnectionError)
    assert "authentication failed" in str(error)
    assert "other" not in str(error)


async def test_a_session_through_a_pooler_is_prepared_for_and_reset(sessions: Bouncer) -> None:
    async with connected(sessions.url, pooler="session") as (hooks, connection):
        for _ in range(4):
            assert await rows(connection, "SELECT $1::int", 1) == [(1,)]
        assert (await rows(connection, "SELECT count(*) FROM pg_prepared_statements"))[0][0] >= 1
        await rows(connection, "SET work_mem = '123kB'")
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert await rows(connection, "SHOW work_mem") != [("123kB",)]


async def test_a_pool_goes_on_while_its_sessions_pass_from_one_server_connection_to_another(sessions: Bouncer) -> None:
    for _ in range(3):  # the pooler hands each new session one that others have used
        async with opened(sessions, "session", max_size=2) as database:
            for _ in range(5):
                found = await asyncio.gather(*(database.fetch_value("SELECT $1::int", [n]) for n in range(20)))
                assert found == list(range(20))


async def test_more_connections_than_the_pooler_has_share_what_it_has(bouncer: Bouncer) -> None:
    async with opened(bouncer, "transaction", max_size=12) as database:
        await database.execute_script("CREATE TABLE shared (n int); INSERT INTO shared VALUES (0)")
        try:

            async def add(_: int) -> None:
                async with database.transaction() as tx:
                    await tx.execute("UPDATE shared SET n = n + $1", [1])
                    await tx.fetch_value("SELECT n FROM shared WHERE n > $1", [0])

            await asyncio.gather(*(add(number) for number in range(100)))
            assert await database.fetch_value("SELECT n FROM shared") == 100
            assert database.stats().size > bouncer.size
            servers = [server for server in bouncer.show("SERVERS") if server["user"] == "dbcore"]
            assert 1 <= len(servers) <= bouncer.size
        finally:
            await database.execute("DROP TABLE shared")


async def test_nothing_is_left_prepared_at_a_server_that_others_use_too(bouncer: Bouncer) -> None:
    async with opened(bouncer, "transaction", max_size=4) as database:
        for _ in range(5):
            async with database.transaction() as tx:
                await tx.execute_many("SELECT $1::int", [[1], [2]])
                await tx.batch([("SELECT $1::text", ["a"])] * 2)
                assert await tx.fetch_value("SELECT count(*) FROM pg_prepared_statements") == 0


async def test_a_statement_is_cancelled_through_the_pooler(bouncer: Bouncer) -> None:
    async with opened(bouncer, "transaction", max_size=1) as database:
        with pytest.raises(db.QueryTimeout):
            await database.execute("SELECT pg_sleep(600) AS through_the_pooler", timeout=0.1)
        sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600) AS through%' AND state = 'active'"
        assert await database.fetch_value(f"{sql} AND pid <> pg_backend_pid()") == 0
        assert database.stats().lost == 0


async def test_a_stream_left_early_leaves_the_pooler_in_order(bouncer: Bouncer) -> None:
    async with opened(bouncer, "transaction", max_size=1) as database:
        for _ in range(3):
            async with database.stream("SELECT * FROM generate_series(1, 1000000)", batch_size=10) as found:
                assert await anext(aiter(found)) == (1,)
            assert await database.fetch_value("SELECT 2") == 2
        assert database.stats().lost == 0


async def test_a_connection_of_the_pooler_that_dies_is_replaced(bouncer: Bouncer, postgres_url: str) -> None:
    async with opened(bouncer, "transaction", max_size=1) as database, connected(postgres_url) as (_, admin):
        victim = await database.fetch_value("SELECT pg_backend_pid()")
        assert victim != await backend(admin)
        await rows(admin, "SELECT pg_terminate_backend($1, 5000)", victim)
        assert await database.fetch_value("SELECT 1") == 1
