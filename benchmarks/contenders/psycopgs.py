"""psycopg, and its pool."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks.contenders.contender import Contender, Opened, Rows, close_all, holding
from benchmarks.server import ALL, NOTE, ONE, Databases, styled

__all__ = ["CONTENDERS"]

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

ONE_TEXT = styled(ONE, "%s").encode()
ALL_TEXT = ALL.encode()
NOTE_TEXT = styled(NOTE, "%s").encode()


async def _one(connection: Connection, key: int) -> Any:
    cursor = await connection.execute(ONE_TEXT, (key,))
    return await cursor.fetchone()


async def _all(connection: Connection) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(ALL_TEXT)
    return await cursor.fetchall()


async def _dicts(connection: Connection) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(ALL_TEXT)
    return await cursor.fetchall()


async def _copy(connection: Connection, rows: Rows) -> None:
    cursor = connection.cursor()
    async with connection.transaction(), cursor.copy("COPY bulk (a, b, c, d) FROM STDIN") as copy:
        for row in rows:
            await copy.write_row(row)


async def _note(connection: Connection, key: int) -> None:
    async with connection.transaction():
        await connection.execute(NOTE_TEXT, (key, "value"))


async def _open_raw(where: Databases, size: int, patience: float) -> Opened:
    connections = [await psycopg.AsyncConnection.connect(where.urls["postgres"], autocommit=True) for _ in range(size)]
    first = connections[0]

    return Opened(
        close=partial(close_all, connections),
        fetch_one=[partial(_one, connection) for connection in connections],
        fetch_all=partial(_all, first),
        fetch_dicts=partial(_dicts, first),
        insert_many=partial(_copy, first),
        insert_one=[partial(_note, connection) for connection in connections],
    )


async def _open_pool(autocommit: bool, where: Databases, size: int, patience: float) -> Opened:
    psycopg_pool: Any = importlib.import_module("psycopg_pool")
    pool: Any = psycopg_pool.AsyncConnectionPool(
        where.urls["postgres"],
        min_size=size,
        max_size=size,
        open=False,
        timeout=patience,
        kwargs={"autocommit": autocommit},
    )
    await pool.open(wait=True)

    async def fetch_one(key: int) -> Any:
        async with pool.connection() as connection:
            return await _one(connection, key)

    async def fetch_all() -> list[tuple[Any, ...]]:
        async with pool.connection() as connection:
            return await _all(connection)

    async def fetch_dicts() -> list[Mapping[str, Any]]:
        async with pool.connection() as connection:
            return [*await _dicts(connection)]

    async def insert_many(rows: Rows) -> None:
        async with pool.connection() as connection:
            await _copy(connection, rows)

    async def insert_one(key: int) -> None:
        async with pool.connection() as connection:
            if autocommit:
                await _note(connection, key)
            else:  # the block is the transaction
                await connection.execute(NOTE_TEXT, (key, "value"))

    async def slow() -> None:
        async with pool.connection() as connection:
            await connection.execute(where.slow["postgres"].encode())

    async with holding(pool.connection, size):
        pass
    return Opened(
        close=pool.close,
        checkout=pool.connection,
        impatient=pool.connection,
        gives_up=psycopg_pool.PoolTimeout,
        fetch_one=[fetch_one],
        fetch_all=fetch_all,
        fetch_dicts=fetch_dicts,
        insert_many=insert_many,
        insert_one=[insert_one],
        slow=slow if autocommit else None,
    )


CONTENDERS = (
    Contender(
        name="psycopg_pool",
        on="postgres",
        role="pool",
        how="as it comes: connections with transactions, so that a query is three round trips",
        open=partial(_open_pool, False),  # noqa: FBT003  # the next one's difference
        needs=("psycopg_pool",),
    ),
    Contender(
        name="psycopg_pool/autocommit",
        on="postgres",
        role="pool",
        how="with `autocommit=True`: a query is one round trip",
        open=partial(_open_pool, True),  # noqa: FBT003  # as above
        like="psycopg_pool",
        needs=("psycopg_pool",),
    ),
    Contender(
        name="raw psycopg",
        on="postgres",
        role="raw",
        how="no pool, `autocommit=True`; with many tasks: ten tasks with a connection each",
        open=_open_raw,
    ),
)
