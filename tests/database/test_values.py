"""Values: what is written comes back equal where `into` names its type, from the columns that are said to keep it."""

from __future__ import annotations

import pytest
from databases import Place
from value_columns import COLUMNS

import dbcore as db
from dbcore.testing.values import KINDS, LARGE, REFUSED, WAYS, Changed, Kept, Refused, is_same, tried


@pytest.mark.parametrize("kind", KINDS)
async def test_every_portable_value_comes_back_equal_whatever_way_it_went(place: Place, kind: str) -> None:
    async with place.open() as database, database.connection() as connection:
        for column, lost in COLUMNS[place.driver][kind].items():
            fates = await tried(connection, column, KINDS[kind], WAYS)
            not_kept = {
                name for name, ways in fates.items() if any(not isinstance(fate, Kept) for fate in ways.values())
            }
            assert not_kept == lost, column


@pytest.mark.parametrize("kind", KINDS)
async def test_what_one_way_refuses_no_other_way_changes_in_silence(place: Place, kind: str) -> None:
    async with place.open() as database, database.connection() as connection:
        for column, lost in COLUMNS[place.driver][kind].items():
            fates = await tried(connection, column, KINDS[kind], WAYS) if lost else {}
            for name in lost:
                became = {type(fate) for fate in fates[name].values()}
                assert not {Refused, Changed} <= became, f"{name} in {column}: {fates[name]}"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_value_comes_back_equal_without_a_table(place: Place, kind: str) -> None:
    into = KINDS[kind].into
    column, lost = next(iter(COLUMNS[place.driver][kind].items()))
    sql = f"SELECT CAST($1 AS {column}) AS v"
    async with place.open() as database:
        assert await database.fetch_value(sql, [None]) is None
        for name, value in KINDS[kind].values.items():
            if name not in lost:
                assert is_same(value, await database.fetch_value(sql, [value], into=into)), name
                async with database.stream(sql.replace("$1", ":v"), {"v": value}, into=into) as rows:
                    (found,) = [row async for row in rows]
                assert is_same(value, found), name


@pytest.mark.parametrize("kind", LARGE)
async def test_five_megabytes_come_back_equal_whatever_way_they_went(place: Place, kind: str) -> None:
    column = next(iter(COLUMNS[place.driver][kind]))
    async with place.open() as database, database.connection() as connection:
        (ways,) = (await tried(connection, column, LARGE[kind], WAYS)).values()
        assert [way for way, fate in ways.items() if not isinstance(fate, Kept)] == []


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("way", WAYS)
async def test_what_no_database_can_keep_is_refused_and_nothing_is_stored(place: Place, way: str, name: str) -> None:
    kind, value = REFUSED[name]
    column = next(iter(COLUMNS[place.driver][kind]))
    async with place.open() as database, database.connection() as connection:
        await connection.execute(f"CREATE TABLE kept (id INTEGER PRIMARY KEY, v {column})")
        with pytest.raises(db.QueryError) as caught:
            await WAYS[way](connection, "kept", [(1, value)])
        said = str(caught.value)
        assert said
        assert said.isprintable(), "the text of an error can be written anywhere"
        assert not connection.in_transaction
        assert await connection.fetch_value("SELECT count(*) FROM kept") == 0


async def test_a_null_can_stand_anywhere_in_the_rows(place: Place) -> None:
    rows = [(1, None), (2, 2), (3, None)]
    async with place.open() as database, database.connection() as connection:
        for number, write in enumerate(WAYS.values()):
            await connection.execute(f"CREATE TABLE nulls_{number} (id INTEGER, v INTEGER)")
            await write(connection, f"nulls_{number}", rows)
            assert await connection.fetch_all(f"SELECT * FROM nulls_{number} ORDER BY id") == rows
