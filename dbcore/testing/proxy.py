"""A TCP proxy that goes wrong on demand: put it between a pool and its server to see what a bad network does."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["FaultProxy"]

CHUNK = 65536


class FaultProxy:
    """Stands before `host:port` and does what it is told: freeze, cut, refuse, delay.

    ```python
    async with FaultProxy("127.0.0.1", 5432) as proxy:
        ...  # connect to 127.0.0.1, port proxy.port
        proxy.freeze()  # bytes stop flowing and nobody is told, as when a cable is pulled
    ```
    It runs in the event loop that enters it, and leaves no task or socket behind.
    """

    def __init__(self, host: str, port: int, *, delay: float = 0.0) -> None:
        self._target = host, port
        self.delay = delay
        """Seconds that every chunk takes in each direction."""
        self.port = 0
        """Where the proxy listens, on 127.0.0.1; known once it was entered."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.admit()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._writers) // 2

    def freeze(self) -> None:
        """Let no byte pass, in neither direction. New connections are accepted and hang."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let the bytes pass again, those held back first."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection that is open now."""
        for task in self._tasks:
            task.cancel()

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def admit(self) -> None:
        """Accept connections, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("bug: a connection was accepted outside of a task")
        self._tasks.add(task)
        writers = {writer}
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            there, back = await asyncio.open_connection(*self._target)
            writers.add(back)
            self._writers.add(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(there, writer))
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            pass  # cut on purpose, or one side has gone: the other one hears of it below
        finally:
            for each in writers:
                each.transport.abort()
            self._writers -= writers
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
