"""Errors: by their numbers, with the names that the server tells, and without any value."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asyncmy.errors import MySQLError
from dbcore_mysql import wire
from dbcore_mysql.errors import explain, is_transient, to_error
from dbcore_mysql.inserting import insert_many
from dbcore_mysql.statements import execute_many, query
from mysql_connections import configured, connected, failure
from mysql_place import fresh_database

import dbcore as db
from dbcore.driver import Result

SECRET = "s3cret-value-of-a-parameter"


def native(number: int, sqlstate: str | None, message: str = "") -> MySQLError:
    error = MySQLError(number, message)
    error.sqlstate = sqlstate
    return error


@pytest.mark.parametrize(
    ("number", "sqlstate", "kind", "retryable"),
    [
        (1213, "40001", db.ConflictError, True),
        (1205, "HY000", db.ConflictError, True),
        (1020, "HY000", db.ConflictError, True),
        (3572, "HY000", db.ConflictError, True),
        (3101, "40000", db.ConflictError, True),
        (9999, "40001", db.ConflictError, True),
        (3024, "HY000", db.QueryTimeout, False),
        (1969, "70100", db.QueryTimeout, False),
        (1317, "70100", db.QueryError, False),
        (1064, "42000", db.QueryError, False),
        (1792, "25006", db.QueryError, False),
        (1053, "08S01", db.DbConnectionError, False),
        (1927, "70100", db.DbConnectionError, False),
        (4031, "HY000", db.DbConnectionError, False),
        (2013, None, db.DbConnectionError, False),
        (12345, "HY000", db.QueryError, False),
    ],
)
def test_an_error_is_classified_by_its_code(
    number: int, sqlstate: str | None, kind: type[db.DbError], retryable: bool
) -> None:
    error = to_error(native(number, sqlstate))
    assert error is not None
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.sqlstate == sqlstate


def test_what_is_not_asyncmys_is_left_alone() -> None:
    assert to_error(ValueError("mine")) is None


@pytest.mark.parametrize("number", [1040, 1203, 2003, 2013])
def test_what_may_pass_is_transient(number: int) -> None:
    assert is_transient(number)


@pytest.mark.parametrize("number", [1044, 1045, 1049, 1130, 1862, 0])
def test_what_will_not_pass_by_itself_is_permanent(number: int) -> None:
    assert not is_transient(number)


@pytest.mark.parametrize(
    ("number", "message", "kind", "constraint", "table", "columns"),
    [
        (1062, "Duplicate entry 'x' for key 'name'", "unique", "name", None, ()),
        (1062, "Duplicate entry 'x' for key 'items.name'", "unique", "name", "items", ()),
        (1062, "Duplicate entry 'a' for key 'b'' for key 'PRIMARY'", "unique", "PRIMARY", None, ()),
        (1048, "Column 'name' cannot be null", "not_null", None, None, ("name",)),
        (1364, "Field 'name' doesn't have a default value", "not_null", None, None, ("name",)),
        (
            1452,
            (
                "Cannot add or update a child row: a foreign key constraint fails (`d`.`chi``ld`, CONSTRAINT "
                "`its parent` FOREIGN KEY (`a`, `b`) REFERENCES `parent` (`a`, `b`))"
            ),
            "foreign_key", "its parent", "chi`ld", (),
        ),
        (3819, "Check constraint 'small' is violated.", "check", "small", None, ()),
        (4025, "CONSTRAINT `small` failed for `d`.`t`", "check", "small", "t", ()),
        (1062, "in a language that nobody expected", "unique", None, None, ()),
    ],
)  # fmt: skip
def test_the_names_of_a_violated_constraint_are_read_from_the_message(
    number: int, message: str, kind: str, constraint: str | None, table: str | None, columns: tuple[str, ...]
) -> None:
    error = explain(native(number, "23000", message), None)
    assert isinstance(error, db.ConstraintError)
    assert (error.kind, error.constraint, error.table, error.columns) == (kind, constraint, table, columns)
    assert "entry" not in str(error)


@pytest.fixture
def url(mysql_url: str) -> Iterator[str]:
    with fresh_database(mysql_url) as (url, ask):
        name = url.rpartition("/")[2]
        ask(f"CREATE TABLE {name}.t (id INT PRIMARY KEY, name VARCHAR(40) UNIQUE, day DATE, number INT)")
        ask(f"INSERT INTO {name}.t VALUES (1, '{SECRET}', NULL, NULL)")
        yield url


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("INSERT INTO t (id, name) VALUES (2, %s)", [SECRET]),
        ("INSERT INTO t (id, day) VALUES (2, %s)", [SECRET]),
        ("INSERT INTO t (id, number) VALUES (2, %s)", [SECRET]),
        ("INSERT INTO t (id, name) VALUES (2, %s)", [SECRET * 3]),
        ("UPDATE t SET id = id + 1 WHERE name = %s SELEKT", [SECRET]),
        ("SELEKT %s", [SECRET]),
        ("%s", [SECRET]),
        ("SELECT %s %s", [SECRET, SECRET]),
        ("SELECT * FROM (SELECT %s, %s) AS t", [SECRET, SECRET]),
        ("CREATE TABLE u AS SELECT %s", [f"{SECRET} "]),
        ("SELECT nothing FROM t WHERE name = %s", [SECRET]),
        ("SELECT CAST(%s AS DATETIME(9))", [SECRET]),
        ("SELECT id FROM t HAVING %s > nothing", [SECRET]),
        ("SELECT no_such_function(%s)", [SECRET]),
        ("SELECT JSON_EXTRACT(%s, %s)", [SECRET, SECRET]),
        ("SELECT 'a' REGEXP %s", [f"({SECRET}"]),
        ("SELECT %s FROM t PROCEDURE ANALYSE (%s)", [SECRET, SECRET]),
        ("SET SESSION lock_wait_timeout = %s", [SECRET]),
        ("SET SESSION default_storage_engine = %s", [SECRET]),
        ("SIGNAL SQLSTATE %s", [SECRET]),
        ("SELECT 9223372036854775807 + CAST(%s AS SIGNED)", ["987654321012"]),
    ],
)
async def test_no_parameter_is_shown(url: str, sql: str, params: list[Any]) -> None:
    async with connected(url) as (_, connection):
        (outcome,) = await asyncio.gather(query(connection, sql, params), return_exceptions=True)
    if isinstance(outcome, db.DbError):
        shown = f"{outcome!s} {outcome!r} {outcome.args} {getattr(outcome, '__notes__', '')}"
        assert outcome.sqlstate is not None
        assert outcome.__cause__ is not None
    else:
        assert isinstance(outcome, Result)
        shown = " ".join(outcome.columns)
    assert SECRET not in shown
    assert "987654321012" not in shown


async def test_no_parameter_is_shown_whichever_way_it_went(url: str) -> None:
    async with connected(url) as (_, connection):
        for work in (
            execute_many(connection, "INSERT INTO t (id, name) VALUES (%s, %s)", [(2, SECRET)]),
            execute_many(connection, "INSERT INTO t (id, day) VALUES (%s, %s) SELEKT", [(2, SECRET)]),
            insert_many(connection, ("t",), ["id", "name"], [(2, SECRET)]),
            insert_many(connection, ("t",), ["id", "number"], [(2, SECRET)]),
            insert_many(connection, ("t",), ["id", "nothing"], [(2, SECRET)]),
        ):
            error = await failure(work)
            assert SECRET not in f"{error!s} {error!r} {error.args}"


async def test_a_syntax_error_shows_where_it_is_as_far_as_the_callers_own_text_goes(url: str) -> None:
    async with connected(url) as (_, connection):
        bare = await failure(query(connection, "SELECT 1 +\n FROM t", ()))
        assert "near 'FROM t' at line 2" in str(bare)
        filled = await failure(query(connection, "SELECT %s +\n FROM t WHERE name = %s", [SECRET, SECRET]))
        assert "near 'FROM t WHERE name = ...' at line 2" in str(filled)
        percent = await failure(query(connection, "SELECT 5 %% %s SELEKT 7 %% 3", [2]))
        assert "7 % 3" in str(percent)


async def test_the_column_that_a_value_does_not_fit_is_named(url: str) -> None:
    async with connected(url) as (_, connection):
        for column, value in (("day", SECRET), ("number", SECRET), ("name", "x" * 99), ("number", 2**40)):
            error = await failure(query(connection, f"INSERT INTO t (id, {column}) VALUES (2, %s)", [value]))
            assert column in str(error)


async def test_a_name_that_is_not_there_is_named(url: str) -> None:
    async with connected(url) as (_, connection):
        for sql, word in (("SELECT nothing, %s FROM t", "nothing"), ("SELECT %s FROM nowhere", "nowhere")):
            assert word in str(await failure(query(connection, sql, [SECRET])))


async def test_a_column_that_is_called_after_a_parameter_has_no_name(url: str) -> None:
    async with connected(url) as (_, connection):
        found = await query(connection, "SELECT %s, UPPER(%s), %s AS kept, id, %s FROM t", [SECRET, "k9", 4, 42])
        assert found.columns == ("?", "?", "kept", "id", "?")
    async with db.open(configured(url)) as database:
        with pytest.raises(db.DecodeError) as caught:
            await database.fetch_all("SELECT id AS n, $1 FROM t", [SECRET], into=dict[str, int])
        assert SECRET not in str(caught.value)


async def test_a_server_that_is_read_only_is_left(url: str) -> None:
    """As after a failover: the name leads to another server by now."""
    async with connected(url) as (hooks, connection):
        await query(connection, "SELECT 1", ())
        # Nobody may set that on the server which all tests share.
        assert isinstance(await wire._failure(connection, native(1290, "HY000"), None), db.QueryError)
        assert not hooks.is_clean(connection)
        with pytest.raises(db.DbConnectionError, match="not the one"):
            await hooks.reset(connection)
