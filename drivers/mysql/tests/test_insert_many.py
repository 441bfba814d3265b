"""Loading many rows: as many statements as it takes, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dbcore_mysql import inserting
from dbcore_mysql.inserting import insert_many
from dbcore_mysql.statements import query
from mysql_connections import connected, failure, rows
from mysql_place import fresh_database

from dbcore.errors import ConstraintError, QueryError


@pytest.fixture
def url(mysql_url: str) -> Iterator[str]:
    with fresh_database(mysql_url) as (url, ask):
        name = url.rpartition("/")[2]
        ask(f"CREATE TABLE {name}.t (a INT PRIMARY KEY, b LONGTEXT, c LONGBLOB)")
        yield url


async def statements(connection: Any) -> int:
    ((_, count),) = await rows(connection, "SHOW SESSION STATUS LIKE 'Com_insert'")
    return int(count)


async def test_rows_go_in_statements_of_a_bounded_size(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inserting, "_TEXT", 10_000)
    async with connected(url) as (hooks, connection):
        source = [(number, "x" * 100, b"\xff\0'\\" * 5) for number in range(2500)]
        assert await insert_many(connection, ("t",), ["a", "b", "c"], source) == 2500
        assert 30 <= await statements(connection) <= 60
        assert await rows(connection, "SELECT * FROM t ORDER BY a") == source
        assert hooks.is_clean(connection)


async def test_a_thousand_rows_are_one_statement(url: str) -> None:
    async with connected(url) as (_, connection):
        await insert_many(connection, ("t",), ["a"], [(number,) for number in range(1000)])
        assert await statements(connection) == 1


async def test_rows_are_packed_below_what_the_server_takes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inserting, "_TEXT", 2**30)
    async with connected(url) as (_, connection):
        size = connection.max_packet // 3
        await insert_many(connection, ("t",), ["a", "b"], [(number, "x" * size) for number in range(7)])
        assert await rows(connection, "SELECT count(*), MIN(LENGTH(b)) FROM t") == [(7, size)]


async def test_a_row_that_is_too_large_says_which_and_nothing_is_kept(url: str) -> None:
    async with connected(url) as (hooks, connection):
        large = [(1, "small"), (2, "x" * connection.max_packet)]
        error = await failure(insert_many(connection, ("t",), ["a", "b"], large))
        assert isinstance(error, QueryError)
        assert "row 2" in str(error)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_a_value_without_a_form_says_in_which_row_and_column(url: str) -> None:
    async with connected(url) as (_, connection):
        source = [(number, None) for number in range(3000)] + [(3000, object())]
        error = await failure(insert_many(connection, ("t",), ["a", "b"], source))
        assert "row 3001, column 'b' (a object)" in str(error)
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_a_row_that_the_server_refuses_takes_all_of_them_along(url: str) -> None:
    async with connected(url) as (hooks, connection):
        source = [(number % 2999,) for number in range(3000)]
        assert isinstance(await failure(insert_many(connection, ("t",), ["a"], source)), ConstraintError)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_names_are_taken_literally(url: str) -> None:
    async with connected(url) as (_, connection):
        await query(connection, "CREATE TABLE `o``dd'; --` (`a b` INT)", ())
        database = url.rpartition("/")[2]
        assert await insert_many(connection, (database, "o`dd'; --"), ["a b"], [(1,)]) == 1
        assert "NUL" in str(await failure(insert_many(connection, ("t\0",), ["a"], [(1,)])))
