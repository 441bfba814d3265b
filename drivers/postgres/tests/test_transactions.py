"""Transactions: what is promised, and what is said when it cannot be kept."""

from __future__ import annotations

import logging

import pytest
from dbcore_postgres import Connection
from dbcore_postgres.connection import in_transaction, transaction_status
from dbcore_postgres.copying import insert_many
from dbcore_postgres.statements import batch, execute_many, query, script
from dbcore_postgres.streaming import stream
from dbcore_postgres.transactions import commit, rollback
from postgres_connections import Proxy, backend, configured, connected, failure, rows, start

import dbcore as db
from dbcore.driver import Isolation
from dbcore.errors import (
    ConflictError,
    ConstraintError,
    DbConnectionError,
    QueryError,
    TransactionError,
)


async def test_the_status_is_known_without_asking(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        seen = [transaction_status(connection)]
        await start(connection)
        seen.append(transaction_status(connection))
        await rows(connection, "SELECT 1")
        seen.append(transaction_status(connection))
        await failure(query(connection, "SELECT 1/0", ()))
        seen.append(transaction_status(connection))
        await rollback(connection)
        seen.append(transaction_status(connection))
        assert seen == ["idle", "open", "open", "failed", "idle"]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_the_isolation_is_the_one_asked_for(postgres_url: str, isolation: Isolation) -> None:
    async with connected(postgres_url) as (_, connection):
        await start(connection, isolation)
        assert await rows(connection, "SHOW transaction_isolation") == [(isolation,)]


async def test_read_only_is_enforced_and_does_not_retire_the_connection(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await start(connection, read_only=True)
        error = await failure(query(connection, "CREATE TABLE never (a int)", ()))
        assert (type(error), error.sqlstate) == (QueryError, "25006")
        await rollback(connection)
        assert hooks.is_clean(connection)


async def test_a_first_statement_that_fails_leaves_a_failed_transaction(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await start(connection)
        await failure(query(connection, "SELECT 1/0", ()))
        assert transaction_status(connection) == "failed"
        assert isinstance(await failure(query(connection, "SELECT 1", ())), TransactionError)


async def test_a_first_statement_that_is_refused_here_leaves_the_transaction_to_the_next(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await start(connection)
        for work in (
            query(connection, "COPY t TO STDOUT", ()),
            batch(connection, [("COPY t TO STDOUT", ())]),
            execute_many(connection, "COPY t TO STDOUT", [()]),
        ):
            assert isinstance(await failure(work), QueryError)
            assert transaction_status(connection) == "open"
        assert await rows(connection, "SELECT 1") == [(1,)]
        assert transaction_status(connection) == "open"
        await commit(connection)


async def test_a_doomed_transaction_is_not_committed_in_silence(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await start(connection)
        await failure(query(connection, "SELECT 1/0", ()))
        assert isinstance(await failure(commit(connection)), TransactionError)
        assert hooks.is_clean(connection)


@pytest.mark.parametrize("text", ["COMMIT", "ROLLBACK"])
async def test_a_transaction_that_was_ended_by_a_statement_is_no_success(postgres_url: str, text: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await start(connection)
        await rows(connection, "SELECT 1")
        await query(connection, text, ())
        assert isinstance(await failure(commit(connection)), TransactionError)


async def test_a_commit_that_a_constraint_refuses_says_which(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await script(connection, "CREATE TEMP TABLE later (a int CONSTRAINT once UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        await hooks.reset(connection)
        await script(connection, "CREATE TEMP TABLE later (a int CONSTRAINT once UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        await start(connection)
        await query(connection, "INSERT INTO later VALUES (1), (1)", ())
        error = await failure(commit(connection))
        assert isinstance(error, ConstraintError)
        assert (error.kind, error.constraint, error.outcome_unknown) == ("unique", "once", False)
        assert transaction_status(connection) == "idle"


async def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (hooks, connection):
        await start(connection)
        await rows(connection, "SELECT 1")
        proxy.cut_at = b"COMMIT"
        error = await failure(commit(connection))
        assert isinstance(error, DbConnectionError)
        assert (error.outcome_unknown, error.retryable) == (True, False)
        assert not hooks.is_usable(connection)
        assert not hooks.is_clean(connection)


async def test_a_connection_lost_before_commit_lost_nothing(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (_, connection):
        await start(connection)
        await rows(connection, "SELECT 'a'")
        proxy.cut_at = b"SELECT 'b'"
        error = await failure(query(connection, "SELECT 'b'", ()))
        assert isinstance(error, DbConnectionError)
        assert (error.outcome_unknown, error.retryable) == (False, True)
        error = await failure(commit(connection))
        assert (error.outcome_unknown, error.retryable) == (False, True)
        await rollback(connection)  # nothing is left to roll back, and nothing to complain about


async def test_a_statement_lost_outside_of_a_transaction_may_have_been_done(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (_, connection):
        proxy.cut_at = b"SELECT 'b'"
        error = await failure(query(connection, "SELECT 'b'", ()))
        assert isinstance(error, DbConnectionError)
        assert not error.retryable


async def test_a_server_that_ends_the_session_in_a_transaction_says_so(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        await start(connection)
        await rows(admin, "SELECT pg_terminate_backend($1, 5000)", await backend(connection))
        error = await failure(query(connection, "SELECT 1", ()))
        assert isinstance(error, DbConnectionError)
        assert (error.sqlstate, error.retryable) == ("57P01", True)
        assert not hooks.is_clean(connection)


async def test_writers_that_get_in_each_others_way_are_in_conflict(postgres_url: str) -> None:
    async def read(connection: Connection) -> None:
        await start(connection, "serializable")
        await rows(connection, "SELECT sum(a) FROM dbcore_conflicts")

    async with connected(postgres_url) as (_, one), connected(postgres_url) as (_, two):
        await script(one, "DROP TABLE IF EXISTS dbcore_conflicts; CREATE TABLE dbcore_conflicts (a int)")
        await read(one)
        await read(two)
        for connection in (one, two):
            await query(connection, "INSERT INTO dbcore_conflicts VALUES (1)", ())
        await commit(one)
        error = await failure(commit(two))
        assert isinstance(error, ConflictError)
        assert error.retryable
        await script(one, "DROP TABLE dbcore_conflicts")


async def test_a_forgotten_transaction_is_rolled_back_with_a_warning(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Laws: H1."""
    async with connected(postgres_url) as (hooks, connection):
        await start(connection)
        await rows(connection, "SELECT 1")
        assert hooks.in_transaction is in_transaction
        assert in_transaction(connection)
        assert not hooks.is_clean(connection)
        with caplog.at_level(logging.WARNING, "dbcore.postgres"):
            await hooks.reset(connection)
        assert "main" in caplog.text
        assert hooks.is_clean(connection)


async def test_a_begin_that_was_never_sent_is_forgotten_by_the_reset(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await start(connection)
        assert not hooks.is_clean(connection)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        await rows(connection, "SELECT 1")
        assert transaction_status(connection) == "idle"


@pytest.mark.parametrize("failed", [False, True])
async def test_a_begin_as_text_and_a_transaction_are_not_joined_in_silence(postgres_url: str, failed: bool) -> None:
    async with db.open(configured(postgres_url)) as database, database.connection() as connection:
        await connection.execute_script("CREATE TEMP TABLE things (a int)")
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO things VALUES (1)")
        if failed:
            with pytest.raises(db.QueryError):
                await connection.execute("SELECT 1/0")
        with pytest.raises(db.UsageError, match="open already, by a BEGIN that was sent as text"):
            async with connection.transaction():
                raise AssertionError("it must not begin")
        assert connection.in_transaction
        await connection.execute("ROLLBACK" if failed else "COMMIT")
        async with connection.transaction():
            assert await connection.fetch_value("SELECT count(*) FROM things") == (not failed)


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
async def test_nothing_runs_in_a_transaction_that_a_text_has_ended(postgres_url: str, ending: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await script(connection, "CREATE TEMP TABLE things (a int)")
        insert = "INSERT INTO things VALUES (1)"
        for _ in range(3):
            await query(connection, "DELETE FROM things", ())
            await start(connection)
            await query(connection, insert, ())
            await query(connection, ending, ())
            for work in (
                query(connection, insert, ()),
                batch(connection, [(insert, ())]),
                execute_many(connection, insert, [()]),
                script(connection, insert),
                insert_many(connection, ("things",), ["a"], [(1,)]),
                anext(stream(connection, f"{insert} RETURNING 1", (), 10)),
            ):
                error = await failure(work)
                assert isinstance(error, TransactionError)
                assert "sent as text" in str(error)
            assert isinstance(await failure(commit(connection)), TransactionError)
            assert await rows(connection, "SELECT count(*) FROM things") == [(ending == "COMMIT",)]
        await hooks.reset(connection)


@pytest.mark.parametrize("text", ["COMMIT", "ROLLBACK", "INSERT INTO ended VALUES (1); COMMIT"])
@pytest.mark.parametrize("nested", [False, True])
async def test_a_transaction_that_a_text_has_ended_is_no_success(postgres_url: str, text: str, nested: bool) -> None:
    async with db.open(configured(postgres_url)) as database:
        with pytest.raises(db.TransactionError, match="no transaction left to commit"):
            async with database.transaction() as tx:
                await tx.execute_script("CREATE TEMP TABLE ended (a int)")
                if nested:
                    async with tx.transaction():
                        await tx.execute_script(text)
                else:
                    await tx.execute_script(text)
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().size == 1
