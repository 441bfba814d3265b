"""What is reset between two holders, and what is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from dbcore_mysql import Connection
from dbcore_mysql.statements import query
from dbcore_mysql.streaming import stream
from mysql_connections import connected, failure, rows, start
from mysql_place import fresh_database

import dbcore as db
from dbcore.errors import DbConnectionError

FACTS = "SELECT @@sql_mode, @@time_zone, @@autocommit, @@character_set_client, @@collation_connection, @@lc_messages"

CHANGES = [
    "SET @x = 1",
    "SET SESSION lock_wait_timeout = 7",
    "CREATE TEMPORARY TABLE passing (a INT)",
    "DO GET_LOCK('a_lock', 0)",
    "PREPARE passing FROM 'SELECT 1'",
    "SET SESSION TRANSACTION READ ONLY",
    "SET autocommit = 0",
]


async def traces(connection: Connection) -> list[Any]:
    """What is left of the changes."""
    ((variable, seconds, reads, commits),) = await rows(
        connection, "SELECT @x, @@lock_wait_timeout, @@tx_read_only, @@autocommit"
    )
    found = [variable is not None, seconds == 7, reads == 1, commits == 0]
    found += [await failure_or_none(connection, sql) is None for sql in ("SELECT * FROM passing", "EXECUTE passing")]
    return [number for number, left in enumerate(found) if left]


async def failure_or_none(connection: Connection, sql: str) -> db.DbError | None:
    try:
        await query(connection, sql, ())
    except db.DbError as error:
        return error
    return None


@pytest.mark.parametrize("mode", ["tracked", "full"])
@pytest.mark.parametrize("sql", CHANGES)
async def test_a_change_of_the_session_is_undone(mysql_url: str, mode: str, sql: str) -> None:
    async with connected(mysql_url, pool={"reset": mode}) as (hooks, connection):
        before = await rows(connection, FACTS)
        await query(connection, sql, ())
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        assert await traces(connection) == []
        assert await rows(connection, FACTS) == before
        async with connected(mysql_url) as (_, other):
            assert await rows(other, "SELECT IS_FREE_LOCK('a_lock')") == [(1,)]


async def test_a_reset_costs_nothing_where_nothing_was_changed(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        await query(connection, "SELECT 1", ())
        assert hooks.is_clean(connection)


async def test_a_full_reset_follows_every_use(mysql_url: str) -> None:
    async with connected(mysql_url, pool={"reset": "full"}) as (hooks, connection):
        assert hooks.is_clean(connection)
        await query(connection, "SELECT 1", ())
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)


async def test_a_reset_of_transactions_alone_leaves_the_session(mysql_url: str) -> None:
    async with connected(mysql_url, pool={"reset": "transaction"}) as (hooks, connection):
        await query(connection, "SET @x = 1", ())
        await start(connection)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        assert not connection.in_transaction
        assert await rows(connection, "SELECT @x") == [(1,)]


@pytest.mark.parametrize("mode", ["transaction", "tracked", "full"])
async def test_a_transaction_that_was_left_open_is_rolled_back_and_told_of(
    mysql_url: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with fresh_database(mysql_url) as (url, ask):
        async with connected(url, pool={"reset": mode}) as (hooks, connection):
            await query(connection, "CREATE TABLE t (a INT)", ())
            await query(connection, "BEGIN", ())
            await query(connection, "INSERT INTO t VALUES (1)", ())
            with caplog.at_level(logging.WARNING):
                await hooks.reset(connection)
            assert "left open" in caplog.text
            assert hooks.is_clean(connection)
            assert ask(f"SELECT count(*) FROM {url.rpartition('/')[2]}.t") == [(0,)]


async def test_what_asyncmy_itself_did_is_undone_without_being_told(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        before = await rows(connection, FACTS)
        await connection.query("SET NAMES latin1, sql_mode = 'ANSI', @x = 1")
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert await rows(connection, FACTS) == before
        assert await rows(connection, "SELECT @x, 'é'") == [(None, "é")]


async def test_a_use_of_another_database_is_undone(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        ((home,),) = await rows(connection, "SELECT DATABASE()")
        for go in (query(connection, "USE mysql", ()), connection.query("USE mysql")):
            await go
            await hooks.reset(connection)
            assert await rows(connection, "SELECT DATABASE()") == [(home,)]


async def test_without_a_database_to_go_back_to_the_connection_is_replaced(mysql_url: str) -> None:
    bare = mysql_url.rpartition("/")[0]
    async with connected(bare) as (hooks, connection):
        await query(connection, "SET @x = 1", ())
        await hooks.reset(connection)
        await query(connection, "USE mysql", ())
        with pytest.raises(DbConnectionError, match="USE"):
            await hooks.reset(connection)


@pytest.mark.parametrize("text", ["SET ROLE NONE", "set role none", "/*!50000 SET */ ROLE NONE"])
async def test_a_connection_that_took_another_role_is_replaced(mysql_url: str, text: str) -> None:
    """`COM_RESET_CONNECTION` leaves the role as it is."""
    async with connected(mysql_url) as (hooks, connection):
        await query(connection, text, ())
        with pytest.raises(DbConnectionError, match="SET ROLE"):
            await hooks.reset(connection)


async def test_a_stream_that_was_left_open_is_ended(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        source = stream(connection, "SELECT * FROM information_schema.columns, information_schema.columns AS c", (), 10)
        await anext(source)
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT 1") == [(1,)]
        await query(connection, "SET @x = 1", ())
        error = await failure(anext(source))
        assert "closed early" in str(error)
        await source.aclose()
        assert await rows(connection, "SELECT @x") == [(1,)]


async def test_a_change_inside_of_a_procedure_is_undone_for_a_call_may_be_one(mysql_url: str) -> None:
    with fresh_database(mysql_url) as (url, ask):
        name = url.rpartition("/")[2]
        ask(f"CREATE PROCEDURE {name}.changes() SET SESSION lock_wait_timeout = 7")
        async with connected(url) as (hooks, connection):
            await query(connection, "CALL changes()", ())
            assert not hooks.is_clean(connection)
            await hooks.reset(connection)
            assert await traces(connection) == []
