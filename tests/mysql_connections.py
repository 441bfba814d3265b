"""What the tests of the mysql driver share: a connection without a pool, and what the server says of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from dbcore_mysql import Connection, MysqlSettings, driver
from dbcore_mysql.driver import make_hooks
from dbcore_mysql.errors import to_error
from dbcore_mysql.statements import query
from dbcore_mysql.transactions import begin

from dbcore.config import Config
from dbcore.driver import Hooks, Isolation
from dbcore.errors import DbError
from dbcore.loading import resolve

__all__ = ["changed", "configured", "connected", "failure", "rows", "running", "start", "under_way", "until"]


def configured(url: str, *, pool: Mapping[str, Any] | None = None, **keys: Any) -> Config[MysqlSettings]:
    config: Config[MysqlSettings] = resolve({"url": url, "pool": pool or {}, **keys}, driver=driver)
    return config


@contextlib.asynccontextmanager
async def connected(
    url: str, *, pool: Mapping[str, Any] | None = None, **keys: Any
) -> AsyncGenerator[tuple[Hooks[Connection], Connection], None]:
    """Open a connection as the engine would, and drop it at the end."""
    hooks = make_hooks(configured(url, pool=pool, **keys))
    connection = await hooks.connect()
    try:
        yield hooks, connection
    finally:
        await hooks.close(connection)


async def rows(connection: Connection, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    return list((await query(connection, sql, params)).rows)


async def start(connection: Connection, isolation: Isolation | None = None, *, read_only: bool = False) -> None:
    """Begin a transaction."""
    await begin(connection, isolation, read_only)


async def running(admin: Connection, number: int) -> bool:
    """Whether a statement runs on the connection that the server knows by this number."""
    sql = "SELECT 1 FROM information_schema.processlist WHERE id = %s AND command = 'Query' AND info <> 'DO 0'"
    return bool(await rows(admin, sql, number))


async def under_way(admin: Connection, number: int, work: Awaitable[object]) -> asyncio.Task[object]:
    """Start something, and return when the server works on it."""
    task = asyncio.ensure_future(work)
    await until(lambda: running(admin, number))
    return task


async def failure(work: Awaitable[object]) -> DbError:
    """Await what must fail, and return the error that the core would raise."""
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    assert isinstance(outcome, BaseException), "it did not fail"
    known = outcome if isinstance(outcome, DbError) else to_error(outcome)
    assert known is not None, f"{outcome!r} is not known to the driver"
    return known


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for something that the server does in its own time; a test that waits in vain fails."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.002)


def changed(url: str, **parts: str | int | None) -> str:
    """The same URL with another user, password, host, port or path."""
    old = urlsplit(url)
    user = parts.get("user", old.username)
    password = parts.get("password", old.password)
    host, port = parts.get("host", old.hostname), parts.get("port", old.port)
    access = f"{user}@" if password is None else f"{user}:{password}@"
    path = str(parts.get("path", old.path))
    return old._replace(netloc=f"{access}{host}:{port}", path=path).geturl()
