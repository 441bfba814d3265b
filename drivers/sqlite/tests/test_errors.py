"""Errors by code, with nothing of the values in them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from dbcore_sqlite import Connection
from dbcore_sqlite.errors import to_error
from dbcore_sqlite.statements import script
from dbcore_sqlite.streams import stream
from sqlite_pools import one_connection, run

from dbcore.errors import ConflictError, ConstraintError, DbConnectionError, DbError, QueryError

SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT NOT NULL, age INTEGER, CONSTRAINT grown CHECK (age > 17));
CREATE UNIQUE INDEX by_name ON users (lower(name));
CREATE TABLE pets (owner INTEGER REFERENCES users);
CREATE TABLE exact (n INTEGER) STRICT;
CREATE TRIGGER guard BEFORE DELETE ON users BEGIN SELECT RAISE(ABORT, 'secret word'); END;
INSERT INTO users VALUES (1, 'a@example.org', 'Ada', 36);
"""


async def failure(folder: Path, sql: str, *params: Any) -> DbError:
    async with one_connection(folder) as connection:
        await script(connection, SCHEMA)
        try:
            await run(connection, sql, *params)
        except DbError as error:
            return error
        except Exception as error:
            found = to_error(error)
            assert found is not None
            return found
    raise AssertionError("nothing failed")


@pytest.mark.parametrize(
    ("sql", "kind", "table", "columns", "constraint"),
    [
        ("INSERT INTO users VALUES (2, 'a@example.org', 'Bob', 40)", "unique", "users", ("email",), None),
        ("INSERT INTO users VALUES (1, 'b@example.org', 'Bob', 40)", "unique", "users", ("id",), None),
        ("INSERT INTO users VALUES (2, 'b@example.org', 'ADA', 40)", "unique", None, (), "by_name"),
        ("INSERT INTO users VALUES (2, 'b@example.org', NULL, 40)", "not_null", "users", ("name",), None),
        ("INSERT INTO users VALUES (2, 'b@example.org', 'Bob', 4)", "check", None, (), "grown"),
        ("INSERT INTO pets VALUES (7)", "foreign_key", None, (), None),
        ("INSERT INTO exact VALUES ('secret')", "check", "exact", ("n",), None),
        ("DELETE FROM users", "check", None, (), None),
    ],
)
async def test_a_constraint_is_told_by_its_code(
    tmp_path: Path, sql: str, kind: str, table: str | None, columns: tuple[str, ...], constraint: str | None
) -> None:
    error = await failure(tmp_path, sql)
    assert isinstance(error, ConstraintError)
    assert (error.kind, error.table, error.columns, error.constraint) == (kind, table, columns, constraint)
    assert "SQLITE_CONSTRAINT" in str(error) or table == "exact"
    assert not error.retryable
    assert not any(value in str(error) for value in ("secret", "example.org", "Bob", "ADA"))


@pytest.mark.parametrize("sql", ["SELECT * FROM nowhere", "SELEC 1", "INSERT INTO users VALUES (1)", "SELECT ?"])
async def test_a_wrong_statement_is_a_query_error(tmp_path: Path, sql: str) -> None:
    error = await failure(tmp_path, sql)
    assert type(error) is QueryError
    assert not error.retryable


async def test_a_text_of_two_statements_is_a_query_error(tmp_path: Path) -> None:
    assert isinstance(await failure(tmp_path, "SELECT 1; SELECT 2"), QueryError)


async def test_an_int_too_large_is_a_query_error(tmp_path: Path) -> None:
    error = await failure(tmp_path, "SELECT ?", 2**63)
    assert type(error) is QueryError
    assert "64 bits" in str(error)


async def test_a_lone_surrogate_is_a_query_error(tmp_path: Path) -> None:
    error = await failure(tmp_path, "SELECT ?", "a\ud800b")
    assert type(error) is QueryError
    assert "surrogate" in str(error)


async def test_bytes_that_are_apart_are_a_query_error(tmp_path: Path) -> None:
    error = await failure(tmp_path, "SELECT ?", memoryview(b"abcdef")[::2])
    assert "send bytes(value)" in str(error)


async def test_a_type_that_sqlite_has_not_is_a_query_error(tmp_path: Path) -> None:
    assert type(await failure(tmp_path, "SELECT ?", object())) is QueryError


@pytest.mark.parametrize("sql", ["SELECT json_extract('{}', ?)", "SELECT json(?)"])
async def test_an_error_that_may_quote_a_value_does_not(tmp_path: Path, sql: str) -> None:
    error = await failure(tmp_path, sql, "secret")
    assert type(error) is QueryError
    assert "secret" not in repr(error) + str(error)
    assert isinstance(error.__cause__, sqlite3.OperationalError)


SECRETS = (
    "CREATE TABLE secrets (path TEXT)",
    "INSERT INTO secrets VALUES ('secret')",
    "CREATE TABLE spoilt (name TEXT)",
    "INSERT INTO spoilt VALUES (CAST(x'736563726574ff' AS TEXT))",  # "secret", and a byte that is not UTF-8
)
TELLING = ("SELECT json_extract('{}', path) FROM secrets", ";SELECT name FROM spoilt")


async def read_all(connection: Connection, sql: str) -> None:
    await run(connection, sql)


async def read_with_params(connection: Connection, sql: str) -> None:
    await run(connection, f"{sql} WHERE ?", 1)


async def read_stream(connection: Connection, sql: str) -> None:
    async for _ in stream(connection, f"VALUES ('a') UNION ALL {sql.removeprefix(';')}", (), 1):
        pass


async def run_script(connection: Connection, sql: str) -> None:
    await script(connection, f"INSERT INTO spoilt {sql.removeprefix(';')}; {sql}")


@pytest.mark.parametrize("sql", TELLING)
@pytest.mark.parametrize("read", [read_all, read_with_params, read_stream, run_script])
async def test_an_error_that_may_quote_what_is_stored_does_not(
    tmp_path: Path, sql: str, read: Callable[[Connection, str], Awaitable[None]]
) -> None:
    async with one_connection(tmp_path) as connection:
        for text in SECRETS:
            await run(connection, text)
        with pytest.raises(QueryError, match="failed as it ran") as caught:
            await read(connection, sql)
        assert "secret" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("; SELEC 1", 'near "SELEC": syntax error'),
        ("CREATE VIRTUAL TABLE v USING nosuch(a)", "no such module: nosuch"),
        ("\ufeffSELECT * FROM nowhere", "no such table: nowhere"),
        ("EXPLAIN QUERY PLAN SELECT * FROM nowhere", "no such table: nowhere"),
        ("COMMIT", "no transaction is active"),
        ("RELEASE absent", "no such savepoint: absent"),
        ("DETACH absent", "no such database: absent"),
        ("ALTER TABLE users RENAME COLUMN email TO age", "duplicate column name: age"),
    ],
)
async def test_an_error_without_values_keeps_the_words_of_sqlite(tmp_path: Path, sql: str, said: str) -> None:
    assert said in str(await failure(tmp_path, sql))


async def test_a_statement_that_cannot_be_prepared_keeps_the_words_of_sqlite(tmp_path: Path) -> None:
    assert "no such column: absent" in str(await failure(tmp_path, "SELECT absent FROM users WHERE id = ?", 1))


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (sqlite3.SQLITE_BUSY, ConflictError, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, ConflictError, True),
        (sqlite3.SQLITE_LOCKED, ConflictError, True),
        (sqlite3.SQLITE_CORRUPT, DbConnectionError, False),
        (sqlite3.SQLITE_NOTADB, DbConnectionError, False),
        (sqlite3.SQLITE_CANTOPEN, DbConnectionError, True),
        (sqlite3.SQLITE_READONLY_DBMOVED, DbConnectionError, True),
        (sqlite3.SQLITE_FULL, QueryError, False),
        (sqlite3.SQLITE_IOERR, QueryError, False),
        (sqlite3.SQLITE_INTERRUPT, QueryError, False),
        (sqlite3.SQLITE_READONLY, QueryError, False),
    ],
)
def test_a_code_decides_the_class(code: int, kind: type[DbError], *, retryable: bool) -> None:
    native = sqlite3.OperationalError("words")
    native.sqlite_errorcode = code
    native.sqlite_errorname = "SQLITE_SOMETHING"
    error = to_error(native)
    assert type(error) is kind
    assert error is not None
    assert error.retryable is retryable


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), asyncio.CancelledError(), QueryError("x")])
def test_what_is_not_of_the_library_is_left_alone(error: BaseException) -> None:
    assert to_error(error) is None
