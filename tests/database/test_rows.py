"""What rows come back as: `Row`, or the caller's own types."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from databases import Place
from pydantic import BaseModel

import dbcore as db

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict

PAIR = "SELECT 1 AS id, 'ada' AS name"
LIST = "SELECT id, name FROM items ORDER BY id"


@dataclass
class AsDataclass:
    id: int
    name: str | None


class AsModel(BaseModel):
    id: int
    name: str | None


class AsTypedDict(TypedDict):
    id: int
    name: str | None


class AsNamedTuple(NamedTuple):
    id: int
    name: str | None


SHAPES: list[tuple[Any, Any]] = [
    (AsDataclass, AsDataclass(1, "ada")),
    (AsModel, AsModel(id=1, name="ada")),
    (AsTypedDict, {"id": 1, "name": "ada"}),
    (AsNamedTuple, AsNamedTuple(1, "ada")),
]


@pytest.mark.parametrize(("into", "value"), SHAPES)
async def test_into_takes_a_row(place: Place, into: Any, value: Any) -> None:
    async with place.open() as database:
        assert await database.fetch_all(PAIR, into=into) == [value]
        assert await database.fetch_one(PAIR, into=into) == value
        assert await database.fetch_optional(PAIR, into=into) == value
        assert type(await database.fetch_one(PAIR, into=into)) is (dict if into is AsTypedDict else into)
        async with database.stream(PAIR, into=into) as rows:
            assert [row async for row in rows] == [value]


async def test_into_takes_the_only_column_for_a_type_of_one_value(place: Place) -> None:
    async with place.items() as database:
        await database.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")
        assert await database.fetch_all("SELECT name FROM items ORDER BY id", into=str) == ["a", "b"]
        assert await database.fetch_value("SELECT count(*) FROM items", into=int) == 2
        assert await database.fetch_value("SELECT max(id) FROM items WHERE id > 5", into=int | None) is None
        assert await database.fetch_value("SELECT name, id FROM items WHERE id = 2", into=str) == "b"


async def test_into_none_is_left_to_fetch_optional(place: Place) -> None:
    async with place.items() as database:
        assert await database.fetch_optional("SELECT id, name FROM items", into=AsModel) is None


async def test_a_row_that_does_not_fit_names_row_and_field_and_no_value(place: Place) -> None:
    async with place.items() as database:
        await database.execute("INSERT INTO items VALUES (1, '1'), (2, 'much-too-private')")
        with pytest.raises(db.DecodeError) as caught:
            await database.fetch_all("SELECT id, name AS number FROM items ORDER BY id", into=Numbered)
        assert "row 2" in str(caught.value)
        assert "number" in str(caught.value)
        assert "much-too-private" not in f"{caught.value!s} {caught.value!r} {caught.value.args}"


class Numbered(BaseModel):
    id: int
    number: int


async def test_a_decode_error_has_driver_and_sql_and_leaves_the_connection_usable(place: Place) -> None:
    async with place.open() as database, database.connection() as connection:
        with pytest.raises(db.DecodeError) as caught:
            await connection.fetch_all("SELECT 'x' AS id, 2 AS number", into=Numbered)
        assert caught.value.driver == place.driver
        assert caught.value.sql == "SELECT 'x' AS id, 2 AS number"
        assert await connection.fetch_value("SELECT 1") == 1


async def test_a_row_is_a_tuple_with_names(place: Place) -> None:
    async with place.open() as database:
        row = await database.fetch_one(PAIR)
        number, name = row
        assert (number, name) == (1, "ada")
        assert row[1] == row["name"] == row.name == "ada"
        assert row[-1:] == ("ada",)
        assert row.as_dict() == {"id": 1, "name": "ada"}
        assert hash(row) == hash((1, "ada"))
        assert pickle.loads(pickle.dumps(row)).name == "ada"
        assert row == (1, "ada")


async def test_column_names_win_over_the_names_of_a_tuple(place: Place) -> None:
    async with place.items() as database:
        row = await database.fetch_one(f"SELECT count(*) AS count, 7 AS {place.quoted('index')} FROM items")
        assert (row.count, row.index) == (0, 7)


async def test_a_row_says_which_columns_there_are(place: Place) -> None:
    async with place.open() as database:
        row = await database.fetch_one(PAIR)
        with pytest.raises(KeyError, match="id, name"):
            row["nothing"]
        with pytest.raises(AttributeError, match="id, name"):
            _ = row.nothing


async def test_a_row_is_immutable(place: Place) -> None:
    async with place.open() as database:
        row = await database.fetch_one(PAIR)
        with pytest.raises(AttributeError):
            setattr(row, "name", "eve")  # noqa: B010 (type checkers know better than to allow it)
        with pytest.raises(AttributeError):
            delattr(row, "name")


async def test_values_of_every_plain_type_come_back_equal(place: Place) -> None:
    for value in (None, 0, -1, 2**31, 2**63 - 1, -(2**63), 1.5, "", "é\n'\"", b"", b"\x00\xff", True):
        async with place.open() as database:
            got = await database.fetch_value("SELECT $1", [value])
        assert got == value, value
