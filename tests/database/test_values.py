"""Values: what is written comes back equal where `into` names its type, from the columns that are said to keep it."""

from __future__ import annotations

import pytest
from databases import Place
from value_columns import CASTS, COLUMNS

import dbcore as db
from dbcore.testing.values import KINDS, REFUSED, WAYS, Changed, Kept, Refused, is_same, tried


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
    cast = CASTS.get(place.driver, {}).get(column, column)
    if cast is None:
        pytest.skip(f"{place.driver} casts nothing to {column}")
    sql = f"SELECT CAST($1 AS {cast}) AS v"
    async with place.open() as database:
        assert await database.fetch_value(sql, [None]) is None
        for name, value in KINDS[kind].values.items():
            if name not in lost:
                assert is_same(value, await database.fetch_value(sql, [value], into=into)), name
                async with database.stream(sql.replace("$1", ":v"), {"v": value}, into=into) as rows:
                    (found,) = [row async for row in rows]
                assert is_same(value, found), name


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("way", WAYS)
async def test_what_no_database_can_keep_is_refused_and_nothing_is_stored(place: Place, way: str, name: str) -> None:
    kind, value = REFUSED[name]
    async with place.open() as database, database.connection() as connection:
        for number, column in enumerate(COLUMNS[place.driver][kind]):
            table = f"kept_{number}"
            await connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v {column})")
            with pytest.raises(db.QueryError) as caught:
                await WAYS[way](connection, table, [(1, value)])
            said = str(caught.value)
            assert said
            assert said.isprintable(), "the text of an error can be written anywhere"
            assert not connection.in_transaction
            assert await connection.fetch_value(f"SELECT count(*) FROM {table}") == 0
