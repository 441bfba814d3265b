"""What the tests of the postgres driver share: a connection without a pool, and a proxy that counts trips."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

from connections import Bare, changed, until
from dbcore_postgres import Connection, driver
from dbcore_postgres.driver import make_hooks
from dbcore_postgres.transactions import begin

__all__ = ["Proxy", "backend", "changed", "configured", "connected", "failure", "rows", "start", "until"]

_bare = Bare(driver, make_hooks, begin)
configured = _bare.configured
connected = _bare.connected
rows = _bare.rows
start = _bare.start
failure = _bare.failure


async def backend(connection: Connection) -> int:
    ((pid,),) = await rows(connection, "SELECT pg_backend_pid()")
    return int(pid)


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
