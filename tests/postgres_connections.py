"""What the tests of the postgres driver share: a connection without a pool, and a proxy that counts trips."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from dbcore_postgres import Connection, PostgresSettings, driver
from dbcore_postgres.driver import make_hooks
from dbcore_postgres.errors import to_error
from dbcore_postgres.statements import query
from dbcore_postgres.transactions import begin

from dbcore.config import Config
from dbcore.driver import Hooks, Isolation
from dbcore.errors import DbError
from dbcore.loading import resolve

__all__ = ["Proxy", "backend", "changed", "configured", "connected", "failure", "rows", "start", "until"]


def configured(url: str, *, pool: Mapping[str, Any] | None = None, **keys: Any) -> Config[PostgresSettings]:
    config: Config[PostgresSettings] = resolve({"url": url, "pool": pool or {}, **keys}, driver=driver)
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


async def backend(connection: Connection) -> int:
    ((pid,),) = await rows(connection, "SELECT pg_backend_pid()")
    return int(pid)


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


class Proxy:
    """Stands between a driver and its server: counts trips, and cuts the line when it sees what it waits for."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._url = url
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.trips = 0
        """Times that the client sent something after the server had had its say."""
        self.cut_at: bytes | None = None
        """Cut the line in place of sending something that has this in it."""
        self.answer: Callable[[bytes], bytes | None] = lambda _: None
        """What to answer to the start-up packet, in place of the server, before hanging up."""

    @property
    def url(self) -> str:
        assert self._server is not None
        return changed(self._url, host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._forward(reader, writer)
        writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65536)
        if first[4:8] == bytes([4, 210, 22, 47]):  # is TLS offered?
            writer.write(b"N")
            first = await reader.read(65536)
        answer = self.answer(first)
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            return
        to_reader, to_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        to_writer.write(first)
        self.trips += 1
        answered = False

        async def back() -> None:
            nonlocal answered
            while data := await to_reader.read(65536):
                answered = True
                writer.write(data)

        task = asyncio.create_task(back())
        try:
            while data := await reader.read(65536):
                if self.cut_at is not None and self.cut_at in data:
                    return
                self.trips += answered
                answered = False
                to_writer.write(data)
        finally:
            task.cancel()
            to_writer.transport.abort()
