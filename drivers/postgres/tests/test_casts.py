"""insert_many stores what INSERT stores, and refuses what it refuses: every type of value, in columns of every type."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from dbcore_postgres import Connection
from dbcore_postgres.copying import insert_many
from dbcore_postgres.statements import query, script
from dbcore_postgres.values import is_list
from postgres_connections import connected, rows
from psycopg.types.numeric import Int4
from psycopg.types.range import Range

from dbcore.errors import DbError, QueryError
from dbcore.statements.values import Json

moment = dt.datetime.fromisoformat
REFUSED = "refused"
EAST = dt.timezone(dt.timedelta(hours=2, minutes=30))
SECONDS = dt.timezone(-dt.timedelta(hours=1, seconds=30))
D = Decimal


class Whole(int):
    pass


class Text(str):
    __slots__ = ()


class Choice(enum.Enum):
    ONE = 1
    BIG = 2**40 + 7
    HUGE = 2**63
    WORD = "red"
    NOTHING = None
    MANY = [1, 2]  # noqa: RUF012 (the value of a member)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2**40 + 7


COLUMNS = (
    "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "numeric(12,2)", "money", "oid", "regclass", "text",
    "varchar(30)", "char(30)", "name", '"char"', "bytea", "date", "time", "time(0)", "timetz", "timestamp",
    "timestamptz", "interval", "uuid", "json", "jsonb", "inet", "cidr", "macaddr", "bit(4)", "point", "xml", "xid",
    "int4range", "color", "digits", "int2[]", "int4[]", "int8[]", "float8[]", "numeric[]", "bool[]", "text[]", "date[]",
    "timestamp[]", "timestamptz[]", "time[]", "uuid[]", "jsonb[]", "inet[]", "color[]",
)  # fmt: skip
"""digits is a domain over int8."""

VALUES: tuple[Any, ...] = (
    True, 0, 1, -1, 2**15, 2**31, -(2**31), 2**31 - 1, -(2**31) - 1, 2**40 + 7, 2**63 - 1, -(2**63), 2**63, Whole(5),
    Whole(2**40), Int4(5), 1.5, 2.5, -0.5, 2.0, 0.1 + 0.2, 1e15, 123456789012345680.0, 1e20, 1e-5, 0.0001, 1.5e-7,
    1e300, 1e-300, float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1 + 2**-24, 32767.5, D("1.50"), D("2.5"),
    D("-2.5"), D("1e20"), D("100"), D("1E-500"), D("1E+500"), D("NaN"), D("Infinity"), D("-Infinity"), D("-0"),
    D("0.00"), D("32767.5"), "5", "t", "abc", "", "1.5", "2020-01-01", "01:02:03", '{"a": 1}', "[1]", "{1,2}", "red",
    "10.0.0.1", "\\x41", "a" * 31, str(uuid.UUID(int=7)), f"urn:uuid:{uuid.UUID(int=7)}", uuid.UUID(int=7).hex,
    Text("5"), b"x\xff", b"", b"abc", bytearray(b"x"), memoryview(b"xyz"), dt.date(2020, 1, 1), dt.date(999, 12, 31),
    moment("2020-01-01 12:30"), moment("2020-01-01 12:30:15.000120"), moment("2020-10-25 02:30"),
    moment("2020-10-25 02:30").replace(fold=1), moment("2020-03-29 02:30"), dt.datetime(1800, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2020, 1, 1, 23, 30, tzinfo=dt.UTC), dt.datetime(2020, 7, 1, 12, 30, 0, 5, tzinfo=EAST),
    dt.datetime(2020, 7, 1, 12, 30, tzinfo=SECONDS), dt.datetime(2020, 7, 1, 12, 30, tzinfo=ZoneInfo("Asia/Tokyo")),
    dt.time(1, 2), dt.time(23, 59, 59, 500_000), dt.time(1, 2, tzinfo=EAST), dt.time(1, 2, 3, 4, tzinfo=SECONDS),
    dt.time(1, 2, tzinfo=ZoneInfo("Asia/Tokyo")), dt.timedelta(0), dt.timedelta(1), dt.timedelta(1, 2),
    dt.timedelta(2, 0, 3), dt.timedelta(microseconds=-1), dt.timedelta(days=-400), dt.timedelta(hours=25, minutes=1),
    uuid.UUID(int=7), {"a": 1}, {},
    {"aa": [1, 1.0, 1e20, 1e-7, None, True], "b": "é\n\x1f\"", "": {}}, {"a": "\0"}, {"a": float("nan")}, Json(-0.0),
    Json([1]), Json("x"), Json(None), Json({"a": 1}), [], [1, 2], [1, None], [None],
    [2**40 + 7, 1], [1.5, 2.0], [1.0], ["a", None], ["5"], ["red"], ["NULL", 'q"', "", "a b", "\\", "a,b", "{"],
    [[1], [2]], [[1], [2, 3]], [1, "a"], [[], []], [1, 2.5], [True], [True, 1], [D("1.50")], [D("2.5")],
    [dt.date(2020, 1, 1)], [moment("2020-01-01 12:00")], [dt.datetime(2020, 1, 1, 12, tzinfo=EAST)],
    [moment("2020-01-01"), dt.datetime(2020, 1, 1, tzinfo=EAST)], [dt.time(1, 2)], [dt.time(1, 2, tzinfo=EAST)],
    [{"a": 1}], [Json(1)], [uuid.UUID(int=7)], [Choice.ONE], [Choice.BIG, Choice.ONE], [Choice.WORD],
    [Choice.NOTHING], [[Choice.BIG], [Choice.ONE]], [Level.HIGH, Level.LOW], [Whole(2**40), Whole(1)], [2**63],
    [b"x"], [ipaddress.ip_address("::1")], Choice.ONE, Choice.BIG, Choice.HUGE, Choice.WORD, Choice.NOTHING,
    Choice.MANY, Level.HIGH, ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("::1"),
    ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_network("10.0.0.0/8"), Range(1, 5), (1, 2), {1}, object(), 1j,
    "a\0b", "\ud800", None,
)  # fmt: skip

LIKE_TEXT = ("text", "varchar(30)", "char(30)", "name")


def first_of(value: Any) -> Any:
    """Return the first item of a list, nested or not, or the value itself."""
    return first_of(value[0]) if is_list(value) and value else value


def is_left_to_insert(value: Any, column: str) -> bool:
    """What COPY refuses though INSERT takes it: only the server knows what it would write."""
    unwritten = (ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network)
    return column in (*LIKE_TEXT, "text[]") and isinstance(first_of(value), unwritten)


def is_left_to_copy(value: Any, column: str) -> bool:
    """What COPY takes though INSERT refuses it: texts in a list, where an INSERT would have `$1::color[]`."""
    return column.endswith("[]") and is_list(value) and isinstance(first_of(value), (str, Choice))


async def outcome(connection: Connection, column: str, work: Awaitable[object]) -> str:
    """Return what a table holds after `work`; or that it was refused, by an error of ours."""
    try:
        await work
    except (DbError, psycopg.Error):
        return REFUSED
    # The json of an INSERT has been jsonb on its way: the spaces differ.
    ((found,),) = await rows(
        connection, f"SELECT v{'::jsonb' if column == 'json' else ''}::text FROM things WHERE last"
    )
    return repr(found)


@pytest.mark.parametrize("column", COLUMNS)
async def test_insert_many_does_what_insert_does(postgres_url: str, column: str) -> None:
    differing: dict[str, tuple[str, ...]] = {}
    async with connected(postgres_url, options="-c TimeZone=Europe/Paris") as (_, connection):
        await script(connection, "CREATE TYPE pg_temp.color AS ENUM ('red', '5'); SET search_path = pg_temp, public")
        await script(connection, "CREATE DOMAIN pg_temp.digits AS int8 CHECK (VALUE < 1000000)")
        await script(connection, f"CREATE TEMP TABLE things (v {column}, last bool)")
        for value in VALUES:
            found: list[str] = []
            for work in (
                query(connection, "INSERT INTO things VALUES ($1, true)", (value,)),
                insert_many(connection, ("things",), ["v", "last"], [(value, True)]),
                insert_many(connection, ("things",), ["v", "last"], [*[(None, False)] * 600, (value, True)]),
            ):
                await script(connection, "TRUNCATE things")
                found.append(await outcome(connection, column, work))
            inserted, first, later = found
            if is_left_to_insert(value, column):
                inserted = REFUSED
            if is_left_to_copy(value, column) and inserted == REFUSED:
                inserted = first
            # A later row may be too late for going by text, which is how only the server can read it.
            if inserted != first or later not in (first, REFUSED):
                differing[repr(value)] = tuple(found)
    assert not differing


GARBAGE: list[tuple[str, Any]] = [
    ("interval", 5),
    ("interval", dt.date(2020, 1, 1)),
    ("interval", [1]),
    ("interval", {"a": 1}),
    ("time", 5),
    ("time", dt.date(2020, 1, 1)),
    ("int4", uuid.UUID(int=7)),
    ("int8", True),
    ("float8", uuid.UUID(int=7)),
    ("numeric", uuid.UUID(int=7)),
    ("bytea", 5),
    ("bytea", [1]),
]


@pytest.mark.parametrize(("column", "value"), GARBAGE, ids=[f"{column} {value!r}" for column, value in GARBAGE])
async def test_a_value_of_another_type_is_named_and_nothing_is_left(postgres_url: str, column: str, value: Any) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, f"CREATE TEMP TABLE things (n int, v {column})")
        for number in (1, 700):
            data = [*((n, None) for n in range(1, number)), (number, value)]
            with pytest.raises(QueryError, match=f"row {number}, column 'v'") as caught:
                await insert_many(connection, ("things",), ["n", "v"], data)
            assert "send " in str(caught.value)
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]
