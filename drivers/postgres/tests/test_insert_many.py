"""insert_many."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import AsyncGenerator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from dbcore_postgres.copying import insert_many
from dbcore_postgres.statements import script
from dbcore_postgres.transactions import commit, rollback
from postgres_connections import Proxy, connected, failure, rows, start

from dbcore.errors import ConstraintError, QueryError
from dbcore.statements.values import Json

NOW = dt.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=dt.UTC)
WALL = NOW.replace(tzinfo=None)
LONG = Decimal("12345678901234567.89")


class Colour(enum.Enum):
    RED = "red"


class Shade(enum.Enum):
    DEEP = 7
    BEYOND = 2**63


COLUMNS: list[tuple[str, list[Any], list[Any] | None]] = [
    ("bool", [True, False, None], None),
    ("int2", [-32768, 32767, None], None),
    ("int4", [-(2**31), 2**31 - 1, None], None),
    ("int8", [-(2**63), 2**63 - 1, None], None),
    ("float8", [1.5, 2, float("inf"), Decimal("2.5"), None], [1.5, 2.0, float("inf"), 2.5, None]),
    ("numeric", [LONG, 3, 1.1, None], [LONG, Decimal(3), Decimal("1.1"), None]),
    ("text", ["a\tb\\n\n", "", "x" * 300_000, Colour.RED, 5, None], ["a\tb\\n\n", "", "x" * 300_000, "red", "5", None]),
    ("bytea", [b"\x00\xff", b"", None], None),
    ("uuid", [uuid.UUID(int=1), str(uuid.UUID(int=2))], [uuid.UUID(int=1), uuid.UUID(int=2)]),
    ("date", [dt.date(1, 1, 1), dt.date(9999, 12, 31), None], None),
    ("time", [dt.time(1, 2, 3, 4)], None),
    ("timestamp", [WALL, NOW, WALL.date()], [WALL, WALL, WALL.replace(hour=0, minute=0, second=0, microsecond=0)]),
    ("timestamptz", [NOW, WALL], [NOW, NOW]),
    ("interval", [dt.timedelta(days=-1, microseconds=3)], None),
    ("jsonb", [{"a": [1, None]}, Json("x"), '{"a": 1}', None], [{"a": [1, None]}, "x", {"a": 1}, None]),
    ("json", [{"a": [1, None]}, None], None),
    ("int4[]", [[1, 2], [], None], None),
    ("text[]", [["a\tb", None]], None),
    ("inet", ["10.0.0.1/32", None], None),
]  # fmt: skip


@pytest.mark.parametrize("begin", [0, 600], ids=["first rows", "later rows"])
@pytest.mark.parametrize(("kind", "sent", "found"), COLUMNS, ids=[kind for kind, *_ in COLUMNS])
async def test_values_arrive_as_they_would_by_a_parameter(
    postgres_url: str, kind: str, sent: list[Any], found: list[Any] | None, begin: int
) -> None:
    async with connected(postgres_url, options="-c TimeZone=UTC") as (_, connection):
        await script(connection, f"CREATE TEMP TABLE things (n int, v {kind})")
        data = [(n, sent[0]) for n in range(begin)] + [(begin + n, value) for n, value in enumerate(sent)]
        assert await insert_many(connection, ("things",), ["n", "v"], data) == len(data)
        got = [value for _, value in await rows(connection, "SELECT * FROM things WHERE n >= $1 ORDER BY n", begin)]
        assert [str(value) if kind == "inet" and value else value for value in got] == (found or sent) or kind == "inet"


async def test_rows_come_from_anything_that_has_them(postgres_url: str) -> None:
    def generator() -> Iterator[list[int]]:
        yield from ([n] for n in range(1200))

    async def slowly() -> AsyncGenerator[tuple[int], None]:
        for n in range(1200):
            yield (n,)

    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n int)")
        for source in (generator(), slowly(), [(n,) for n in range(1200)]):
            assert await insert_many(connection, ("things",), ["n"], source) == 1200
        assert await insert_many(connection, ("things",), ["n"], []) == 0
        assert await rows(connection, "SELECT count(*), count(DISTINCT n) FROM things") == [(3600, 1200)]


@pytest.mark.parametrize("good", [0, 1700])
async def test_what_the_rows_raise_goes_through_and_leaves_nothing(postgres_url: str, good: int) -> None:
    def source() -> Iterator[tuple[int]]:
        for n in range(good):
            yield (n,)
        raise LookupError("the rows have ended badly")

    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n int)")
        with pytest.raises(LookupError, match="badly"):
            await insert_many(connection, ("things",), ["n"], source())
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ((1, 2), "2 values for 1 columns"),
        ((), "0 values"),
        (("x",), "column 'n': this str does not fit int4"),
        ((float("nan"),), "this float does not fit int4"),
        ((2**31,), "this int does not fit int4"),
        ((-(2**31) - 1,), "this int does not fit int4"),
        ((5e9,), "this float does not fit int4"),
    ],
)
async def test_a_row_that_does_not_fit_is_named_and_nothing_is_left(postgres_url: str, bad: Any, words: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n int)")
        data = [(n,) for n in range(1300)] + [bad]
        error = await failure(insert_many(connection, ("things",), ["n"], data))
        assert type(error) is QueryError
        assert "row 1301" in str(error)
        assert words in str(error)
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ((1, 2), "column 'v' (a tuple): a tuple has no form of its own in Postgres; use a list"),
        ({1, 2}, "column 'v' (a set) cannot be sent: there is no Postgres type for it"),
        ("a\0b", "column 'v' (a str) cannot be sent: it holds a NUL"),
    ],
)
async def test_a_value_that_has_no_form_is_named_too(postgres_url: str, bad: object, words: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n int, v inet)")  # a type that goes as text
        for number in (1, 3, 700):
            data = [(n, "10.0.0.1") for n in range(1, number)] + [(number, bad)]
            error = await failure(insert_many(connection, ("things",), ["n", "v"], data))
            assert type(error) is QueryError
            assert f"nothing was inserted: row {number}, " in str(error)
            assert words in str(error)
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]


@pytest.mark.parametrize("kind", ["json", "jsonb"])
@pytest.mark.parametrize("bad", [[], [1], 1, 1.5, True, b"1", Shade.DEEP], ids=repr)
async def test_what_is_no_json_by_a_parameter_is_none_here(postgres_url: str, kind: str, bad: object) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, f"CREATE TEMP TABLE things (n int, v {kind})")
        for number in (1, 700):
            data = [*((n, Json({})) for n in range(1, number)), (number, bad)]
            error = await failure(insert_many(connection, ("things",), ["n", "v"], data))
            assert type(error) is QueryError
            assert f"nothing was inserted: row {number}, column 'v' (a {type(bad).__name__})" in str(error)
            assert "db.Json(" in str(error)
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]


@pytest.mark.parametrize("kind", ["text", "varchar(30)", "numeric", "float8", "float4", "name"])
@pytest.mark.parametrize("bad", [2**63, -(2**63) - 1, Shade.BEYOND], ids=["high", "low", "enum"])
async def test_an_int_beyond_64_bits_is_refused_whatever_the_column(postgres_url: str, kind: str, bad: object) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, f"CREATE TEMP TABLE things (n int, v {kind})")
        for number in (1, 700):
            data = [*((n, 2**31) for n in range(1, number)), (number, bad)]
            error = await failure(insert_many(connection, ("things",), ["n", "v"], data))
            assert type(error) is QueryError
            assert f"nothing was inserted: row {number}, column 'v'" in str(error)
            assert "64 bits" in str(error)
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]


async def test_a_large_number_goes_as_a_decimal(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (v numeric, w text)")
        assert await insert_many(connection, ("things",), ["v", "w"], [(Decimal(2**63), str(2**63))]) == 1
        assert await rows(connection, "SELECT * FROM things") == [(Decimal(2**63), str(2**63))]


async def test_two_is_not_true(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n bool)")
        await failure(insert_many(connection, ("things",), ["n"], [(2,)]))
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]


async def test_a_constraint_refuses_all_of_it(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n int CONSTRAINT once UNIQUE)")
        error = await failure(insert_many(connection, ("things",), ["n"], [(n % 1999,) for n in range(2000)]))
        assert isinstance(error, ConstraintError)
        assert error.constraint == "once"
        assert str(error).startswith("row 2000: unique violation")
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]


@pytest.mark.parametrize(("table", "column"), [(("nowhere",), "n"), (("things",), "m")])
async def test_a_table_or_column_that_is_not_there_is_an_error(
    postgres_url: str, table: tuple[str], column: str
) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n int)")
        assert isinstance(await failure(insert_many(connection, table, [column], [(1,)])), QueryError)
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_names_are_quoted_and_may_have_a_schema(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, 'CREATE TEMP TABLE "a ""table""; --" ("the n" int)')
        assert await insert_many(connection, ("pg_temp", 'a "table"; --'), ["the n"], [(1,)]) == 1


async def test_it_takes_part_in_a_transaction_and_takes_its_begin_along(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (n int)")
        for ending, count in ((rollback, 0), (commit, 2)):
            before = proxy.trips
            await start(connection)
            assert await insert_many(connection, ("things",), ["n"], [(1,), (2,)]) == 2
            assert proxy.trips == before + 3  # the types, COPY, and its data
            await ending(connection)
            assert await rows(connection, "SELECT count(*) FROM things") == [(count,)]


async def test_a_table_that_was_changed_is_filled_by_its_new_types(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for kind, value in (("int8", 2**62), ("float8", 0.5), ("text", "x")):
            await script(connection, f"DROP TABLE IF EXISTS things; CREATE TEMP TABLE things (n {kind})")
            await insert_many(connection, ("things",), ["n"], [(value,)])
            assert await rows(connection, "SELECT n FROM things") == [(value,)]


async def test_text_goes_into_a_column_of_fixed_length(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE marks (c char(3), n int)")
        assert await insert_many(connection, ("marks",), ["c", "n"], [("ab", 1), (None, 2)]) == 2
        assert await rows(connection, "SELECT c, n FROM marks") == [("ab ", 1), (None, 2)]


@pytest.mark.parametrize("zone", ["+05", "UTC+3", "EST5EDT4,M3.2.0,M11.1.0"])
async def test_a_time_zone_that_python_does_not_know_moves_nothing(postgres_url: str, zone: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, f"CREATE TEMP TABLE things (n timestamp); SET TIME ZONE '{zone}'")
        error = await failure(insert_many(connection, ("things",), ["n"], [(NOW,)]))
        assert "TimeZone is none that Python knows" in str(error)
        assert await insert_many(connection, ("things",), ["n"], [(WALL,)]) == 1
