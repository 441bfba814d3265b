"""Statements: parameters that asyncpg would refuse, counts that it does not tell, and texts that would hurt it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import psycopg
import pytest
from asyncpg import InterfaceError
from dbcore_asyncpg.casting import Casts, Fitter, in_common, with_casts
from dbcore_asyncpg.errors import to_error
from dbcore_asyncpg.texts import read
from postgres_names import OTHERS, ZIP

import dbcore as db


class Colour(Enum):
    RED = "red"


@contextlib.asynccontextmanager
async def in_schema(
    postgres_url: str, columns: str = "n int PRIMARY KEY, s text", **keys: Any
) -> AsyncGenerator[db.Database, None]:
    """A database with the empty table `t`."""
    schema = f"asyncpg_{uuid.uuid4().hex[:12]}"
    url = postgres_url.replace("postgresql:", "postgresql+asyncpg:", 1)
    keys = {"pool": {"max_size": 2}, **keys}
    with psycopg.connect(postgres_url, autocommit=True) as outside:
        outside.execute(f"CREATE SCHEMA {schema}".encode())
        try:
            async with db.open({"url": f"{url}?options=-csearch_path={schema}", **keys}) as database:
                await database.execute(f"CREATE TABLE t ({columns})")
                yield database
        finally:
            outside.execute(f"DROP SCHEMA {schema} CASCADE".encode())


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "casts", "found"),
    [
        ("SELECT $1, $2", ((1, "int8"),), "SELECT ($1::int8), $2"),
        (
            "SELECT '$1', $1 -- $1\n, \"$1\", $$ $1 $$",
            ((1, "int8"),),
            "SELECT '$1', ($1::int8) -- $1\n, \"$1\", $$ $1 $$",
        ),
        ("SELECT $2, $10, $1", ((1, "bool"), (10, "text::date")), "SELECT $2, ($10::text::date), ($1::bool)"),
        ("SELECT -$1, $1::text", ((1, "int8"),), "SELECT -($1::int8), ($1::int8)::text"),
    ],
)
def test_a_cast_is_put_where_the_placeholder_is_one(sql: str, casts: Casts, found: str) -> None:
    assert with_casts(sql, casts) == found


@pytest.mark.parametrize(
    ("value", "sql", "found"),
    [
        (1, "SELECT $1", 1),
        (True, "SELECT $1", True),
        (Decimal("1.10"), "SELECT $1", Decimal("1.10")),
        (date(2024, 2, 29), "SELECT $1", date(2024, 2, 29)),
        ([1, 2], "SELECT $1", [1, 2]),
        ([[1], [2]], "SELECT $1", [[1], [2]]),
        ({"a": 1}, "SELECT $1", {"a": 1}),
        (Colour.RED, "SELECT $1", "red"),
        ([Colour.RED], "SELECT $1::text[]", ["red"]),
        ("2024-02-29", "SELECT $1::date", date(2024, 2, 29)),
        ("7", "SELECT $1::int + 1", 8),
        ("{1,2}", "SELECT $1::int[]", [1, 2]),
        (5, "SELECT $1::text || '!'", "5!"),
        (0.1, "SELECT $1::numeric", Decimal("0.1")),
        (1.5, "SELECT $1::int", 2),
        (None, "SELECT $1", None),
    ],
)
async def test_a_value_goes_where_its_type_is_not_what_asyncpg_wants(
    postgres_url: str, value: Any, sql: str, found: Any
) -> None:
    async with in_schema(postgres_url) as database:
        for _ in range(2):
            assert await database.fetch_value(sql, [value]) == found
        async with database.stream(sql, [value]) as rows:
            assert [tuple(row) async for row in rows] == [(found,)]


async def test_a_naive_datetime_is_of_the_time_zone_of_the_session(postgres_url: str) -> None:
    """By itself asyncpg would take it for one of the machine's time zone."""
    async with in_schema(postgres_url, "at timestamptz") as database, database.connection() as connection:
        await connection.execute("SET TimeZone TO 'Asia/Tokyo'")
        naive = datetime(2024, 5, 1, 9, 0)  # noqa: DTZ001  # as it shall be
        await connection.execute("INSERT INTO t VALUES ($1)", [naive])
        await connection.insert_many("t", ["at"], [[naive]])
        assert await connection.fetch_all("SELECT at FROM t", into=datetime) == [datetime(2024, 5, 1, tzinfo=UTC)] * 2


async def test_what_fits_nothing_is_refused_and_not_shown(postgres_url: str) -> None:
    async with in_schema(postgres_url) as database:
        for value in (object(), "s3cr3t\ud800", 2**40):
            async with database.transaction() as tx:
                with pytest.raises(db.QueryError, match="parameter 1 cannot be sent") as caught:
                    await tx.execute(
                        "INSERT INTO t (n, s) VALUES ($2, $1)", [value, 1] if type(value) is not int else [1, 1]
                    )
                    await tx.execute("INSERT INTO t (n) VALUES ($1)", [value])
                assert "s3cr3t" not in str(caught.value)
                assert tx.in_transaction


def test_casts_that_differ_from_row_to_row_are_not_in_common() -> None:
    a, b, none = ((1, "int8"),), ((1, "bool"),), ()
    assert in_common([none, none], [(1,), (2,)]) == ()
    assert in_common([a, a], [(1,), (2,)]) == a
    assert in_common([a, none], [(1,), (None,)]) == a
    assert in_common([a, none], [(1,), ("x",)]) is None
    assert in_common([a, b], [(1,), (True,)]) is None


def test_a_row_that_fits_is_handed_on_as_it_is() -> None:
    fitter = Fitter([])
    row = ()
    assert fitter.fit(row) == ((), ())


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "asking"),
    [
        ("INSERT INTO t VALUES ($1)", "INSERT INTO t VALUES ($1)\nRETURNING 1"),
        ("DELETE FROM t -- all of it", "DELETE FROM t -- all of it\nRETURNING 1"),
        ("INSERT INTO t VALUES ($1);", None),
        ("INSERT INTO t VALUES ($1) RETURNING n", None),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", None),
        ("SELECT 1", None),
    ],
)
def test_a_row_is_asked_for_each_that_was_changed(sql: str, asking: str | None) -> None:
    assert read(sql).counting == asking


@pytest.mark.parametrize(
    ("sql", "rows", "count"),
    [
        ("INSERT INTO t (n) VALUES ($1)", [[1], [2], [3]], 3),
        ("INSERT INTO t (n) VALUES ($1) ON CONFLICT DO NOTHING", [[1], [1], [2]], 2),
        ("INSERT INTO t (n) VALUES ($1) RETURNING n", [[1], [2]], 2),
        ("INSERT INTO t (n) VALUES ($1);", [[1], [2]], 2),
        ("INSERT INTO t (n) SELECT * FROM generate_series(1, $1)", [[3]], 3),
        ("WITH x AS (SELECT $1::int) INSERT INTO t (n) SELECT * FROM x", [[1], [2]], 2),
        ("INSERT INTO t (n, s) VALUES ($1, $2)", [[1, 5], [2, None], [3, "x"]], 3),
        ("INSERT INTO t (n, s) VALUES ($1, $2)", [[1, 5], [2, None]], 2),
        ("UPDATE t SET n = $1 WHERE false", [[1]], 0),
    ],
)
async def test_execute_many_counts_what_it_changed(postgres_url: str, sql: str, rows: list[Any], count: int) -> None:
    async with in_schema(postgres_url) as database:
        assert await database.execute_many(sql, rows) == count
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM t")
            assert await tx.execute_many(sql, rows) == count
            assert await tx.fetch_value("SELECT count(*) FROM t") == count


@pytest.mark.parametrize("end", ["", ";"])
async def test_execute_many_is_all_or_nothing(postgres_url: str, end: str) -> None:
    async with in_schema(postgres_url) as database:
        with pytest.raises(db.ConstraintError):
            await database.execute_many(f"INSERT INTO t (n) VALUES ($1){end}", [[1], [2], [1]])
        with pytest.raises(db.QueryError, match="row 2"):
            await database.execute_many("INSERT INTO t (n, s) VALUES ($1, $2)", [[1, "a"], [2, "\ud800"]])
        assert await database.fetch_value("SELECT count(*) FROM t") == 0


async def test_columns_of_an_empty_result_have_names_and_those_of_one_name_are_kept(postgres_url: str) -> None:
    async with in_schema(postgres_url) as database:
        (result,) = await database.batch([("SELECT n, s, n FROM t", ())])
        assert (result.columns, list(result.rows), result.count) == (("n", "s", "n"), [], 0)
        (result,) = await database.batch([("SELECT 1 AS a, 2 AS a", ())])
        assert (result.columns, list(result.rows)) == (("a", "a"), [(1, 2)])


# -- texts that would hurt ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["COPY t FROM STDIN", "copy t to stdout", "SELECT 1 \0", "SELECT '\ud800'"])
async def test_a_text_that_asyncpg_would_hang_or_break_on_is_refused(postgres_url: str, sql: str) -> None:
    async with in_schema(postgres_url, pool={"max_size": 1}) as database:
        with pytest.raises(db.QueryError):
            await database.execute(sql)
        with pytest.raises(db.QueryError):
            await database.execute_script(f"SELECT 1; {sql}")
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().connects == 1


async def test_a_value_beyond_python_is_a_decode_error_and_harms_nothing(postgres_url: str) -> None:
    async with in_schema(postgres_url) as database, database.transaction() as tx:
        with pytest.raises(db.DecodeError, match="columns day"):
            await tx.fetch_all("SELECT '10000-01-01'::date AS day")
        assert await tx.fetch_value("SELECT 1") == 1


async def test_infinity_comes_as_the_last_moment_of_python(postgres_url: str) -> None:
    """And goes as such: what asyncpg does, and the README says."""
    async with in_schema(postgres_url) as database:
        assert await database.fetch_value("SELECT 'infinity'::date") == date.max
        assert await database.fetch_value("SELECT $1::date = 'infinity'", [date.max]) is True


# -- what is prepared --------------------------------------------------------------------------------------------------


async def test_a_prepared_statement_is_made_anew_after_ddl(postgres_url: str) -> None:
    async with in_schema(postgres_url) as database:
        await database.execute("INSERT INTO t VALUES ($1, $2)", [1, "a"])
        assert await database.fetch_all("SELECT * FROM t") == [(1, "a")]
        await database.execute("ALTER TABLE t ALTER n TYPE text, ADD more int DEFAULT 7")
        assert await database.fetch_all("SELECT * FROM t") == [("1", "a", 7)]
        await database.execute("INSERT INTO t VALUES ($1, $2)", ["one", "a"])


async def test_a_statement_that_became_stale_behind_our_back_is_prepared_anew(postgres_url: str) -> None:
    async with in_schema(postgres_url, pool={"max_size": 1}) as database:
        await database.fetch_all("SELECT * FROM t")
        schema = await database.fetch_value("SELECT current_schema")
        with psycopg.connect(postgres_url, autocommit=True) as outside:
            outside.execute(f"ALTER TABLE {schema}.t ADD more int".encode())
        assert await database.fetch_all("SELECT * FROM t") == []
        with psycopg.connect(postgres_url, autocommit=True) as outside:
            outside.execute(f"ALTER TABLE {schema}.t DROP more".encode())
        with pytest.raises(db.QueryError) as caught:
            async with database.transaction() as tx:
                await tx.fetch_all("SELECT * FROM t")
        assert caught.value.retryable
        assert await database.fetch_all("SELECT * FROM t") == []


async def test_statements_that_somebody_deallocated_are_prepared_anew(postgres_url: str) -> None:
    async with in_schema(postgres_url, pool={"max_size": 1}) as database:
        for _ in range(2):
            assert await database.fetch_value("SELECT 1") == 1
            await database.execute("DEALLOCATE ALL")


# -- insert_many -------------------------------------------------------------------------------------------------------


async def test_insert_many_copies_and_counts_rows_of_any_source(postgres_url: str) -> None:
    async def rows() -> AsyncIterator[tuple[int, str]]:
        for number in range(1000, 2500):
            yield number, str(number)

    async with in_schema(postgres_url) as database:
        assert await database.insert_many("t", ["n", "s"], ((number, "x") for number in range(700))) == 700
        assert await database.insert_many("t", ["n", "s"], rows()) == 1500
        assert await database.insert_many("t", ["n"], []) == 0
        schema = await database.fetch_value("SELECT current_schema")
        assert await database.insert_many((schema, "t"), ["n"], [[-1]]) == 1
        assert await database.fetch_value("SELECT count(*) FROM t") == 2201


async def test_insert_many_goes_by_insert_where_copy_has_no_form(postgres_url: str) -> None:
    async with in_schema(postgres_url) as database:
        await database.execute("CREATE TYPE colour AS ENUM ('red', 'blue')")
        await database.execute("CREATE TABLE painted (c colour, m money, at date, s text)")
        rows = [("red", "1.50", "2024-02-29", 5), (Colour.RED, None, date(2024, 2, 28), "x")]
        assert await database.insert_many("painted", ["c", "m", "at", "s"], rows) == 2
        assert await database.fetch_all("SELECT c, at, s FROM painted") == [
            ("red", date(2024, 2, 29), "5"),
            ("red", date(2024, 2, 28), "x"),
        ]


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ((2**40, "x"), "row 601"),
        ((1, 5), "row 601, column 's': this int does not fit text"),
        ((1,), "row 601 has 1 values"),
    ],
)
async def test_a_row_that_does_not_fit_is_named_and_nothing_is_inserted(postgres_url: str, bad: Any, text: str) -> None:
    async with in_schema(postgres_url) as database:
        rows = [*((number, "x") for number in range(1000, 1600)), bad]
        with pytest.raises(db.QueryError, match=text):
            await database.insert_many("t", ["n", "s"], rows)
        assert await database.fetch_value("SELECT count(*) FROM t") == 0


async def test_what_the_rows_themselves_raise_goes_through(postgres_url: str) -> None:
    def rows(first: int) -> Any:
        yield from ((number, "x") for number in range(first))
        raise OSError("the file has gone")

    async with in_schema(postgres_url) as database:
        for first in (0, 10, 2000):
            with pytest.raises(OSError, match="the file has gone") as caught:
                await database.insert_many("t", ["n", "s"], rows(first))
            assert type(caught.value) is OSError
            with pytest.raises(OSError, match="the file has gone"):
                async with database.transaction() as tx:
                    await tx.insert_many("t", ["n", "s"], rows(first))
        assert await database.fetch_value("SELECT count(*) FROM t") == 0


async def test_insert_many_notices_that_a_column_is_of_another_type_of_the_same_size(postgres_url: str) -> None:
    async with in_schema(postgres_url, "n int8", pool={"max_size": 1}) as database:
        await database.insert_many("t", ["n"], [[1]])
        schema = await database.fetch_value("SELECT current_schema")
        with psycopg.connect(postgres_url, autocommit=True) as outside:
            outside.execute(f"ALTER TABLE {schema}.t ALTER n TYPE float8".encode())
        await database.insert_many("t", ["n"], [[2.5]])
        assert await database.fetch_all("SELECT n FROM t ORDER BY n", into=float) == [1, 2.5]


# -- errors ------------------------------------------------------------------------------------------------------------


async def test_texts_of_errors_show_no_value(postgres_url: str) -> None:
    async with in_schema(postgres_url, "n int UNIQUE CHECK (n > 0), s varchar(3) NOT NULL") as database:
        await database.execute("INSERT INTO t VALUES (1, 'a')")
        for sql, params in (
            ("INSERT INTO t VALUES ($1, 'b')", [1]),
            ("INSERT INTO t VALUES ($1, 's3cr3t')", [2]),
            ("SELECT $1::text::int", ["s3cr3t"]),
            ("SELECT to_date($1, 'YYYY')", ["s3cr3t"]),
        ):
            with pytest.raises(db.QueryError) as caught:
                await database.execute(sql, params)
            assert "s3cr3t" not in f"{caught.value} {caught.value.args}"
            assert caught.value.sqlstate is not None
            assert caught.value.__cause__ is not None


async def test_misuse_of_asyncpg_itself_is_a_usage_error(postgres_url: str) -> None:
    async with in_schema(postgres_url) as database, database.connection() as connection:
        with pytest.raises(InterfaceError) as caught:
            await connection.native.fetch("SELECT 1", 5)
        assert isinstance(to_error(caught.value), db.UsageError)
    assert to_error(ZeroDivisionError()) is None


def opened(postgres_url: str, max_size: int) -> db.Database:
    url = postgres_url.replace("postgresql:", "postgresql+asyncpg:", 1)
    return db.open({"url": url, "pool": {"max_size": max_size}})


@contextlib.asynccontextmanager
async def zips(postgres_url: str) -> AsyncGenerator[db.Database, None]:
    """A table of texts, and one of the same name in another schema with ints; and one connection."""
    async with opened(postgres_url, max_size=1) as database:
        await database.execute_script("CREATE TABLE zip (code text); CREATE SCHEMA other")
        await database.execute("CREATE TABLE other.zip (code int)")
        try:
            yield database
        finally:
            await database.execute_script("DROP SCHEMA other CASCADE; DROP TABLE zip")


@pytest.mark.parametrize("what", OTHERS)
async def test_what_a_name_means_is_found_anew_when_that_has_changed(postgres_url: str, what: str) -> None:
    """A parameter would go on to be read by the type of the column that was meant before."""
    change, back = OTHERS[what]
    async with zips(postgres_url) as database:
        async with database.connection() as connection:
            for text in change.split("; "):
                await connection.execute(text)
            for _ in range(3):
                await connection.execute(ZIP, [1067])
            await connection.execute(back)
            await connection.execute(ZIP, ["01067"])
            assert await connection.fetch_all("SELECT code FROM public.zip", into=str) == ["01067"]
        await database.execute("TRUNCATE zip")


@pytest.mark.parametrize("change", ["SET search_path = other", "CREATE TEMP TABLE zip (code int)"])
async def test_the_next_holder_has_its_own_names(postgres_url: str, change: str) -> None:
    async with zips(postgres_url) as database:
        async with database.connection() as connection:
            await connection.execute(change)
            for _ in range(3):
                await connection.execute(ZIP, [1067])
        await database.execute(ZIP, ["01067"])
        assert await database.fetch_all("SELECT code FROM zip", into=str) == ["01067"]


async def test_ddl_of_one_task_harms_no_statement_of_another(postgres_url: str) -> None:
    async with opened(postgres_url, max_size=4) as database:

        async def read(number: int) -> None:
            for turn in range(60):
                sql = f"SELECT $1::int + {turn % 7}"
                assert await database.fetch_value(sql, [number]) == number + turn % 7

        async def alter() -> None:
            for _ in range(15):
                await database.execute_script("CREATE TABLE dbcore_altered (a int); DROP TABLE dbcore_altered")

        await asyncio.gather(alter(), *map(read, range(3)))
