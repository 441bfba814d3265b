"""What the tests of the SQLite driver share: pools on files and in memory, and statements that take minutes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dbcore_sqlite import Connection, SqliteSettings, driver, start_pool
from dbcore_sqlite.transactions import begin

from dbcore.config import Config, PoolSettings
from dbcore.driver import Result
from dbcore.pool import PoolOps

SLOW = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000000) SELECT count(*), sum(i) FROM n"
)
"""Runs for minutes, and hears interrupts."""

SLOW_WRITE = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000000) "
    "INSERT INTO numbers (n) SELECT sum(i) FROM n"
)

THREADS = 2
"""What a connection has: aiosqlite's, and the worker that runs its statements."""


def sqlite_config(folder: Path, pool: Mapping[str, Any] | None = None, **settings: Any) -> Config[SqliteSettings]:
    return Config(
        name="main",
        driver="sqlite",
        settings=SqliteSettings.model_validate({"path": "app.db", **settings}),
        pool=PoolSettings(**{**driver.pool_defaults, **(pool or {})}),
        folder=folder,
    )


@asynccontextmanager
async def sqlite_pool(
    folder: Path, pool: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncGenerator[PoolOps[Connection], None]:
    ops = await start_pool(sqlite_config(folder, pool, **settings))
    try:
        yield ops
    finally:
        await ops.stop()


@asynccontextmanager
async def held(ops: PoolOps[Connection]) -> AsyncGenerator[Connection, None]:
    connection, release = await ops.checkout()
    try:
        yield connection
    finally:
        release()


@asynccontextmanager
async def one_connection(
    folder: Path, pool: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncGenerator[Connection, None]:
    async with sqlite_pool(folder, pool, **settings) as ops, held(ops) as connection:
        yield connection


async def run(connection: Connection, sql: str, *params: Any) -> Result:
    return await driver.query(connection, sql, params)


async def value(connection: Connection, sql: str, *params: Any) -> Any:
    return (await run(connection, sql, *params)).rows[0][0]


async def begin_write(connection: Connection) -> None:
    await begin(connection, isolation=None, read_only=False)


async def begin_read(connection: Connection) -> None:
    await begin(connection, isolation=None, read_only=True)


async def under_way(connection: Connection) -> None:
    """Wait until the worker is in the middle of a statement."""
    while connection.job is None or connection.job.ended or not connection.job.started:
        await asyncio.sleep(0.001)


async def numbers(connection: Connection) -> None:
    await run(connection, "CREATE TABLE numbers (n INTEGER)")


async def count(connection: Connection, table: str = "numbers") -> int:
    found: int = await value(connection, f"SELECT count(*) FROM {table}")
    return found
