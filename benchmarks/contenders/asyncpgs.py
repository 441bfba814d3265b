"""asyncpg, and its pool."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.contenders.contender import Contender, Opened, Rows, close_all, holding
from benchmarks.server import ALL, BULK_COLUMNS, NOTE, ONE, Databases

__all__ = ["CONTENDERS"]


async def _dicts(connection: Any) -> list[Mapping[str, Any]]:
    return [dict(record) for record in await connection.fetch(ALL)]


async def _copy(connection: Any, rows: Rows) -> None:
    async with connection.transaction():
        await connection.copy_records_to_table("bulk", records=rows, columns=BULK_COLUMNS)


async def _note(connection: Any, key: int) -> None:
    async with connection.transaction():
        await connection.execute(NOTE, key, "value")


async def _open_raw(where: Databases, size: int, patience: float) -> Opened:
    asyncpg: Any = importlib.import_module("asyncpg")
    connections: list[Any] = [await asyncpg.connect(where.urls["postgres"]) for _ in range(size)]
    first = connections[0]

    return Opened(
        close=partial(close_all, connections),
        fetch_one=[partial(connection.fetchrow, ONE) for connection in connections],
        fetch_all=partial(first.fetch, ALL),
        fetch_dicts=partial(_dicts, first),
        insert_many=partial(_copy, first),
        insert_one=[partial(_note, connection) for connection in connections],
    )


async def _no_reset(connection: Any) -> None:
    pass


async def _open_pool(resets: bool, where: Databases, size: int, patience: float) -> Opened:
    asyncpg: Any = importlib.import_module("asyncpg")
    reset = {} if resets else {"reset": _no_reset}
    pool: Any = await asyncpg.create_pool(where.urls["postgres"], min_size=size, max_size=size, **reset)

    async def fetch_one(key: int) -> Any:
        async with pool.acquire() as connection:
            return await connection.fetchrow(ONE, key)

    async def fetch_all() -> Sequence[Any]:
        async with pool.acquire() as connection:
            records: Sequence[Any] = await connection.fetch(ALL)
            return records

    async def fetch_dicts() -> list[Mapping[str, Any]]:
        async with pool.acquire() as connection:
            return await _dicts(connection)

    async def insert_many(rows: Rows) -> None:
        async with pool.acquire() as connection:
            await _copy(connection, rows)

    async def insert_one(key: int) -> None:
        async with pool.acquire() as connection:
            await _note(connection, key)

    async def slow() -> None:
        async with pool.acquire() as connection:
            await connection.fetchval(where.slow["postgres"])

    def impatient(seconds: float) -> Any:
        return pool.acquire(timeout=seconds)

    async with holding(pool.acquire, size):
        pass
    return Opened(
        close=pool.close,
        checkout=pool.acquire,
        impatient=impatient,
        fetch_one=[fetch_one],
        fetch_all=fetch_all,
        fetch_dicts=fetch_dicts,
        insert_many=insert_many,
        insert_one=[insert_one],
        slow=None if resets else slow,
    )


CONTENDERS = (
    Contender(
        name="asyncpg pool",
        on="postgres",
        role="pool",
        how="as it comes: each release resets the session, one round trip",
        open=partial(_open_pool, True),  # noqa: FBT003  # the next one's difference
        needs=("asyncpg",),
    ),
    Contender(
        name="asyncpg pool/no reset",
        on="postgres",
        role="pool",
        how="with a `reset` that does nothing: a release sends nothing, and session state leaks",
        open=partial(_open_pool, False),  # noqa: FBT003  # as above
        needs=("asyncpg",),
    ),
    Contender(
        name="raw asyncpg",
        on="postgres",
        role="raw",
        how="no pool; with many tasks: ten tasks with a connection each",
        open=_open_raw,
        needs=("asyncpg",),
    ),
)
