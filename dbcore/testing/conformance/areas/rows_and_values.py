"""Rows and values: names of columns, and the portable values, which come back equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbcore.errors import DecodeError, QueryError
from dbcore.testing.conformance.checks import check, raises, same
from dbcore.testing.conformance.columns import column_for
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject
from dbcore.testing.values import KINDS, LARGE, REFUSED, WAYS, Changed, Fate, Refused


@dataclass
class Person:
    """What rows become by `into`."""

    id: int
    name: str


@promise()
async def a_row_has_the_names_of_its_columns(subject: Subject) -> None:
    """The columns of a row have the names that the query gives them, in its order."""
    async with subject.items() as items:
        await items.database.execute(items.insert, [1, "ada"])
        row = await items.database.fetch_one(f"SELECT name AS called, id AS number, name FROM {items.table}")
        same(row.as_dict(), {"called": "ada", "number": 1, "name": "ada"}, "a row as a dict")
        same(tuple(row), ("ada", 1, "ada"), "a row as a tuple")
        empty = await items.database.batch([(f"SELECT id, name FROM {items.table} WHERE id = $1", [9])])
        same((empty[0].columns, len(empty[0].rows)), (("id", "name"), 0), "columns and rows of an empty result")


@promise()
async def two_columns_of_one_name_are_both_there(subject: Subject) -> None:
    """A query may give two columns one name, and both values come."""
    async with subject.items() as items:
        await items.database.execute(items.insert, [1, "ada"])
        row = await items.database.fetch_one(f"SELECT id AS x, id + 1 AS x FROM {items.table}")
        same(tuple(row), (1, 2), "a row with two columns called x")


@promise()
async def into_makes_rows_of_a_type(subject: Subject) -> None:
    """`into` makes each row a value of a type, by the names of the columns; what does not fit is a `DecodeError`."""
    async with subject.items() as items, items.database.connection() as connection:
        await connection.execute(items.insert, [1, "ada"])
        found = await connection.fetch_all(f"SELECT name, id FROM {items.table}", into=Person)
        same(found, [Person(1, "ada")], "rows as a dataclass")
        with raises(DecodeError, "a text read as a number") as caught:
            await connection.fetch_value(f"SELECT name FROM {items.table}", into=int)
        check("ada" not in str(caught.error), "a DecodeError shows no value, and this one does")
        same(await connection.fetch_value(items.count), 1, "a statement after that")


@promise()
async def every_portable_value_comes_back_equal(subject: Subject) -> None:
    """A value of each portable type, written in each way there is, comes back equal from the column for its type."""
    wrong: list[str] = []
    async with subject.open() as database, database.connection() as connection:
        for name, kind in KINDS.items():
            found = await column_for(subject, connection, name, kind, WAYS)
            for value in kind.values:
                key, lost = f"{name}: {value}", found.lost.get(value)
                if lost and key not in subject.cannot:
                    wrong.append(f"{key!r} in a column {found.column}: {_told(lost)}")
                elif not lost and key in subject.cannot:
                    wrong.append(f"{key!r} is kept, though it was declared that it cannot be")
    check(not wrong, f"every portable value comes back equal, but {len(wrong)} did not: {'; '.join(wrong)}")


def _told(lost: Mapping[str, Fate]) -> str:
    """What became of one value, and in which ways it was written where others kept it."""
    found: dict[str, tuple[str, list[str]]] = {}
    for way, fate in lost.items():
        found.setdefault(type(fate).__name__, (_word(fate), []))[1].append(way)
    everywhere = len(WAYS)
    return ", ".join(
        word if len(ways) == everywhere else f"{word} by {', '.join(ways)}" for word, ways in found.values()
    )


def _word(fate: Fate) -> str:
    match fate:
        case Changed(raw):
            return f"changed to {raw!r:.60}"
        case Refused(error):
            return f"refused ({str(error)[:100]})"
        case _:
            return "kept"


@promise()
async def a_null_can_stand_anywhere_in_the_rows(subject: Subject) -> None:
    """`None` is NULL in any row, the first one too, in whatever way the rows go."""
    rows = [(1, None), (2, 2), (3, None)]
    async with subject.open() as database, database.connection() as connection:
        for way, write in WAYS.items():
            async with subject.table(database, "id INTEGER, v INTEGER") as table:
                await write(connection, table, rows)
                found = await connection.fetch_all(f"SELECT id, v FROM {table} ORDER BY id")
                same([tuple(row) for row in found], rows, f"rows with NULLs by {way}")


@promise()
async def five_megabytes_come_back_equal(subject: Subject) -> None:
    """A text, bytes and a JSON document of five megabytes come back equal, in whatever way they go."""
    async with subject.open() as database, database.connection() as connection:
        for name, kind in LARGE.items():
            found = await column_for(subject, connection, name, kind, WAYS)
            told = "; ".join(map(_told, found.lost.values()))
            check(not told, f"5 MB of {name} in a column {found.column} come back equal, but: {told}")


@promise()
async def what_no_database_can_keep_is_refused_and_nothing_is_stored(subject: Subject) -> None:
    """A lone surrogate, an int beyond 64 bits or an object of no portable type is a `QueryError`, in whatever way."""
    async with subject.open() as database, database.connection() as connection:
        for name, (kind, value) in REFUSED.items():
            column = (await column_for(subject, connection, kind, KINDS[kind])).column
            async with subject.table(database, f"id INTEGER PRIMARY KEY, v {column}") as table:
                for way, write in WAYS.items():
                    with raises(QueryError, f"{name} by {way}") as caught:
                        await write(connection, table, [(1, value)])
                    check(str(caught.error).isprintable(), f"the text of the error can be printed ({name} by {way})")
                    check(not connection.in_transaction, f"no transaction is open after {name} by {way}, and one was")
                stored = await connection.fetch_value(f"SELECT count(*) FROM {table}", into=int)
                same(stored, 0, f"rows that were stored of {name}")
