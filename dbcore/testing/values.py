"""What becomes of the portable values in a real column: written in all ways, and read back in all ways.

For the tests of a driver, and for the page of the documentation that says which column keeps what. The values
themselves are those of `dbcore.testing.kinds`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from dbcore.connection import Connection
from dbcore.errors import DbError, UnsupportedError
from dbcore.testing.kinds import KINDS, LARGE, REFUSED, Kind

__all__ = ["KINDS", "LARGE", "REFUSED", "WAYS", "Changed", "Fate", "Kept", "Kind", "Refused", "is_same", "tried"]


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
    connection: Connection[Any],
    column: str,
    kind: Kind,
    ways: Iterable[str] = ("parameter",),
    *,
    table: str | None = None,
) -> dict[str, dict[str, Fate]]:
    """Write each value of a kind into a column of a type, in each of the `ways`, and read it back in all ways.

    Returns what became of each value, by its name and the way it was written. Values that are kept by themselves are
    written once more all together, with NULLs in between, for that is how rows come: what is different then raises
    `AssertionError`, and so does a row that reads otherwise by `stream`, where there is one, than by `fetch_all`. Makes
    and drops a table, by the name of `table` if there is one.
    """
    fates: dict[str, dict[str, Fate]] = {}
    # A name of its own: a statement that the connection has prepared for a column of another type must not be met.
    table = table or "v_" + re.sub(r"\W", lambda found: f"_{ord(found[0])}_", column)
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
    read = {"fetch_all": await connection.fetch_all(present, into=kind.into)}
    with contextlib.suppress(UnsupportedError):
        async with connection.stream(present, into=kind.into, batch_size=2) as rows:
            read["stream"] = [row async for row in rows]
    for how, found in read.items():
        if len(found) != len(names):
            raise AssertionError(f"{how}: {len(found)} values came back, written were {len(names)}")
        for name, value in zip(names, found, strict=True):
            if not is_same(kind.values[name], value):
                raise AssertionError(f"{how}: {name!r} came back as {value!r:.200} beside others, and equal alone")
    await connection.execute(f"DELETE FROM {table}")  # noqa: S608  # as above
