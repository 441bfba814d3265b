"""Streams: rows one by one, and a connection that is whole again however the block is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest
from databases import Place

import dbcore as db
from dbcore.testing import FakeConnection, Script, ScriptedSettings, scripted_driver, virtual

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n"


async def test_a_stream_on_the_database_holds_a_connection_until_its_block_is_left(place: Place) -> None:
    async with place.open() as database:
        async with database.stream(NUMBERS, [3]) as rows:
            await anext(rows)
            assert database.stats().in_use == 1
        assert database.stats().in_use == 0


async def test_a_row_that_does_not_fit_is_counted_over_all_batches(place: Place) -> None:
    sql = f"SELECT CASE WHEN i = 8 THEN 'x' ELSE CAST(i AS {place.text}) END AS number FROM ({NUMBERS}) AS numbers"
    async with place.open() as database:
        with pytest.raises(db.DecodeError, match="row 8"):
            async with database.stream(sql, [10], into=int, batch_size=3) as rows:
                _ = [row async for row in rows]


async def test_a_stream_is_read_inside_of_its_block(place: Place) -> None:
    async with place.open() as database:
        stream = database.stream("SELECT 1")
        with pytest.raises(db.UsageError, match="inside its block"):
            await anext(stream)
        async with stream:
            pass
        with pytest.raises(db.UsageError, match="inside its block"):
            await anext(stream)


@pytest.mark.parametrize("size", [0, 2**31, 2**40])
async def test_a_batch_size_that_no_library_takes_is_refused_before_anything_is_sent(place: Place, size: int) -> None:
    async with place.open() as database:
        with pytest.raises(ValueError, match="batch_size"):
            database.stream("SELECT 1", batch_size=size)


async def test_the_largest_batch_size_is_one_that_every_library_takes(place: Place) -> None:
    async with place.open() as database, database.stream("SELECT 1", into=int, batch_size=2**31 - 1) as rows:
        assert [row async for row in rows] == [1]


def whose_streams_end_badly() -> db.Driver[ScriptedSettings, FakeConnection]:
    """A driver whose streams give one row, and fail when they are closed."""

    async def stream(
        connection: FakeConnection, sql: str, params: Sequence[object], size: int
    ) -> AsyncGenerator[db.Result, None]:
        try:
            yield db.Result(("n",), [(1,)], 1)
            await asyncio.Event().wait()
        finally:
            raise db.QueryError("nothing was written")

    return replace(scripted_driver(Script(), {}), stream=stream)


@virtual
async def test_a_stream_of_a_write_that_fails_at_its_end_raises_when_it_is_left() -> None:
    async with db.open("scripted://", driver=whose_streams_end_badly()) as database:
        with pytest.raises(db.QueryError, match="nothing was written") as caught:
            async with database.stream("INSERT INTO t VALUES (1) RETURNING n") as rows:
                await anext(rows)
        assert caught.value.sql == "INSERT INTO t VALUES (1) RETURNING n"
        assert database.stats().in_use == 0


@virtual
async def test_a_block_that_raises_keeps_its_error_where_its_stream_ends_badly_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with db.open("scripted://", driver=whose_streams_end_badly()) as database:
        with pytest.raises(ZeroDivisionError):
            async with database.stream("INSERT INTO t VALUES (1) RETURNING n") as rows:
                await anext(rows)
                raise ZeroDivisionError
    assert "closing a stream failed" in caplog.text


@virtual
async def test_a_stream_that_only_read_and_cannot_be_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        db.open("scripted://", driver=whose_streams_end_badly()) as database,
        database.stream("SELECT n FROM t", into=int) as rows,
    ):
        assert await anext(rows) == 1
    assert "closing a stream failed" in caplog.text
