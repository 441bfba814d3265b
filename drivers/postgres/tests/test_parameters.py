"""Parameters: what fits where, and what is refused."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any

import pytest
from dbcore_postgres.copying import insert_many
from dbcore_postgres.statements import batch, execute_many, query, script
from dbcore_postgres.streaming import stream
from postgres_connections import Proxy, connected, failure, rows
from psycopg.types.numeric import Int4

from dbcore.errors import QueryError
from dbcore.statements.values import Json

FITTING: list[tuple[str, tuple[Any, ...], Any]] = [
    ("SELECT count(*) FROM (SELECT 1 LIMIT $1) AS x", (1,), 1),
    ("SELECT substr('abc', $1)", (2,), "bc"),
    ("SELECT ('2020-01-30'::date + $1)::text", (2,), "2020-02-01"),
    ("SELECT 3 = ANY($1)", ([1, 2, 3],), True),
    ("SELECT $1::numeric", (5,), Decimal(5)),
    ("SELECT ($1::jsonb)->>'a'", ({"a": "b"},), "b"),
    ("SELECT $1::json", (Json([1, None]),), [1, None]),
    ("SELECT $1::jsonb", ('{"a": 1}',), {"a": 1}),
    ("SELECT $1::text[]", ([],), []),
    ("SELECT $1::jsonb[]", ([],), []),
    ("SELECT coalesce($1, array[1::int8])", ([],), []),
    ("SELECT 3 = ANY($1)", ([],), False),
]


@pytest.mark.parametrize(("sql", "params", "value"), FITTING)
async def test_values_fit_where_they_are_wanted(
    postgres_url: str, sql: str, params: tuple[Any, ...], value: Any
) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(3):
            assert await rows(connection, sql, *params) == [(value,)]


class Colour(enum.Enum):
    RED = "red"
    DEEP = 2**40
    ONE = 1
    NOTHING = None


class Level(enum.IntEnum):
    HIGH = 7


async def test_an_enum_goes_as_its_value(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        sent = (Colour.RED, Colour.DEEP, Level.HIGH, [Colour.RED])
        assert await rows(connection, "SELECT $1::text, $2::int8, $3::int, $4::text[]", *sent) == [
            ("red", 2**40, 7, ["red"])
        ]


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2**40 + 7


class Whole(int):
    pass


WIDE: list[tuple[list[Any], list[Any]]] = [
    ([Size.LARGE, Size.SMALL], [2**40 + 7, 1]),
    ([Colour.DEEP, Colour.ONE], [2**40, 1]),
    ([[Colour.DEEP], [Colour.ONE]], [[2**40], [1]]),
    ([Whole(2**31), Whole(1)], [2**31, 1]),
    ([Int4(2**40), Int4(1)], [2**40, 1]),
    ([Size.LARGE, 1, None], [2**40 + 7, 1, None]),
]


@pytest.mark.parametrize(("sent", "found"), WIDE, ids=repr)
async def test_ints_in_a_list_are_never_cut_whatever_their_class(
    postgres_url: str, sent: list[Any], found: list[Any]
) -> None:
    async with connected(postgres_url) as (_, connection):
        assert await rows(connection, "SELECT $1", sent) == [(found,)]
        await script(connection, "CREATE TEMP TABLE things (v int8[])")
        await query(connection, "INSERT INTO things VALUES ($1)", (sent,))
        await insert_many(connection, ("things",), ["v"], [(sent,)])
        assert await rows(connection, "SELECT v FROM things") == [(found,)] * 2


async def test_any_finds_what_an_enum_stands_for(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        sql = "SELECT n FROM (VALUES (7), (1), (2::int8^40 + 7)) AS x (n) WHERE n = ANY($1) ORDER BY n"
        assert await rows(connection, sql, [Size.LARGE, Size.SMALL]) == [(1,), (2**40 + 7,)]


async def test_times_with_and_without_a_zone_do_not_go_in_one_list(postgres_url: str) -> None:
    zoned, plain = dt.time(1, tzinfo=dt.UTC), dt.time(1)
    async with connected(postgres_url) as (_, connection):
        for mixed in ([zoned, plain], [plain, zoned], [[zoned], [plain]]):
            assert type(await failure(query(connection, "SELECT $1", (mixed,)))) is QueryError


def nested(depth: int) -> list[Any]:
    """A list in a list in a list ..."""
    found: list[Any] = [1]
    for _ in range(depth - 1):
        found = [found]
    return found


FORMLESS: list[tuple[object, str]] = [
    ("\ud800", "(a str) cannot be sent: it holds a lone surrogate"),
    ("a\0b", "(a str) cannot be sent: it holds a NUL"),
    (2**63, "(a int) cannot be sent: it is too large for its type"),
    (object(), "(a object) cannot be sent: there is no Postgres type for it"),
    ({1, 2}, "(a set) cannot be sent: there is no Postgres type for it"),
    ((1, 2), "(a tuple): a tuple has no form of its own in Postgres; use a list for an array"),
    ([(1, 2)], "(a list): a tuple has no form"),
    ([1, "a"], "(a list) cannot be sent"),
    ({"a": object()}, "(a dict): a parameter has no JSON form"),
    (Colour.NOTHING, "(a Colour): a member of an enum whose value is None stands for nothing that could be sent"),
    ([Colour.NOTHING], "(a list): a member of an enum"),
    (nested(7), "(a list): a list has more than 6 dimensions"),
    (nested(20_000), "(a list): a list has more than 6 dimensions"),
    (Json(nested(20_000)), "(a Json): a parameter has no JSON form"),
    ({"a": nested(20_000)}, "(a dict): a parameter has no JSON form"),
]


@pytest.mark.parametrize(("value", "words"), FORMLESS)
async def test_a_value_that_has_no_form_is_refused_by_its_number(postgres_url: str, value: object, words: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (hooks, connection):
        before = proxy.trips
        sql = "SELECT $1::int, $2"
        for work, where in (
            (query(connection, sql, (1, value)), "parameter 2 "),
            (batch(connection, [("SELECT 1", ()), (sql, (1, value))]), "parameter 2 "),
            (execute_many(connection, sql, [(1, "a"), (2, value)]), "row 2: parameter 2 "),
            (anext(stream(connection, sql, (1, value), 10)), "parameter 2 "),
        ):
            error = await failure(work)
            assert type(error) is QueryError
            assert str(error).startswith(where + words)
        assert hooks.is_clean(connection)
        assert proxy.trips == before


async def test_a_text_with_half_a_character_is_refused(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        assert type(await failure(query(connection, "SELECT '\ud800'", ()))) is QueryError
        assert hooks.is_clean(connection)


@pytest.mark.parametrize("kind", ["json", "jsonb"])
@pytest.mark.parametrize("value", [[], [1], ["a"], [[]]], ids=repr)
async def test_a_list_is_an_array_and_no_json_and_the_error_has_the_cure(
    postgres_url: str, kind: str, value: list[Any]
) -> None:
    async with connected(postgres_url) as (_, connection):
        await rows(connection, f"CREATE TEMP TABLE things (v {kind})")
        sql = "INSERT INTO things VALUES ($1)"
        for work in (
            query(connection, sql, (value,)),
            batch(connection, [(sql, (value,))]),
            execute_many(connection, sql, [(Json([]),), (value,)]),
            anext(stream(connection, sql, (value,), 10)),
        ):
            error = await failure(work)
            assert type(error) is QueryError
            assert "db.Json(" in str(error)
        assert await rows(connection, "SELECT count(*) FROM things") == [(0,)]
