"""Statements: what comes back, and what is peculiar to MySQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from dbcore_mysql.statements import query, script
from mysql_connections import configured, connected, failure, rows
from mysql_place import fresh_database

import dbcore as db
from dbcore.errors import DecodeError


@pytest.fixture
def url(mysql_url: str) -> Iterator[str]:
    with fresh_database(mysql_url) as (url, _):
        yield url


async def test_a_column_comes_as_the_type_it_has(url: str) -> None:
    async with connected(url) as (_, connection):
        await query(
            connection,
            "CREATE TABLE t (a BIT(10), b TIMESTAMP(6), c DATETIME, d DATE, e YEAR, f ENUM('x'), g SET('x', 'y'), "
            "h DECIMAL(5,2), i TINYINT(1), j BIGINT UNSIGNED, k VARBINARY(5), l JSON, m TIME(3), n DOUBLE, o POINT)",
            (),
        )
        await query(
            connection,
            "INSERT INTO t VALUES (b'1000000001', '2024-05-01 10:00:00.5', '2024-05-01', '2024-05-01', 2024, 'x', "
            "'y,x', 1.5, TRUE, 18446744073709551615, x'00ff', '{}', '-100:00:00.5', 0.1, POINT(1, 2))",
            (),
        )
        ((*found, point),) = await rows(connection, "SELECT * FROM t")
        assert found == [
            0b1000000001, datetime(2024, 5, 1, 10, 0, 0, 500_000, UTC), datetime(2024, 5, 1), date(2024, 5, 1),  # noqa: DTZ001
            2024, "x", "x,y", Decimal("1.50"), 1, 2**64 - 1, b"\x00\xff", "{}", "-100:00:00.500", 0.1,
        ]  # fmt: skip
        assert isinstance(point, bytes)


async def test_dates_that_are_none_come_as_their_texts(url: str) -> None:
    async with connected(f"{url}?sql_mode=") as (_, connection):
        sql = "CREATE TABLE t (a DATE, b DATETIME, c TIMESTAMP)"
        await query(connection, sql, ())
        await query(connection, "INSERT INTO t VALUES ('0000-00-00', '2024-00-01', '0000-00-00')", ())
        (row,) = await rows(connection, "SELECT * FROM t")
        assert row == ("0000-00-00", "2024-00-01 00:00:00", "0000-00-00 00:00:00")


async def test_an_update_counts_the_rows_that_it_met(url: str) -> None:
    async with connected(url) as (_, connection):
        await query(connection, "CREATE TABLE t (a INT)", ())
        await query(connection, "INSERT INTO t VALUES (1), (1)", ())
        assert (await query(connection, "UPDATE t SET a = 1", ())).count == 2


async def test_of_a_procedure_that_returns_several_results_the_first_with_rows_comes(url: str) -> None:
    async with connected(url) as (hooks, connection):
        await script(connection, "CREATE PROCEDURE p() BEGIN DO 1; SELECT 1 AS a; SELECT 2 AS b, 3 AS c; END")
        found = await query(connection, "CALL p()", ())
        assert (found.columns, found.rows, found.count) == (("a",), [(1,)], 1)
        await hooks.reset(connection)
        assert hooks.is_clean(connection)
        assert await rows(connection, "SELECT 4") == [(4,)]


async def test_a_procedure_that_fails_half_way_fails(url: str) -> None:
    async with connected(url) as (_, connection):
        await script(connection, "CREATE PROCEDURE p() BEGIN SELECT 1; SIGNAL SQLSTATE '45000'; END")
        assert (await failure(query(connection, "CALL p()", ()))).sqlstate == "45000"
        assert await rows(connection, "SELECT 4") == [(4,)]


async def test_a_text_that_is_no_utf8_is_an_error_that_costs_the_connection(url: str) -> None:
    async with connected(url) as (hooks, connection):
        await query(connection, "CREATE TABLE t (a TEXT CHARACTER SET utf8mb4)", ())
        # Half of a character, which Python takes for none and the server for one.
        await query(connection, "INSERT INTO t VALUES (_utf8mb4 x'EDA080')", ())
        error = await failure(query(connection, "SELECT a FROM t", ()))
        assert isinstance(error, DecodeError)
        assert not hooks.is_usable(connection)


async def test_a_file_of_the_client_is_not_sent_to_a_server_that_asks_for_it(url: str) -> None:
    async with connected(url) as (_, connection):
        await query(connection, "CREATE TABLE t (a TEXT)", ())
        error = await failure(query(connection, "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t", ()))
        assert isinstance(error, db.DbError)
    async with connected(url) as (_, connection):
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_warnings_cost_no_trip_and_are_none_of_pythons(url: str) -> None:
    async with db.open(configured(url)) as database:
        assert await database.execute("DROP TABLE IF EXISTS nowhere") == 0
        assert await database.fetch_value("SELECT CAST('12x' AS SIGNED)") == 12


async def test_strict_mode_refuses_what_does_not_fit(url: str) -> None:
    async with connected(url) as (_, connection):
        await query(connection, "CREATE TABLE t (a VARCHAR(3), b TINYINT, c DATE)", ())
        for column, value in (("a", "four"), ("b", 200), ("c", "2024-02-31")):
            assert isinstance(
                await failure(query(connection, f"INSERT INTO t ({column}) VALUES (%s)", [value])), db.QueryError
            )
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_the_servers_own_time_limit_is_a_timeout(url: str) -> None:
    async with connected(f"{url}?variables.max_statement_time=0.05") as (_, connection):
        error = await failure(query(connection, "SELECT SLEEP(5) FROM information_schema.tables", ()))
        assert isinstance(error, db.QueryTimeout)
