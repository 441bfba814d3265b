"""Between two holders: what is undone, when, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from dbcore_postgres import Connection, start_pool
from dbcore_postgres.connection import IDLE, touch
from dbcore_postgres.copying import insert_many
from dbcore_postgres.statements import batch, execute_many, query, script
from dbcore_postgres.streaming import stream
from dbcore_postgres.transactions import rollback
from postgres_connections import Proxy, backend, configured, connected, failure, rows, start

import dbcore as db
from dbcore.errors import DbConnectionError, QueryError

# What a holder may leave behind, and a question that has the answer 0 in a session as it was.
_WORK_MEM = "SELECT (current_setting('work_mem') = '77MB')::int"
_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
LEFT = {
    "SET": ("SET work_mem = '77MB'", _WORK_MEM),
    "set_config": ("SELECT set_config('work_mem', '77MB', false)", _WORK_MEM),
    "block": ("DO $$ BEGIN PERFORM set_config('work_mem', '77MB', false); END $$", _WORK_MEM),
    "role": ("SET ROLE pg_monitor", "SELECT (current_user = 'pg_monitor')::int"),
    "session user": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT (session_user = 'pg_monitor')::int"),
    "listen": ("LISTEN something", "SELECT count(*) FROM pg_listening_channels()"),
    "prepare": ('PREPARE "my plan" AS SELECT 1', "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"),
    "cursor": ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE name = 'c'"),
    "temporary table": ("CREATE TEMP TABLE left_over (a int)", "SELECT count(to_regclass('left_over'))"),
    "temporary table by select": ("SELECT 1 AS a INTO TEMP left_over", "SELECT count(to_regclass('left_over'))"),
    "lock": ("SELECT pg_advisory_lock(4711)", _LOCKS),
}


@pytest.mark.parametrize("what", LEFT)
async def test_what_a_holder_changed_is_seen_and_undone(postgres_url: str, what: str) -> None:
    """Laws: H7."""
    change, question = LEFT[what]
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (hooks, connection):
        for _ in range(3):  # also when the text is known
            await query(connection, change, ())
            assert (await rows(connection, question))[0][0] == 1
            assert not hooks.is_clean(connection)
            before = proxy.trips
            await hooks.reset(connection)
            assert proxy.trips == before + 1
            assert hooks.is_clean(connection)
            assert (await rows(connection, question))[0][0] == 0


async def test_what_changes_nothing_needs_no_reset(postgres_url: str) -> None:
    """Laws: H7."""
    async with connected(postgres_url) as (hooks, connection):
        for sql in ("SELECT 1", "CREATE TABLE IF NOT EXISTS dbcore_nothing (a int)", "DROP TABLE dbcore_nothing"):
            await query(connection, sql, ())
            assert hooks.is_clean(connection)


async def test_full_resets_after_every_use_and_only_then(postgres_url: str) -> None:
    async with connected(postgres_url, pool={"reset": "full"}) as (hooks, connection):
        assert hooks.is_clean(connection)
        for _ in range(3):
            await rows(connection, "SELECT 1")
            assert not hooks.is_clean(connection)
            await hooks.reset(connection)
            assert hooks.is_clean(connection)


async def test_transaction_leaves_the_session_as_it_is(postgres_url: str) -> None:
    async with connected(postgres_url, pool={"reset": "transaction"}) as (hooks, connection):
        await query(connection, "SET work_mem = '77MB'", ())
        await start(connection)
        await rows(connection, "SELECT 1")
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SHOW work_mem") == [("77MB",)]


async def test_prepared_statements_survive_a_reset(postgres_url: str) -> None:
    async with connected(postgres_url, pool={"reset": "full"}) as (hooks, connection):
        for _ in range(10):
            assert await rows(connection, "SELECT $1::int", 1) == [(1,)]
            await hooks.reset(connection)
        assert await rows(connection, "SELECT count(*) FROM pg_prepared_statements") == [(1,)]


async def by_cursor(connection: Connection) -> None:
    await connection.execute("SET work_mem = '77MB'")


async def by_transaction(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("SET work_mem = '77MB'")


async def by_pipeline(connection: Connection) -> None:
    async with connection.pipeline():
        await connection.execute("SET work_mem = '77MB'")


@pytest.mark.parametrize("use", [by_cursor, by_transaction, by_pipeline])
async def test_use_of_psycopgs_own_interface_is_undone(
    postgres_url: str, use: Callable[[Connection], Awaitable[None]]
) -> None:
    async with connected(postgres_url) as (hooks, connection):
        for _ in range(3):
            await rows(connection, "SELECT $1::int", 1)
            await use(connection)
            assert await rows(connection, "SHOW work_mem") == [("77MB",)]
            assert not hooks.is_clean(connection)
            await hooks.reset(connection)
            assert await rows(connection, "SHOW work_mem") != [("77MB",)]
            assert hooks.is_clean(connection)


async def test_what_was_set_on_psycopgs_object_is_undone(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await connection.set_autocommit(False)
        await connection.set_read_only(True)
        await connection.execute("SELECT 1")
        await hooks.reset(connection)
        assert (connection.autocommit, connection.read_only) == (True, None)
        assert hooks.is_clean(connection)


async def test_a_touched_session_is_reset(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        touch(connection)
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)


async def test_an_open_stream_is_ended_by_the_reset(postgres_url: str) -> None:
    """Laws: H10."""
    async with connected(postgres_url) as (hooks, connection):
        left = stream(connection, "SELECT * FROM generate_series(1, 1000000)", (), 10)
        await anext(left)
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT 1") == [(1,)]
        await left.aclose()
        assert await rows(connection, "SELECT 1") == [(1,)]
        assert hooks.is_clean(connection)


@pytest.mark.parametrize("native", [False, True])
async def test_a_statement_that_another_task_left_running_is_ended_first(postgres_url: str, *, native: bool) -> None:
    """Laws: H3."""
    async with connected(postgres_url) as (hooks, connection):
        pid = await backend(connection)
        slow = "SELECT pg_sleep(600)"
        task = asyncio.ensure_future(connection.execute(slow) if native else query(connection, slow, ()))
        await asyncio.sleep(0)
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert (await failure(task)).sqlstate == "57014"
        assert hooks.is_clean(connection)
        assert await backend(connection) == pid


async def test_a_rollback_that_is_still_under_way_is_waited_for(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        for turns in range(1, 6):
            await start(connection)
            await rows(connection, "SELECT 1")
            task = asyncio.ensure_future(rollback(connection))
            for _ in range(turns):
                await asyncio.sleep(0)
            await hooks.reset(connection)
            await task
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT 1") == [(1,)]


async def test_a_server_that_turned_read_only_is_left(postgres_url: str) -> None:
    """Laws: F10."""
    async with connected(postgres_url) as (hooks, connection):
        await script(connection, "SET default_transaction_read_only = on")
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        await script(connection, "SET default_transaction_read_only = on")
        assert (await failure(query(connection, "CREATE TABLE never (a int)", ()))).sqlstate == "25006"
        assert not hooks.is_clean(connection)
        assert isinstance(await failure(hooks.reset(connection)), DbConnectionError)


async def test_a_standby_that_was_asked_for_is_not_left(postgres_url: str) -> None:
    async with connected(postgres_url, target_session_attrs="prefer-standby") as (hooks, connection):
        await script(connection, "SET default_transaction_read_only = on")
        await failure(query(connection, "CREATE TABLE never (a int)", ()))
        await hooks.reset(connection)
        assert hooks.is_clean(connection)


async def test_notifications_are_handed_on(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        heard: list[str] = []
        connection.add_notify_handler(lambda notification: heard.append(notification.payload))
        await query(connection, "LISTEN news", ())
        await query(connection, "NOTIFY news, 'hello'", ())
        await rows(connection, "SELECT 1")
        assert heard == ["hello"]


async def test_a_pool_of_its_own_undoes_what_its_holders_do_with_psycopg(postgres_url: str) -> None:
    pool = await start_pool(configured(postgres_url, pool={"max_size": 1}))
    try:
        connection, release = await pool.checkout()
        pid = await backend(connection)
        await connection.execute("SET work_mem = '77MB'")
        release()
        again, release = await pool.checkout()
        assert await backend(again) == pid
        assert await rows(again, "SHOW work_mem") != [("77MB",)]
        assert again.pgconn.transaction_status == IDLE
        release()
    finally:
        await pool.stop()


ENCODED = "SELECT 'é', $1::text"
FOREIGN = [
    "SET client_encoding = 'LATIN1'",
    "set client_encoding to latin1",
    "SET NAMES 'LATIN1'",
    "SET LOCAL client_encoding = 'SJIS'",
    "SELECT set_config('client_encoding', 'LATIN1', false)",
]


@pytest.mark.parametrize("sql", FOREIGN)
async def test_another_encoding_is_refused_and_the_session_stays_as_it_is(postgres_url: str, sql: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        for work in (query(connection, sql, ()), batch(connection, [(sql, ()), ("SELECT 'é'", ())])):
            error = await failure(work)
            assert type(error) is QueryError
            assert "convert_to" in str(error)
            assert hooks.is_clean(connection)
        assert await rows(connection, ENCODED, "é") == [("é", "é")]


@pytest.mark.parametrize("sql", ["SET client_encoding = 'UTF8'", "SET NAMES 'utf-8'", "SHOW client_encoding"])
async def test_utf8_may_be_set_and_the_encoding_asked_for(postgres_url: str, sql: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await query(connection, sql, ())
        assert await rows(connection, ENCODED, "é") == [("é", "é")]


async def by_script(connection: Connection) -> None:
    await script(connection, "SET client_encoding = 'LATIN1'")


async def by_psycopg(connection: Connection) -> None:
    await connection.execute("SET client_encoding = 'LATIN1'")


CHANGE = (
    "CREATE FUNCTION pg_temp.change() RETURNS text LANGUAGE sql AS "
    "$$SELECT set_config('client_encoding', 'LATIN1', false)$$"
)


async def by_function(connection: Connection) -> None:
    """Nobody sees it in the text; the statement that does it may have results already."""
    await script(connection, CHANGE)
    assert isinstance(await failure(query(connection, "SELECT pg_temp.change(), 'é'", ())), DbConnectionError)


@pytest.mark.parametrize("change", [by_script, by_psycopg, by_function])
async def test_in_another_encoding_nothing_is_read_or_written_and_nobody_gets_the_connection(
    postgres_url: str, change: Callable[[Connection], Awaitable[None]]
) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await script(connection, "CREATE TEMP TABLE things (v text)")
        await change(connection)
        for work in (
            query(connection, ENCODED, ("é",)),
            batch(connection, [(ENCODED, ("é",))]),
            execute_many(connection, "INSERT INTO things VALUES ($1)", [("é",)]),
            insert_many(connection, ("things",), ["v"], [("é",)]),
            script(connection, "INSERT INTO things VALUES ('é')"),
            anext(stream(connection, ENCODED, ("é",), 10)),
        ):
            error = await failure(work)
            assert type(error) is DbConnectionError
            assert "client_encoding" in str(error)
            assert "UTF8" in str(error)
        assert isinstance(await failure(hooks.reset(connection)), DbConnectionError)


async def test_the_next_holder_reads_utf8_whatever_the_last_one_set(postgres_url: str) -> None:
    async with db.open(configured(postgres_url, pool={"max_size": 1})) as database:
        for change in ("execute_script", "native"):
            async with database.connection() as connection:
                if change == "native":
                    await connection.native.execute("SET client_encoding = 'LATIN1'")
                    cursor = await connection.native.execute("SELECT 'é'")
                    assert await cursor.fetchone() == ("é",)
                else:
                    await connection.execute_script("SET client_encoding = 'LATIN1'")
            for _ in range(3):
                assert await database.fetch_one(ENCODED, ["é"]) == ("é", "é")
