"""Transactions and streams: what asyncpg does not tell, and connections that are lost or cancelled in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable

import psycopg
import pytest
from postgres_connections import Proxy

import dbcore as db


@contextlib.asynccontextmanager
async def with_items(postgres_url: str, *, cut: bool = False) -> AsyncGenerator[tuple[db.Database, Proxy], None]:
    """A database with the table `items (id)`, with 1 to 500 in it, and what may stand between it and the server."""
    schema = f"asyncpg_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as outside:
        outside.execute(f"CREATE SCHEMA {schema}".encode())
        outside.execute(f"CREATE TABLE {schema}.items AS SELECT * FROM generate_series(1, 500) AS id".encode())
        try:
            async with Proxy(postgres_url) as proxy:
                url = (proxy.url if cut else postgres_url).replace("postgresql:", "postgresql+asyncpg:", 1)
                url = f"{url}?options=-csearch_path={schema}&sslmode=disable"
                async with db.open({"url": url, "pool": {"max_size": 1, "reset_timeout": 1 if cut else 5}}) as database:
                    yield database, proxy
        finally:
            gone = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE relation = %s::regclass"
            outside.execute(gone, [f"{schema}.items"])
            outside.execute(f"DROP SCHEMA {schema} CASCADE".encode())


async def count(database: db.Database) -> int:
    return await database.fetch_value("SELECT count(*) FROM items", into=int)


# -- lost --------------------------------------------------------------------------------------------------------------


async def test_a_commit_that_the_line_was_cut_at_says_that_nobody_knows(postgres_url: str) -> None:
    async with with_items(postgres_url, cut=True) as (database, proxy):
        proxy.cut_at = b"COMMIT"
        with pytest.raises(db.DbConnectionError, match="during COMMIT") as caught:
            async with database.transaction() as tx:
                await tx.execute("DELETE FROM items")
        assert caught.value.outcome_unknown
        assert not caught.value.retryable
        proxy.cut_at = None
        assert await count(database) == 500
        assert database.stats().connects == 2


LOST: dict[str, tuple[Callable[[db.Database], Awaitable[object]], bool]] = {
    "statement": (lambda database: database.execute("DELETE FROM items WHERE $1 = 'cut here'", ["x"]), True),
    "execute_many": (lambda database: database.execute_many("DELETE FROM items WHERE $1 = 'cut here'", [["x"]]), True),
    "script": (lambda database: database.execute_script("DELETE FROM items; SELECT 'cut here'"), True),
}


@pytest.mark.parametrize("name", LOST)
async def test_a_connection_that_is_lost_around_a_lone_statement_says_that_nobody_knows(
    postgres_url: str, name: str
) -> None:
    work, unknown = LOST[name]
    async with with_items(postgres_url, cut=True) as (database, proxy):
        proxy.cut_at = b"cut here"
        with pytest.raises(db.DbConnectionError) as caught:
            await work(database)
        assert (caught.value.outcome_unknown, caught.value.retryable) == (unknown, False)
        proxy.cut_at = None
        assert await count(database) == 500


async def test_a_connection_that_is_lost_inside_of_a_transaction_says_that_nothing_was_done(postgres_url: str) -> None:
    async with with_items(postgres_url, cut=True) as (database, proxy):
        proxy.cut_at = b"cut here"
        with pytest.raises(db.DbConnectionError, match="nothing of it was done") as caught:
            async with database.transaction() as tx:
                await tx.execute("DELETE FROM items")
                await tx.execute("SELECT 'cut here'")
        assert caught.value.retryable
        assert not caught.value.outcome_unknown


async def test_what_the_server_says_when_it_ends_a_session_is_kept(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        with pytest.raises(db.DbConnectionError) as caught:
            await database.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert (caught.value.sqlstate, caught.value.retryable) == ("57P01", True)
        assert await count(database) == 500


# -- doomed ------------------------------------------------------------------------------------------------------------


async def test_an_error_dooms_a_transaction_and_a_savepoint_saves_it(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                with pytest.raises(db.QueryError):
                    await tx.execute("SELECT 1/0")
        async with database.transaction() as tx:
            with pytest.raises(db.QueryError):
                async with tx.transaction():
                    await tx.execute("SELECT 1/0")
            await tx.execute("DELETE FROM items")
        assert await count(database) == 0


async def test_what_was_refused_before_it_was_sent_dooms_nothing(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM items")
            with pytest.raises(db.QueryError):
                await tx.execute("SELECT $1::int", [2**40])
        assert await count(database) == 0


async def test_a_transaction_that_failed_behind_our_back_is_not_committed(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                await tx.execute("DELETE FROM items")
                with contextlib.suppress(Exception):
                    await tx.native.fetch("SELECT 1/0")
        assert await count(database) == 500


async def test_a_timeout_inside_of_a_transaction_dooms_it(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                await tx.execute("DELETE FROM items")
                with pytest.raises(db.QueryTimeout):
                    await tx.execute("SELECT pg_sleep(60)", timeout=0.05)
        assert await count(database) == 500
        assert database.stats().connects == 1


# -- cancelled ---------------------------------------------------------------------------------------------------------


async def test_a_statement_that_the_server_had_not_begun_is_cancelled_all_the_same(postgres_url: str) -> None:
    """The first word to the server comes too early for it; somebody has to tell it again."""
    async with with_items(postgres_url) as (database, _), database.connection() as connection:
        for turns in (1, 2, 3, 4, 5, 6, 8, 12):
            task = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert await connection.fetch_value("SELECT $1", [turns], timeout=4) == turns
        assert database.stats().connects == 1


async def test_a_server_that_cannot_be_told_costs_the_connection_and_no_more_than_some_seconds(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands in between here does not hand on that the server has hung up, for which asyncpg waits."""
    monkeypatch.setattr("dbcore_asyncpg.connection._CANCEL_SECONDS", 0.3)
    async with with_items(postgres_url, cut=True) as (database, proxy):
        proxy.cut_at = bytes([0, 0, 0, 16, 4, 210, 22, 46])  # the request to cancel
        async with database.connection() as connection:
            with pytest.raises(db.QueryTimeout):
                await connection.execute("SELECT pg_sleep(60)", timeout=0.05)
            with pytest.raises(db.DbConnectionError):
                await connection.fetch_value("SELECT 1")
        assert await count(database) == 500
        assert database.stats().connects == 2
    assert "did not end in 0.3 s" in caplog.text


# -- streams -----------------------------------------------------------------------------------------------------------


async def test_a_stream_leaves_no_transaction_behind(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _), database.connection() as connection:
        for limit in (500, 3):
            async with connection.stream("SELECT id FROM items ORDER BY id", batch_size=100) as rows:
                seen = 0
                async for _ in rows:
                    seen += 1
                    if seen == limit:
                        break
                assert not connection.in_transaction
            assert not connection.in_transaction
            assert await connection.fetch_value("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0


async def test_a_stream_that_is_left_early_inside_of_a_transaction_ends_its_statement_alone(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM items WHERE id <= 100")
            async with tx.stream("SELECT id FROM items ORDER BY id", batch_size=10) as rows:
                assert (await anext(aiter(rows))).id == 101
            assert await tx.fetch_value("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0
            async with tx.stream("DELETE FROM items RETURNING id") as rows:
                assert len([row async for row in rows]) == 400
        assert await count(database) == 0


async def test_a_stream_that_writes_is_committed_at_its_end(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        async with database.stream("DELETE FROM items WHERE id > $1 RETURNING id", [400]) as rows:
            assert len([row async for row in rows]) == 100
        assert await count(database) == 400
        async with database.stream("DELETE FROM items RETURNING id", batch_size=10) as rows:
            await anext(aiter(rows))
        assert await count(database) == 400, "left early, it is rolled back"


async def test_a_stream_ends_in_a_decode_error_for_what_python_cannot_hold(postgres_url: str) -> None:
    async with with_items(postgres_url) as (database, _):
        with pytest.raises(db.DecodeError):
            async with database.stream("SELECT '9999-12-30'::date + id AS day FROM items") as rows:
                assert [row async for row in rows] == []
        assert await count(database) == 500
