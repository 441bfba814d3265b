"""Literals: what is written comes back as it was, whatever it holds, and nothing of it is ever read as SQL."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from dbcore_mysql import Connection
from dbcore_mysql.literals import LONGEST_TIME, fill, literal
from dbcore_mysql.statements import query
from hypothesis import given, settings
from hypothesis import strategies as st
from mysql_connections import connected, failure, rows

from dbcore.errors import QueryError, UsageError

EXAMPLES = settings(max_examples=400, derandomize=True, database=None, deadline=None)

# Whatever begins or ends something in SQL of MySQL, or is special to a reader of bytes.
HARD = st.text(alphabet="'\"\\`%s?;#-*/\0\n\r\x1a abé東𝄞\u2028" + "縗", max_size=20)
TEXTS = st.one_of(HARD, st.text(st.characters(codec="utf-8"), max_size=20))
TIMES = st.timedeltas(-LONGEST_TIME, LONGEST_TIME)


def with_connection(url: str, work: Callable[[asyncio.Runner, Connection], None]) -> None:
    """Run hypothesis, which is not asynchronous, on one connection."""
    with asyncio.Runner() as runner:
        scope = connected(url)
        _, connection = runner.run(scope.__aenter__())
        try:
            work(runner, connection)
        finally:
            runner.run(scope.__aexit__(None, None, None))


@pytest.mark.parametrize(
    "values",
    [
        TEXTS,
        st.binary(max_size=40),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**20), max_value=10**20),
        st.datetimes(),
        st.dates(),
    ],
    ids=["str", "bytes", "int", "float", "Decimal", "datetime", "date"],
)
def test_a_value_comes_back_equal_and_disturbs_nothing_beside_it(
    mysql_url: str, values: st.SearchStrategy[Any]
) -> None:
    def work(runner: asyncio.Runner, connection: Connection) -> None:
        @EXAMPLES
        @given(st.lists(values, min_size=1, max_size=4))
        def agrees(chosen: list[Any]) -> None:
            marks = ", ".join(["%s"] * len(chosen))
            found = runner.run(rows(connection, f"SELECT 'a', {marks}, 'z' AS z", *chosen))
            assert found == [("a", *chosen, "z")]

        agrees()

    with_connection(mysql_url, work)


def test_a_duration_comes_back_as_its_text_in_every_length(mysql_url: str) -> None:
    def work(runner: asyncio.Runner, connection: Connection) -> None:
        @EXAMPLES
        @given(TIMES)
        def agrees(value: timedelta) -> None:
            sql = "SELECT TIME_TO_SEC(v), MICROSECOND(v) FROM (SELECT CAST(%s AS TIME(6)) AS v) AS t"
            ((seconds, fraction),) = runner.run(rows(connection, sql, value))
            size = abs(value)
            assert (abs(int(seconds)), fraction) == (size.days * 86400 + size.seconds, size.microseconds)
            assert (value < timedelta(0)) == (int(seconds) < 0) or not int(seconds)

        agrees()

    with_connection(mysql_url, work)


def test_bytes_and_texts_of_any_kind_are_kept_by_their_columns(mysql_url: str) -> None:
    def work(runner: asyncio.Runner, connection: Connection) -> None:
        runner.run(query(connection, "CREATE TEMPORARY TABLE kept (t LONGTEXT, b LONGBLOB)", ()))

        @EXAMPLES
        @given(TEXTS, st.binary(max_size=60))
        def agrees(text: str, data: bytes) -> None:
            runner.run(query(connection, "INSERT INTO kept VALUES (%s, %s)", [text, data]))
            assert runner.run(rows(connection, "SELECT t, b FROM kept")) == [(text, data)]
            runner.run(query(connection, "DELETE FROM kept", ()))

        agrees()

    with_connection(mysql_url, work)


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE victim; -- ",
        "\\'; DROP TABLE victim; -- ",
        "\\\\'; DROP TABLE victim; #",
        "' OR 1=1 /*",
        "\xbf'; DROP TABLE victim; -- ",
        "%s' %(x)s",
        "\0'\x1a\\",
    ],
)
async def test_an_injection_is_a_text_like_any_other(mysql_url: str, text: str) -> None:
    async with connected(mysql_url) as (_, connection):
        await query(connection, "CREATE TEMPORARY TABLE victim (v TEXT)", ())
        await query(connection, "INSERT INTO victim VALUES (%s)", [text])
        assert await rows(connection, "SELECT v FROM victim WHERE v = %s", text) == [(text,)]
        assert await rows(connection, "SELECT count(*) FROM victim WHERE v = %s", f"{text}x") == [(0,)]


async def test_a_session_in_which_a_backslash_is_none_takes_no_parameters(mysql_url: str) -> None:
    async with connected(mysql_url) as (_, connection):
        await connection.query("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")  # by asyncmy's own interface
        error = await failure(query(connection, "SELECT %s", ["\\' OR 1 = 1 -- "]))
        assert isinstance(error, QueryError)
        assert "NO_BACKSLASH_ESCAPES" in str(error)
        await connection.query("SET autocommit = 0")
        await connection.query("SET sql_mode = ''")  # the status is 0 now, which asyncmy takes for none
        await query(connection, "SELECT 1", ())
        assert await rows(connection, "SELECT %s", "\\' OR 1 = 1 -- ") == [("\\' OR 1 = 1 -- ",)]


@pytest.mark.parametrize(
    "sql",
    [
        "SET sql_mode = ''",
        "SET SESSION sql_mode = 'ANSI'",
        "SET @@sql_mode = DEFAULT",
        "SET NAMES gbk",
        "SET CHARACTER SET sjis",
        "SET CHARSET big5",
        "SET autocommit = 1, character_set_client = gbk",
        "/*!40101 SET NAMES gbk */",
        "/*M! SET sql_mode = '' */",
        "SET STATEMENT sql_mode = 'NO_BACKSLASH_ESCAPES' FOR SELECT 1",
    ],
)
async def test_a_statement_that_would_change_how_texts_are_read_is_refused(mysql_url: str, sql: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        with pytest.raises(UsageError, match="sql_mode in the config"):
            await query(connection, sql, ())
        assert hooks.is_clean(connection)


async def test_with_ansi_quotes_a_backslash_between_double_quotes_is_refused_beside_parameters(mysql_url: str) -> None:
    """There it ends no identifier, and the reader of placeholders takes it for an escape."""
    async with connected(mysql_url, sql_mode="ANSI_QUOTES") as (_, connection):
        assert await rows(connection, 'SELECT %s AS "a b"', "x\\") == [("x\\",)]
        error = await failure(query(connection, 'SELECT 1 AS "a\\", %s', ["x"]))
        assert "ANSI_QUOTES" in str(error)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.inf, "infinity"),
        (-math.inf, "infinity"),
        (math.nan, "NaN"),
        (Decimal("NaN"), "NaN"),
        (Decimal("-Infinity"), "infinity"),
        ("a\ud800", "lone surrogate"),
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (LONGEST_TIME + timedelta(microseconds=1), "838:59:59"),
        (timedelta.min, "838:59:59"),
        (time(1, tzinfo=UTC), "time zone"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "year 9999"),
        ((1, 2), "no form"),
        ({1, 2}, "no form"),
        (object(), "no form"),
        ({"a": object()}, "JSON form"),
    ],
)
def test_what_mysql_has_no_form_for_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(QueryError, match=words) as caught:
        fill("SELECT %s, %s", [1, value])
    assert str(caught.value).startswith("parameter 2 (a ")


def test_a_text_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(QueryError, match="lone surrogate"):
        fill("SELECT '\ud800'", [])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, b"NULL"),
        (True, b"TRUE"),
        (1.5, b"1.5e0"),
        (1e300, b"1e+300"),
        (Decimal("1.10"), b"1.10"),
        (Decimal("1E+3"), b"1000"),
        (Decimal("1E-40"), b"'1E-40'"),
        (
            datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2))),
            b"TIMESTAMP'2024-01-02 01:04:05.000006'",
        ),
        (date(1, 2, 3), b"DATE'0001-02-03'"),
        (timedelta(days=-1, microseconds=3), b"TIME'-23:59:59.999997'"),
        (b"'\\\0\xff", b"_binary'\\'\\\\\\0\xff'"),
        (bytearray(b"x"), b"_binary'x'"),
        (memoryview(b"x"), b"_binary'x'"),
        ([1, "a"], b"'[1,\"a\"]'"),
    ],
)
def test_a_literal_is_of_the_type_of_its_value(value: Any, written: bytes) -> None:
    assert literal(value) == written


async def test_a_statement_beyond_max_allowed_packet_is_refused_and_costs_no_connection(mysql_url: str) -> None:
    async with connected(mysql_url) as (hooks, connection):
        large = "x" * connection.max_packet
        for work in (query(connection, "SELECT LENGTH(%s)", [large]), query(connection, f"SELECT '{large}'", ())):
            error = await failure(work)
            assert isinstance(error, QueryError)
            assert "max_allowed_packet" in str(error)
        fits = "x" * (connection.max_packet - 100)
        assert await rows(connection, "SELECT LENGTH(%s)", fits) == [(len(fits),)]
        assert hooks.is_clean(connection)


def work_of(connection: Connection) -> Awaitable[object]:
    return query(connection, "SELECT 1; SELECT 2", ())


async def test_a_text_holds_one_statement_with_asyncmys_interface_too(mysql_url: str) -> None:
    async with connected(mysql_url) as (_, connection):
        assert (await failure(work_of(connection))).sqlstate == "42000"
        assert (await failure(connection.query("SELECT 1; SELECT 2"))).sqlstate == "42000"
        assert await rows(connection, "SELECT 1") == [(1,)]
