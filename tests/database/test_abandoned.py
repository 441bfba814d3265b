"""Blocks that nobody leaves in order: generators and streams that are abandoned half way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from databases import Place, until

import dbcore as db

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n"


async def read(connection: db.Connection[Any]) -> AsyncGenerator[int, None]:
    async with connection.stream(NUMBERS, [1000], batch_size=2) as rows:
        async for row in rows:
            yield row.i


async def finalised() -> None:
    """Let generators that nobody refers to be closed: the event loop does that in tasks of its own."""
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    me = asyncio.current_task()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not me), return_exceptions=True)


async def test_a_generator_abandoned_inside_a_held_connection_does_not_break_its_release(place: Place) -> None:
    """It is closed while somebody else has the connection, who notices nothing of it.

    Laws: E15, K5.
    """
    async with place.open(pool={"max_size": 1}) as database:
        for _ in range(3):
            async with database.connection() as connection:
                numbers = read(connection)
                assert await anext(numbers) == 1
            async with database.transaction() as tx:
                assert await tx.fetch_value("SELECT 2") == 2
                del numbers
                await finalised()
                assert tx.in_transaction
                assert await tx.fetch_value("SELECT 3") == 3
        await until(lambda: database.stats().idle == 1)
        assert database.stats().connects == 1


async def test_an_abandoned_generator_that_holds_a_transaction_rolls_it_back_and_releases(place: Place) -> None:
    """Laws: E15, O6."""

    async def write_and_read(database: db.Database) -> AsyncGenerator[int, None]:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO items VALUES (1, 'a')")
            async for number in read(tx):
                yield number

    async with place.items(pool={"max_size": 1}) as database:
        async for number in write_and_read(database):
            if number == 3:
                break
        await finalised()
        await until(lambda: database.stats().idle == 1)
        assert await database.fetch_value("SELECT count(*) FROM items") == 0


async def test_a_stream_is_over_when_its_connection_was_released(place: Place) -> None:
    """Laws: H10, K4, K5."""
    async with place.open(pool={"max_size": 1}) as database:
        async with database.connection() as connection:
            stream = connection.stream(NUMBERS, [1000], batch_size=1)
            await anext(await stream.__aenter__())
        async with database.connection() as other:
            with pytest.raises(db.UsageError, match=r"released at .*test_abandoned\.py"):
                await anext(stream)
            await stream.__aexit__(None, None, None)
            assert await other.fetch_value("SELECT 1") == 1


async def test_a_stream_closed_late_does_not_touch_the_statement_of_the_next_holder(place: Place) -> None:
    """Laws: K5."""
    async with place.open(pool={"max_size": 1}) as database:
        for turns in range(6):
            async with database.connection() as connection:
                stream = connection.stream(NUMBERS, [1000], batch_size=2)
                await anext(await stream.__aenter__())
            long = database.fetch_value(f"SELECT count(*) FROM ({NUMBERS}) AS n", [200_000])
            statement = asyncio.create_task(long)
            await until(lambda: database.stats().in_use)
            for _ in range(turns):
                await asyncio.sleep(0)
            await stream.__aexit__(None, None, None)
            assert await statement == 200_000


async def test_a_transaction_does_not_end_well_around_an_open_stream_and_ends_it(place: Place) -> None:
    """Laws: O3."""
    async with place.items(pool={"max_size": 1}) as database:
        left: list[db.Stream[Any]] = []
        with pytest.raises(db.UsageError, match="stream is open"):
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO items VALUES (1, 'a')")
                left.append(await tx.stream(NUMBERS, [1000], batch_size=1).__aenter__())
                await anext(left[0])
        with pytest.raises(db.UsageError, match="released at"):
            await anext(left[0])
        await left[0].__aexit__(None, None, None)
        assert await database.fetch_value("SELECT count(*) FROM items") == 0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_run_releases_whatever_the_function_raises(place: Place, kind: type[BaseException]) -> None:
    """Laws: E14, K8."""

    async def work(connection: db.Connection[Any]) -> None:
        await connection.fetch_value("SELECT 1")
        raise kind

    async with place.open(pool={"max_size": 1}) as database:
        with pytest.raises(kind):
            await database.run(work)
        assert database.stats().in_use == 0
        assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().connects == 1
