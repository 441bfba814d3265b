"""What comes out of columns of every type: the same the first time, in the text format, and later, in binary."""

from __future__ import annotations

import enum
import json
from decimal import Decimal
from typing import Any, cast

import psycopg
import pytest
from dbcore_postgres import Connection
from dbcore_postgres.connection import touch
from dbcore_postgres.statements import batch, execute_many, query, script
from dbcore_postgres.streaming import stream
from dbcore_postgres.transactions import rollback
from postgres_connections import Proxy, changed, configured, connected, failure, rows, start
from psycopg.pq import Format
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.numeric import FloatLoader

import dbcore as db
from dbcore.errors import DecodeError
from dbcore.statements import JsonString

ALIKE = (
    "true",
    "1::int2, 1::int4, 1::int8, 1::oid",
    "1.5::float4, 3.14159274::float4, array[0.1::float4]",
    "0.1::float8, 1e300::float8, 5e-324::float8, 1::float8/3, '-Infinity'::float8, 'NaN'::float8",
    "1.50::numeric, 1e20::numeric, 'NaN'::numeric, 'Infinity'::numeric, -0.000123::numeric",
    "'a'::text, 'a'::varchar, 'a'::char(3), 'a'::name, ''",
    "'a'::\"char\", ''::\"char\"",
    "'\\x00ff'::bytea, ''::bytea",
    "'2020-01-02'::date, '0001-01-01'::date, '9999-12-31'::date",
    "'12:13:14.123456'::time, '12:13+02'::timetz, '12:13:14.5+05:30:10'::timetz",
    "'2020-01-02 03:04:05.000001'::timestamp",
    "'1800-01-01'::timestamptz, '2020-07-01 00:00:00.5+02'::timestamptz",
    "'1 year 2 mons 3 days -04:05:06.7'::interval, '-1 day'::interval, '0'::interval",
    """'{"a": [1, 2.50, null]}'::json, '{"a": 1e400}'::jsonb, 'null'::jsonb, '"x"'::json""",
    "'12345678-1234-5678-1234-567812345678'::uuid",
    "'10.0.0.1'::inet, '10.0.0.1/8'::inet, '10.0.0.0/8'::cidr, '::1'::inet",
    "array[1, 2, null], array['a,b', '\"q\"', null], '[0:1]={1,2}'::int[], '{}'::int[], array[[1, 2], [3, 4]]",
    "array[1.5::numeric], array['2020-01-01'::timestamptz], array['1 day'::interval], array['{\"a\": 1}'::jsonb]",
    "int4range(1, 5), 'empty'::int4range, tstzrange('2020-01-01', null), array[daterange('2020-01-01', null)]",
    "row(1, 'a', null), array[row(1, 'a')]",
    "null, null::int, null::color",
)
TEXTS = (
    ("'red'::color", "red"),
    ("array['red', 'deep blue']::color[]", '{red,"deep blue"}'),
    ("row('red', 1)::pair", "(red,1)"),
    ("'$.a'::jsonpath", '$."a"'),
    ("1.5::numeric::money", "$1.50"),
    ("b'101'", "101"),
    ("'(1,2)'::point", "(1,2)"),
    ("'a b'::tsvector", "'a' 'b'"),
    ("'08:00:2b:01:02:03'::macaddr", "08:00:2b:01:02:03"),
    ("'pg_class'::regclass", "pg_class"),
    ("'$.a'::jsonpath", '$."a"'),
    ("'1 2'::int2vector", "1 2"),
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "deep blue"


async def make_types(connection: Connection) -> None:
    await script(connection, "CREATE TYPE pg_temp.color AS ENUM ('red', 'deep blue')")
    await script(connection, "CREATE TYPE pg_temp.pair AS (c pg_temp.color, n int); SET search_path = pg_temp, public")


async def streamed(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    return [row async for result in stream(connection, sql, (), 10) for row in result.rows]


@pytest.mark.parametrize("columns", ALIKE)
async def test_a_value_is_the_same_in_both_formats(postgres_url: str, columns: str) -> None:
    async with connected(postgres_url, options="-c TimeZone=Europe/Paris") as (_, connection):
        await make_types(connection)
        sql = f"SELECT {columns}"
        found = [await rows(connection, sql) for _ in range(4)]
        found.append(await streamed(connection, sql))
        found += [list(result.rows) for result in await batch(connection, [(sql, ()), (sql, ())])]
        assert [repr(each) for each in found[1:]] == [repr(found[0])] * (len(found) - 1)


LITERALS = (
    "1", "t", "a", "101", "2020-01-01", "01:02:03", "(1,2)", "((1,2),(3,4))", "[(1,2),(3,4)]", "{1,2,3}", "<(1,2),3>",
    "08:00:2b:01:02:03", "08:00:2b:01:02:03:04:05", "10.0.0.1", "1/2", "00000000-0000-0000-0000-000000000007", "[1,2)",
    "[2020-01-01,2020-01-02)", "{[1,2)}", "{[2020-01-01,2020-01-02)}", "1:1:", "pg_class", "=r/pg_monitor",
    "english", "simple", "YES", "abs", "abs(int4)", "!!", "+(int4,int4)", "red", "(red,1)", "(0,1)",
)  # fmt: skip
"""One of them is a value of nearly every type."""


async def test_an_array_of_any_type_is_the_same_in_both_formats(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_types(connection)
        await script(connection, "CREATE DOMAIN pg_temp.small AS int CHECK (VALUE < 10)")
        kinds = await rows(
            connection,
            "SELECT oid::regtype::text, typarray::regtype::text FROM pg_type WHERE typarray <> 0 AND oid NOT IN "
            "(SELECT reltype FROM pg_class WHERE oid <> 'pair'::regclass)",
        )
        without, differing = set[str](), dict[str, tuple[Any, Any]]()
        for item, kind in kinds:
            for literal in LITERALS:
                try:
                    await query(connection, f"SELECT '{literal}'::{item}", ())
                except psycopg.Error:
                    continue
                sql = f"""SELECT '{{"{literal}"}}'::{kind}, 1"""
                found = [await rows(connection, sql) for _ in range(5)]
                if repr(found[0]) != repr(found[4]):
                    differing[kind] = found[0], found[4]
                break
            else:
                without.add(item)
        assert differing == {}
        assert len(kinds) > 75
        assert without <= {"gtsvector", "cstring", "pg_snapshot", "txid_snapshot", "record"}


@pytest.mark.parametrize(("column", "text"), TEXTS)
async def test_a_type_that_nobody_knows_comes_as_text(postgres_url: str, column: str, text: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_types(connection)
        sql = f"SELECT {column}, 1"
        for _ in range(4):
            assert await rows(connection, sql) == [(text, 1)]
        assert await streamed(connection, sql) == [(text, 1)]
        assert [list(result.rows) for result in await batch(connection, [(sql, ())] * 2)] == [[(text, 1)]] * 2


async def test_returning_gives_the_same_however_it_is_sent(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_types(connection)
        await script(connection, "CREATE TEMP TABLE things (c color, n float8)")
        sql = "INSERT INTO things VALUES ($1, $2) RETURNING c, n"
        for _ in range(4):
            assert await rows(connection, sql, Colour.BLUE, 0.1) == [("deep blue", 0.1)]
        results = await batch(connection, [(sql, (Colour.RED, 0.2))] * 3)
        assert [list(result.rows) for result in results] == [[("red", 0.2)]] * 3
        assert await execute_many(connection, sql, [("red", 0.5)] * 3) == 3


async def test_known_columns_are_asked_for_in_binary_once_the_statement_is_prepared(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(3):
            await rows(connection, "SELECT 1, 'a', 0.5")
        seen = connection.prepared.get(("SELECT 1, 'a', 0.5", ()))
        assert seen is not None
        assert seen.format == Format.BINARY


async def test_a_column_that_becomes_an_enum_is_read_as_one(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_types(connection)
        await script(connection, "CREATE TEMP TABLE things (c text); INSERT INTO things VALUES ('red')")
        for times in range(4):
            await script(connection, "ALTER TABLE things ALTER c TYPE text")
            for _ in range(times):
                assert await rows(connection, "SELECT c FROM things") == [("red",)]
            await script(connection, "ALTER TABLE things ALTER c TYPE color USING c::color")
            for _ in range(4):
                assert await rows(connection, "SELECT c FROM things") == [("red",)]


async def test_an_enum_of_the_database_is_read_into_an_enum(postgres_url: str) -> None:
    async with (
        db.open(configured(postgres_url)) as database,
        database.connection() as connection,
    ):
        await make_types(connection.native)
        for _ in range(4):
            assert await connection.fetch_value("SELECT 'red'::color", into=Colour) is Colour.RED
            assert await connection.fetch_value("SELECT $1::color", [Colour.BLUE], into=Colour) is Colour.BLUE
            found = await connection.fetch_value("SELECT $1::color[]::text[]", [[Colour.RED]], into=list[Colour])
            assert found == [Colour.RED]


async def test_what_is_registered_at_the_native_connection_holds_until_its_release(postgres_url: str) -> None:
    async with db.open(configured(postgres_url, pool={"max_size": 1})) as database:
        await database.execute("CREATE TYPE shade AS ENUM ('red', 'deep blue')")
        try:
            async with database.connection() as connection:
                assert await connection.fetch_value("SELECT 'red'::shade") == "red"
                info = cast("EnumInfo", await EnumInfo.fetch(connection.native, "shade"))
                register_enum(info, connection.native, Colour, mapping={each: each.value for each in Colour})
                for _ in range(4):
                    assert await connection.fetch_value("SELECT 'red'::shade") is Colour.RED
                    assert await connection.fetch_value("SELECT array['red'::shade]") == [Colour.RED]
            for _ in range(3):
                assert await database.fetch_value("SELECT 'red'::shade") == "red"
        finally:
            await database.execute("DROP TYPE shade")


async def test_the_style_of_the_role_does_not_matter_and_that_of_the_session_says_so(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, admin):
        await script(admin, "CREATE ROLE stylish LOGIN SUPERUSER PASSWORD 'x'")
        await script(admin, "ALTER ROLE stylish SET IntervalStyle = 'iso_8601'; ALTER ROLE stylish SET DateStyle = SQL")
        try:
            url = changed(postgres_url, user="stylish", password="x")
            async with connected(url) as (hooks, connection):
                for sql in ("SELECT '1 day'::interval AS what", "SELECT now() AS what"):
                    for _ in range(3):
                        await rows(connection, sql)
                await script(connection, "SET IntervalStyle = 'iso_8601'")
                error = await failure(query(connection, "SELECT '2 days'::interval AS what", ()))
                assert isinstance(error, DecodeError)
                assert "IntervalStyle" in str(error)
                assert "what" in str(error)
                await hooks.reset(connection)
                await rows(connection, "SELECT '3 days'::interval")
        finally:
            await script(admin, "DROP ROLE stylish")


async def test_looking_at_the_types_costs_no_trip(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (_, connection):
        await make_types(connection)
        for sql in ("SELECT 1, 'red'::color", "SELECT 1, 'a'"):
            for _ in range(4):
                before = proxy.trips
                await rows(connection, sql)
                assert proxy.trips == before + 1
        before = proxy.trips
        await start(connection)
        await rows(connection, "SELECT 'red'::color")
        await rollback(connection)
        assert proxy.trips == before + 2


async def test_strings_out_of_json_are_told_from_texts(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        sql = """SELECT '"12"'::json, '"12"'::jsonb, '12'::jsonb, '12'::text, array['"12"'::jsonb]"""
        for _ in range(4):
            ((first, second, third, fourth, (fifth,)),) = await rows(connection, sql)
            assert (first, second, third, fourth, fifth) == ("12", "12", 12, "12", "12")
            assert [type(each) for each in (first, second, fifth)] == [JsonString] * 3
            assert type(fourth) is str


def too_deep() -> int:
    """How deep JSON is nested that this Python cannot read; beyond the last of these the server cannot either."""
    for depth in (5_000, 12_000):
        try:
            json.loads("[" * depth + "]" * depth)
        except RecursionError:
            return depth
    pytest.skip("this Python reads all that the server does")


async def test_json_that_is_nested_too_deep_for_python_says_so(postgres_url: str) -> None:
    depth = too_deep()
    async with connected(postgres_url) as (_, connection):
        sql = f"SELECT (repeat('[', {depth}) || repeat(']', {depth}))::json AS deep"
        for _ in range(4):
            error = await failure(query(connection, sql, ()))
            assert type(error) is DecodeError
            assert "deep" in str(error)
            assert "cast it to text" in str(error)
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_a_loader_of_the_users_holds_from_the_first_execution_to_the_last(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        touch(connection)
        sql = "SELECT 1.5::numeric"
        for _ in range(3):
            assert await rows(connection, sql) == [(Decimal("1.5"),)]
        connection.adapters.register_loader("numeric", FloatLoader)
        for _ in range(4):
            ((value,),) = await rows(connection, sql)
            assert type(value) is float
        await hooks.reset(connection)
        assert await rows(connection, sql) == [(Decimal("1.5"),)]
