"""aiosqlite, its pool, and sqlite3 itself."""

from __future__ import annotations

import importlib
import math
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite

from benchmarks.contenders.contender import Contender, Opened, Rows, close_all, holding
from benchmarks.server import ALL, BULK, COLUMNS, NOTE, ONE, PRAGMAS, Databases, styled

__all__ = ["CONTENDERS"]

ONE_TEXT = styled(ONE, "?")
BULK_TEXT = styled(BULK, "?")
NOTE_TEXT = styled(NOTE, "?")


async def _connect(path: Path) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        await connection.execute_fetchall(pragma)
    return connection


async def _one(connection: aiosqlite.Connection, key: int) -> Any:
    async with connection.execute(ONE_TEXT, (key,)) as cursor:
        return await cursor.fetchone()


async def _all(connection: aiosqlite.Connection) -> Sequence[Any]:
    async with connection.execute(ALL) as cursor:
        return list(await cursor.fetchall())


async def _dicts(connection: aiosqlite.Connection) -> list[Mapping[str, Any]]:
    async with connection.execute(ALL) as cursor:
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


async def _one_in_a_hop(connection: aiosqlite.Connection, key: int) -> Any:
    (row,) = await connection.execute_fetchall(ONE_TEXT, (key,))
    return row


async def _all_in_a_hop(connection: aiosqlite.Connection) -> Sequence[Any]:
    return list(await connection.execute_fetchall(ALL))


async def _dicts_in_a_hop(connection: aiosqlite.Connection) -> list[Mapping[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in await connection.execute_fetchall(ALL)]


async def _insert(connection: aiosqlite.Connection, rows: Rows) -> None:
    await connection.execute("BEGIN IMMEDIATE")
    await connection.executemany(BULK_TEXT, rows)
    await connection.execute("COMMIT")


async def _note(connection: aiosqlite.Connection, key: int) -> None:
    await connection.execute("BEGIN IMMEDIATE")
    await connection.execute(NOTE_TEXT, (key, "value"))
    await connection.execute("COMMIT")


async def _open_raw(in_a_hop: bool, where: Databases, size: int, patience: float) -> Opened:
    connections = [await _connect(where.sqlite) for _ in range(size)]
    first = connections[0]

    one = _one_in_a_hop if in_a_hop else _one
    return Opened(
        close=partial(close_all, connections),
        fetch_one=[partial(one, connection) for connection in connections],
        fetch_all=partial(_all_in_a_hop if in_a_hop else _all, first),
        fetch_dicts=partial(_dicts_in_a_hop if in_a_hop else _dicts, first),
        insert_many=partial(_insert, first),
        insert_one=[partial(_note, connection) for connection in connections],
    )


async def _open_pool(where: Databases, size: int, patience: float) -> Opened:
    aiosqlitepool: Any = importlib.import_module("aiosqlitepool")
    exceptions: Any = importlib.import_module("aiosqlitepool.exceptions")
    whole_seconds = math.ceil(patience)
    pool: Any = aiosqlitepool.SQLiteConnectionPool(
        partial(_connect, where.sqlite), pool_size=size, acquisition_timeout=whole_seconds, operation_timeout=60
    )

    async def fetch_one(key: int) -> Any:
        async with pool.connection() as connection:
            return await _one(connection, key)

    async def fetch_all() -> Sequence[Any]:
        async with pool.connection() as connection:
            return await _all(connection)

    async def fetch_dicts() -> list[Mapping[str, Any]]:
        async with pool.connection() as connection:
            return await _dicts(connection)

    async def insert_many(rows: Rows) -> None:
        async with pool.connection() as connection:
            await _insert(connection, rows)

    async def insert_one(key: int) -> None:
        async with pool.connection() as connection:
            await _note(connection, key)

    async def slow() -> None:
        async with pool.connection() as connection:
            await connection.execute_fetchall(where.slow["sqlite"])

    async with holding(pool.connection, size):
        pass
    return Opened(
        close=pool.close,
        checkout=pool.connection,
        gives_up=exceptions.PoolConnectionAcquireTimeoutError,
        fetch_one=[fetch_one],
        fetch_all=fetch_all,
        fetch_dicts=fetch_dicts,
        insert_many=insert_many,
        insert_one=[insert_one],
        slow=slow,
    )


async def _open_direct(where: Databases, size: int, patience: float) -> Opened:
    connection = sqlite3.connect(where.sqlite, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(pragma).fetchall()

    async def insert_many(rows: Rows) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(BULK_TEXT, rows)
        connection.execute("COMMIT")

    async def close() -> None:
        connection.close()

    return Opened(close=close, insert_many=insert_many)


CONTENDERS = (
    Contender(
        name="aiosqlitepool",
        on="sqlite",
        role="pool",
        how="each checkout runs SELECT 1, each release a rollback; select by execute and fetch",
        open=_open_pool,
        needs=("aiosqlitepool",),
    ),
    Contender(
        name="raw aiosqlite",
        on="sqlite",
        role="raw",
        how="no pool; execute, fetch and close of the cursor; with many tasks: ten tasks with a connection each",
        open=partial(_open_raw, False),  # noqa: FBT003  # the next one's difference
    ),
    Contender(
        name="raw aiosqlite/fetchall",
        on="sqlite",
        role="raw",
        how="the same by `execute_fetchall`, which is one hop to the thread in place of three",
        open=partial(_open_raw, True),  # noqa: FBT003  # as above
    ),
    Contender(
        name="sqlite3",
        on="sqlite",
        role="raw",
        how="the standard library's, which blocks the event loop: only for the bulk insert",
        open=_open_direct,
    ),
)
