"""Transactions: what the server ends by itself, what it would commit unseen, and a COMMIT of unknown outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dbcore_mysql.statements import batch, query, script
from dbcore_mysql.transactions import commit, rollback
from mysql_connections import changed, configured, connected, failure, rows, start, under_way
from mysql_place import fresh_database

import dbcore as db
from dbcore.errors import DbConnectionError, TransactionError, UsageError
from dbcore.testing import FaultProxy

INSERT = "INSERT INTO t VALUES (%s)"


@pytest.fixture
def url(mysql_url: str) -> Any:
    with fresh_database(mysql_url) as (url, ask):
        name = url.rpartition("/")[2]
        ask(f"CREATE TABLE {name}.t (a INT PRIMARY KEY)")
        ask(f"INSERT INTO {name}.t VALUES (1), (2)")
        yield url


async def test_a_deadlock_ends_the_transaction_and_nothing_after_it_goes_by_itself(url: str) -> None:
    async with connected(url) as (hooks, first), connected(url) as (_, second):
        for connection, own in ((first, 1), (second, 2)):
            await start(connection)
            await query(connection, "UPDATE t SET a = a WHERE a = %s", [own])
        # The one that has written less is the one that InnoDB ends.
        await query(second, "INSERT INTO t VALUES (3), (4), (5)", ())
        blocked = await under_way(first, second.thread_id(), query(second, "UPDATE t SET a = a WHERE a = 1", ()))
        error = await failure(query(first, "UPDATE t SET a = a WHERE a = 2", ()))
        await blocked
        assert isinstance(error, db.ConflictError)
        assert error.retryable
        assert not first.in_transaction
        assert hooks.in_transaction is not None
        assert hooks.in_transaction(first), "its block is not left yet"
        for work in (query(first, INSERT, [9]), batch(first, [(INSERT, [9]), (INSERT, [10])]), commit(first)):
            assert isinstance(await failure(work), TransactionError)
        await rollback(first)
        assert hooks.is_clean(first)
        await rollback(second)
        assert await rows(first, "SELECT a FROM t") == [(1,), (2,)]


async def test_a_deadlock_inside_of_a_savepoint_is_one_conflict_for_the_caller(url: str) -> None:
    turns = 0
    met = asyncio.Barrier(2)

    async def work(tx: db.Connection[Any], own: int, other: int) -> None:
        nonlocal turns
        turns += 1
        async with tx.transaction():
            await tx.execute("UPDATE t SET a = a WHERE a = $1", [own])
            if turns <= 2:
                await met.wait()
            await tx.execute("UPDATE t SET a = a WHERE a = $1", [other])

    async with db.open(configured(url)) as database:
        async with asyncio.TaskGroup() as group:
            group.create_task(database.run_transaction(lambda tx: work(tx, 1, 2)))
            group.create_task(database.run_transaction(lambda tx: work(tx, 2, 1)))
        assert turns >= 3
        assert database.stats().lost == 0


async def test_a_lock_that_is_not_given_in_time_leaves_the_transaction_open(url: str) -> None:
    async with connected(f"{url}?variables.innodb_lock_wait_timeout=0") as (_, first), connected(url) as (_, second):
        await start(second)
        await query(second, "UPDATE t SET a = a WHERE a = 2", ())
        await start(first)
        await query(first, INSERT, [3])
        error = await failure(query(first, "UPDATE t SET a = a WHERE a = 2", ()))
        assert isinstance(error, db.ConflictError)
        assert first.in_transaction
        await commit(first)
        await rollback(second)
        assert await rows(first, "SELECT count(*) FROM t") == [(3,)]


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE u (a INT)", "DROP TABLE t", "BEGIN", "START TRANSACTION", "COMMIT AND CHAIN", "TRUNCATE t"]
)
async def test_what_would_commit_unseen_is_refused_in_a_transaction_and_harms_it_not(url: str, sql: str) -> None:
    async with connected(url) as (_, connection):
        await start(connection)
        await query(connection, INSERT, [3])
        with pytest.raises(UsageError, match=r"outside of transaction\(\)"):
            await query(connection, sql, ())
        with pytest.raises(UsageError, match=r"outside of transaction\(\)"):
            await script(connection, f"SELECT 1; {sql}")
        await rollback(connection)
        assert await rows(connection, "SELECT a FROM t") == [(1,), (2,)]


async def test_what_commits_at_once_is_no_part_of_a_batch(url: str) -> None:
    async with connected(url) as (_, connection):
        with pytest.raises(UsageError, match="all or nothing"):
            await batch(connection, [(INSERT, [3]), ("CREATE TABLE u (a INT)", ())])
        assert await rows(connection, "SELECT count(*) FROM t") == [(2,)]
        (made,) = await batch(connection, [("CREATE TABLE u (a INT)", ())])
        assert made.count == 0


async def test_a_begin_as_text_and_a_transaction_do_not_mix(url: str) -> None:
    async with connected(url) as (hooks, connection):
        await query(connection, "BEGIN", ())
        with pytest.raises(UsageError, match="sent as text"):
            await start(connection)
        await query(connection, INSERT, [3])
        await query(connection, "COMMIT", ())
        assert hooks.is_clean(connection)


async def test_a_read_only_transaction_refuses_to_write(url: str) -> None:
    async with connected(url) as (hooks, connection):
        await start(connection, read_only=True)
        error = await failure(query(connection, INSERT, [3]))
        assert error.sqlstate == "25006"
        assert "READ ONLY" in str(error)
        await commit(connection)
        assert hooks.is_clean(connection)


@pytest.mark.parametrize(("level", "seen"), [("read committed", 3), ("repeatable read", 2), ("serializable", None)])
async def test_an_isolation_holds_for_its_transaction_alone(url: str, level: Any, seen: int | None) -> None:
    count = "SELECT count(*) FROM t"
    hasty = f"{url}?variables.innodb_lock_wait_timeout=0"
    async with connected(url) as (hooks, connection), connected(hasty) as (_, other):
        await start(connection, level)
        assert await rows(connection, count) == [(2,)]
        writing = query(other, INSERT, [3])
        if seen is None:
            assert isinstance(await failure(writing), db.ConflictError)
        else:
            await writing
            assert await rows(connection, count) == [(seen,)]
        await rollback(connection)
        assert hooks.is_clean(connection)
        await start(connection)
        ((before,),) = await rows(connection, count)
        await query(other, INSERT, [4])
        assert await rows(connection, count) == [(before,)], "repeatable read, as ever"
        await rollback(connection)


async def test_an_isolation_whose_transaction_was_not_begun_is_reset(url: str) -> None:
    async with connected(url) as (hooks, connection):
        for turns in range(12):
            task = asyncio.ensure_future(start(connection, "serializable"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await rollback(connection)
            assert not connection.in_transaction
            if not hooks.is_clean(connection):
                await hooks.reset(connection)
        await start(connection)
        await rollback(connection)
        assert hooks.is_clean(connection)


async def test_a_connection_lost_before_the_commit_is_retryable_and_during_it_of_unknown_outcome(url: str) -> None:
    parts = configured(url).settings
    async with FaultProxy(parts.host, parts.port) as proxy:
        through = changed(url, host="127.0.0.1", port=proxy.port)
        async with connected(through) as (_, connection):
            await start(connection)
            await query(connection, INSERT, [3])
            proxy.cut()
            error = await failure(query(connection, INSERT, [4]))
            assert isinstance(error, DbConnectionError)
            assert (error.retryable, error.outcome_unknown) == (True, False)
            error = await failure(commit(connection))
            assert (error.retryable, error.outcome_unknown) == (True, False)
            await rollback(connection)
        async with connected(through) as (_, connection):
            await start(connection)
            await query(connection, INSERT, [3])
            proxy.freeze()
            task = asyncio.ensure_future(commit(connection))
            await asyncio.sleep(0)
            proxy.cut()
            error = await failure(task)
            assert isinstance(error, DbConnectionError)
            assert (error.retryable, error.outcome_unknown) == (False, True)


async def test_a_statement_of_its_own_that_is_lost_in_flight_is_of_unknown_outcome(url: str) -> None:
    async with connected(url) as (_, connection), connected(url) as (_, admin):
        task = await under_way(admin, connection.thread_id(), query(connection, "DO SLEEP(600)", ()))
        await query(admin, f"KILL {connection.thread_id()}", ())
        error = await failure(task)
        assert isinstance(error, DbConnectionError)
        later = await failure(query(connection, "SELECT 1", ()))
        assert isinstance(later, DbConnectionError)
        assert (later.retryable, later.outcome_unknown) == (True, False)


async def test_a_script_with_ddl_keeps_what_was_before_its_failure_and_says_so_in_its_docs(url: str) -> None:
    async with connected(url) as (hooks, connection):
        error = await failure(script(connection, "INSERT INTO t VALUES (3); CREATE TABLE u (a INT); SELEKT"))
        assert error.sqlstate == "42000"
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT count(*) FROM t") == [(3,)]


async def test_a_script_takes_procedures_with_blocks_in_blocks(url: str) -> None:
    text = """
        CREATE PROCEDURE classify(n INT)
        BEGIN
            IF n > 0 THEN
                BEGIN SELECT 'above' AS what; END;
            ELSE
                SELECT 'below' AS what;
            END IF;
            SELECT n AS given;
        END;
        INSERT INTO t VALUES (3);
    """
    async with connected(url) as (hooks, connection):
        await script(connection, text)
        found = await query(connection, "CALL classify(%s)", [5])
        assert (found.columns, found.rows) == (("what",), [("above",)])
        await hooks.reset(connection)
        assert await rows(connection, "SELECT count(*) FROM t") == [(3,)]
