"""The portable values, as a table: what a driver has to give back equal, and what came of it in a real column.

For the tests of a driver, and for the page of the documentation that says which column keeps what.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Final
from uuid import UUID

from dbcore.connection import Connection
from dbcore.errors import DbError
from dbcore.statements.values import Json

__all__ = ["KINDS", "LARGE", "REFUSED", "WAYS", "Changed", "Fate", "Kept", "Kind", "Refused", "is_same", "tried"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One portable type: what `into` names, and values of it by what is special about them."""

    into: Any
    values: Mapping[str, Any]


class Colour(Enum):
    """An enum of texts."""

    RED = "red"
    NO_WORD = ""


class Level(Enum):
    """An enum of whole numbers."""

    LOW = 0
    HIGH = 2**40


class Priority(IntEnum):
    """An enum whose members are ints."""

    LOW = -1
    HIGH = 3


class Mood(StrEnum):
    """An enum whose members are texts."""

    GLAD = "glad"


EAST: Final = timezone(timedelta(hours=5, minutes=45))
WEST: Final = timezone(timedelta(hours=-9, minutes=-30))
MEGABYTES: Final = 5 * 2**20

KINDS: Final[Mapping[str, Kind]] = {
    "bool": Kind(bool, {"true": True, "false": False}),
    "int": Kind(
        int,
        {
            "plain": 42,
            "zero": 0,
            "-1": -1,
            "16 bits": 2**15,
            "highest of 32 bits": 2**31 - 1,
            "lowest of 32 bits": -(2**31),
            "one more than 32 bits": 2**31,
            "beyond 53 bits": 2**53 + 1,
            "highest of 64 bits": 2**63 - 1,
            "lowest of 64 bits": -(2**63),
        },
    ),
    "float": Kind(
        float,
        {
            "a fraction": 0.1,
            "zero": 0.0,
            "a whole number": 3.0,
            "17 digits": 0.30000000000000004,
            "largest": 1.7976931348623157e308,
            "smallest": 5e-324,
            "negative": -1.5,
            "infinity": math.inf,
            "-infinity": -math.inf,
            "NaN": math.nan,
        },
    ),
    "str": Kind(
        str,
        {
            "plain": "plain",
            "empty": "",
            "quotes": "it's \"quoted\" `so` \\ and \\' $1 :name %s ? --",
            "white space": " \t\r\n\v\f\b ",
            "marks of COPY": "\\N",
            "end of COPY": "\\.",
            "word for nothing": "NULL",
            "digits": "007",
            "number with exponent": "1e5",
            "all scripts": "Köln, Ωmega, 東京, हिन्दी, مرحبا, e\u0301, 👩\u200d🚀, \ufeff\uffff\U0010ffff",
            "JSON": '{"a": [1]}',
            "NUL": "a\0b",
        },
    ),
    "bytes": Kind(
        bytes,
        {
            "empty": b"",
            "NUL": b"a\0b",
            "every byte": bytes(range(256)),
            "no UTF-8": b"\xff\xfe",
            "escapes": b"\\x41\\000\\",
        },
    ),
    "datetime, aware": Kind(
        datetime,
        {
            "UTC": datetime(2024, 5, 1, 10, 30, 15, tzinfo=UTC),
            "microseconds": datetime(2024, 5, 1, 10, 30, 15, 1, tzinfo=UTC),
            "east": datetime(2024, 2, 29, 0, 0, tzinfo=EAST),
            "west": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=WEST),
            "year 1": datetime(1, 1, 2, tzinfo=UTC),
            "year 9999": datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
        },
    ),
    "datetime, naive": Kind(
        datetime,
        {
            "plain": datetime(2024, 5, 1, 10, 30, 15),  # noqa: DTZ001  # these are the naive ones
            "microseconds": datetime(2024, 5, 1, 10, 30, 15, 1),  # noqa: DTZ001
            "no such hour in Berlin": datetime(2024, 3, 31, 2, 30),  # noqa: DTZ001
            "first": datetime.min,  # noqa: DTZ901  # as above
            "last": datetime.max,  # noqa: DTZ901
        },
    ),
    "date": Kind(date, {"leap day": date(2024, 2, 29), "first": date.min, "last": date.max}),
    "time": Kind(
        time, {"plain": time(10, 30, 15), "midnight": time.min, "last": time.max, "microseconds": time(0, 0, 0, 1)}
    ),
    "timedelta": Kind(
        timedelta,
        {
            "years": timedelta(days=400, seconds=5, microseconds=7),
            "nothing": timedelta(0),
            "microsecond": timedelta(microseconds=1),
            "negative": timedelta(days=-1, microseconds=3),
            "longest": timedelta.max,
            "longest negative": timedelta.min,
        },
    ),
    "Decimal": Kind(
        Decimal,
        {
            "money": Decimal("1.10"),
            "zero": Decimal(0),
            "19 digits": Decimal("12345678901234567.89"),
            "100 digits": Decimal("1234567890" * 5 + "." + "0987654321" * 4 + "0123456789"),
            "large exponent": Decimal("1E+100"),
            "small exponent": Decimal("-1E-100"),
            "infinity": Decimal("Infinity"),
            "-infinity": Decimal("-Infinity"),
            "NaN": Decimal("NaN"),
        },
    ),
    "UUID": Kind(
        UUID, {"digits": UUID("12345678-1234-4678-9234-567812345678"), "nil": UUID(int=0), "max": UUID(int=2**128 - 1)}
    ),
    "dict": Kind(
        dict[str, Any],
        {
            "nested": {"a": [1, None, "x", {"b": [True, 1.5]}], "": {}},
            "empty": {},
            "all scripts": {"schlüssel 東京 \\ \" '": "Köln \u2028 👩\u200d🚀 \\N \t\r\n"},
            "64 bits": {"high": 2**63 - 1, "low": -(2**63)},
            "order of keys": {"b": 1, "a": 2},
            "NUL": {"a": "\0"},
        },
    ),
    "db.Json": Kind(
        Json,
        {
            "list": Json([1, "two", None, []]),
            "text": Json("text"),
            "empty text": Json(""),
            "text of digits": Json("12"),
            "text that is JSON": Json('{"a": "[1]"}'),
            "text null": Json("null"),
            "int": Json(12),
            "float": Json(0.1),
            "bool": Json(value=True),
            "null": Json(None),
        },
    ),
    "list of int": Kind(list[int], {"some": [3, 1, 2], "wide": [1, 2**63 - 1, -(2**63)], "empty": []}),
    "list of str": Kind(
        list[str], {"some": ["a", "", "NULL", 'a "b" {c}, \\d'], "all scripts": ["Köln", "東京"], "empty": []}
    ),
    "list with None": Kind(list[int | None], {"some": [1, None, 3]}),
    "list of lists": Kind(list[list[int]], {"some": [[1, 2], [3, 4]]}),
    "Enum of str": Kind(Colour, {"member": Colour.RED, "empty": Colour.NO_WORD}),
    "Enum of int": Kind(Level, {"member": Level.LOW, "wide": Level.HIGH}),
    "IntEnum": Kind(Priority, {"member": Priority.HIGH, "negative": Priority.LOW}),
    "StrEnum": Kind(Mood, {"member": Mood.GLAD}),
}
"""The portable types by name. Every one of their values comes back equal from the right column of any database, but
for the few that a database cannot hold, and says so. `None` goes with all of them."""

LARGE: Final[Mapping[str, Kind]] = {
    "str": Kind(str, {"5 MB": "ä" * (MEGABYTES // 2)}),
    "bytes": Kind(bytes, {"5 MB": bytes(range(256)) * (MEGABYTES // 256)}),
    "dict": Kind(dict[str, Any], {"5 MB": {"a": ["ä" * 1000] * (MEGABYTES // 2000)}}),
}
"""The same for values that take their time: one column of each kind will do."""

REFUSED: Final[Mapping[str, tuple[str, Any]]] = {
    "lone surrogate": ("str", "a\ud800b"),
    "lone surrogate in a dict": ("dict", {"a": "\ud800"}),
    "lone surrogate in a list": ("list of str", ["\udfff"]),
    "64 bits and one more": ("int", 2**63),
    "64 bits and one less": ("int", -(2**63) - 1),
    "no portable type": ("str", object()),
    "no portable type in a dict": ("dict", {"a": object()}),
}
"""What every driver refuses with a `QueryError`, before anything is stored; with the kind whose column it is for."""


@dataclass(frozen=True, slots=True)
class Kept:
    """It came back equal; `raw` is what came without `into`."""

    raw: Any


@dataclass(frozen=True, slots=True)
class Changed:
    """Something else came back, or nothing that is of the type."""

    raw: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not stored, and an error said so."""

    error: DbError


Fate = Kept | Changed | Refused

Write = Callable[[Connection[Any], str, Sequence[tuple[int, Any]]], Awaitable[object]]


async def _by_parameter(connection: Connection[Any], table: str, rows: Sequence[tuple[int, Any]]) -> None:
    for row in rows:
        await connection.execute(_insert(table), row)


async def _by_name(connection: Connection[Any], table: str, rows: Sequence[tuple[int, Any]]) -> None:
    sql = f"INSERT INTO {table} (v, id) VALUES (:value, :id)"  # noqa: S608  # the name is ours
    for number, value in rows:
        await connection.execute(sql, {"id": number, "value": value})


async def _by_execute_many(connection: Connection[Any], table: str, rows: Sequence[tuple[int, Any]]) -> None:
    await connection.execute_many(_insert(table), rows)


async def _by_batch(connection: Connection[Any], table: str, rows: Sequence[tuple[int, Any]]) -> None:
    await connection.batch([(_insert(table), row) for row in rows])


async def _by_insert_many(connection: Connection[Any], table: str, rows: Sequence[tuple[int, Any]]) -> None:
    await connection.insert_many(table, ["id", "v"], rows)


async def _by_async_insert_many(connection: Connection[Any], table: str, rows: Sequence[tuple[int, Any]]) -> None:
    async def source() -> AsyncIterator[tuple[int, Any]]:
        for row in rows:
            yield row

    await connection.insert_many(table, ["id", "v"], source())


def _insert(table: str) -> str:
    return f"INSERT INTO {table} (id, v) VALUES ($1, $2)"  # noqa: S608  # the name is ours


WAYS: Final[Mapping[str, Write]] = {
    "parameter": _by_parameter,
    "name": _by_name,
    "execute_many": _by_execute_many,
    "batch": _by_batch,
    "insert_many": _by_insert_many,
    "insert_many, async": _by_async_insert_many,
}
"""How rows `(id, v)` get into a table."""


def is_same(given: Any, found: Any) -> bool:
    """Equal and of one type; NaN is the same as NaN."""
    if isinstance(given, float | Decimal) and given != given:
        return isinstance(found, type(given)) and found != found
    return type(given) is type(found) and given == found


async def tried(
    connection: Connection[Any], column: str, kind: Kind, ways: Iterable[str] = ("parameter",)
) -> dict[str, dict[str, Fate]]:
    """Write each value of a kind into a column of a type, in each of the `ways`, and read it back in all ways.

    Returns what became of each value, by its name and the way it was written. Values that are kept by themselves are
    written once more all together, with NULLs in between, for that is how rows come: what is different then raises
    `AssertionError`, and so does a row that reads otherwise by `stream` than by `fetch_all`. Makes and drops a table.
    """
    fates: dict[str, dict[str, Fate]] = {}
    # A name of its own: a statement that the connection has prepared for a column of another type must not be met.
    table = "v_" + re.sub(r"\W", lambda found: f"_{ord(found[0])}_", column)
    await connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v {column})")
    try:
        for way in ways:
            write = WAYS[way]
            kept: list[str] = []
            for name, value in kind.values.items():
                fate = await _alone(connection, table, write, kind, value)
                fates.setdefault(name, {})[way] = fate
                if isinstance(fate, Kept):
                    kept.append(name)
            await _together(connection, table, write, kind, kept)
    finally:
        await connection.execute(f"DROP TABLE {table}")
    return fates


async def _alone(connection: Connection[Any], table: str, write: Write, kind: Kind, value: Any) -> Fate:
    try:
        await write(connection, table, [(1, value)])
    except DbError as error:
        return Refused(error)
    sql = f"SELECT v FROM {table}"  # noqa: S608  # the name is ours
    raw = await connection.fetch_value(sql)
    try:
        found = await connection.fetch_value(sql, into=kind.into)
    except DbError:
        return Changed(raw)
    finally:
        await connection.execute(f"DELETE FROM {table}")  # noqa: S608  # as above
    return Kept(raw) if is_same(value, found) else Changed(raw)


async def _together(connection: Connection[Any], table: str, write: Write, kind: Kind, names: Sequence[str]) -> None:
    values: list[Any] = [None]
    for name in names:
        values += (kind.values[name], None)
    await write(connection, table, list(enumerate(values)))
    sql = f"SELECT v FROM {table} ORDER BY id"  # noqa: S608  # the name is ours
    raw = [row.v for row in await connection.fetch_all(sql)]
    if [value is None for value in raw[::2]] != [True] * len(raw[::2]):
        raise AssertionError(f"None came back as {[value for value in raw[::2] if value is not None]!r:.200}")
    present = f"SELECT v FROM {table} WHERE v IS NOT NULL ORDER BY id"  # noqa: S608  # as above
    fetched = await connection.fetch_all(present, into=kind.into)
    async with connection.stream(present, into=kind.into, batch_size=2) as rows:
        streamed = [row async for row in rows]
    for how, found in (("fetch_all", fetched), ("stream", streamed)):
        if len(found) != len(names):
            raise AssertionError(f"{how}: {len(found)} values came back, written were {len(names)}")
        for name, value in zip(names, found, strict=True):
            if not is_same(kind.values[name], value):
                raise AssertionError(f"{how}: {name!r} came back as {value!r:.200} beside others, and equal alone")
    await connection.execute(f"DELETE FROM {table}")  # noqa: S608  # as above
