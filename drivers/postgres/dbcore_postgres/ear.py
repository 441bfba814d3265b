"""Hearing when a connection can be read or written, without telling the event loop anew for each statement.

The loop watches a duplicate of the socket, from the first statement on: to be told, and told to stop, is a tenth of
what a short statement costs. A duplicate, because libpq closes its own file by itself when a connection is lost, and
the loop would go on watching a number that is somebody else's by then.
"""

from __future__ import annotations

import asyncio
import os
import select
import weakref
from collections.abc import Callable
from contextvars import Context

from dbcore.loops import running_loop

__all__ = ["Ear"]


class Ear:
    """Listens to one connection. Must be closed before the connection is."""

    __slots__ = ("__weakref__", "_file", "_hear", "_loop", "_poll", "_writing")

    def __init__(self, socket: int) -> None:
        self._file = -1
        self._hear: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop, while it watches."""
        self._writing: asyncio.AbstractEventLoop | None = None
        """The same, while it also watches for room to write."""
        self._file = os.dup(socket)  # may fail, and what was made so far is closed then
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)

    def listen(self, hear: Callable[[], None]) -> None:
        """Call `hear`, until `hush`, whenever something can be read; it has to read it."""
        self._hear = hear
        if self._loop is None:
            self._watch()

    def _watch(self) -> None:
        # Weakly, and in no context: neither a connection that nobody refers to any more nor what belongs to the caller
        # must live on for what might be read.
        this: weakref.ref[Ear] = weakref.ref(self)
        self._loop = asyncio.get_running_loop()
        Context().run(self._loop.add_reader, self._file, _heard, this)

    def watch_writing(self, call: Callable[[], None]) -> None:
        """Call `call`, until `unwatch_writing` or `hush`, whenever something can be written."""
        loop = asyncio.get_running_loop()
        loop.add_writer(self._file, call)
        self._writing = loop

    def unwatch_writing(self) -> None:
        """Call nobody for that. May be called with the connection lost or closed, and twice."""
        loop, self._writing = self._writing, None
        if loop is not None:
            loop.remove_writer(self._file)

    def hush(self) -> None:
        """Call nobody. The loop goes on watching until there is something that nobody wants to read."""
        self._hear = None
        if self._writing is not None:
            self.unwatch_writing()

    def heard(self) -> None:
        """Pass it on. Runs in the event loop."""
        loop = self._loop
        if self._hear is None:
            if loop is not None:  # a notice, a goodbye, or what psycopg itself has asked for
                self._forget(loop)
            return
        self._hear()
        loop = self._loop  # closed, perhaps
        if loop is not None and not isinstance(loop, asyncio.SelectorEventLoop) and self.has_input():
            # There is more. uvloop tells of a broken connection once, and never again until it is told anew.
            self._forget(loop)
            if self._hear is not None:
                self._watch()

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._file)
        self._loop = None

    def has_input(self) -> bool:
        """Say whether something can be read, without waiting and without reading it."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Stop watching for good. May be called from any thread, with the event loop closed, and twice."""
        file, self._file = self._file, -1
        loop, self._loop, self._writing = self._loop or self._writing, None, None
        self._hear = None
        if file < 0:
            return
        if loop is None or loop.is_closed():
            os.close(file)
        elif running_loop() is loop or not loop.is_running():
            _shut(loop, file)
        else:
            try:
                loop.call_soon_threadsafe(_shut, loop, file)
            except RuntimeError:  # closed by now
                os.close(file)

    __del__ = close


def _heard(ear: weakref.ref[Ear]) -> None:
    alive = ear()
    if alive is not None:
        alive.heard()


def _shut(loop: asyncio.AbstractEventLoop, file: int) -> None:
    loop.remove_reader(file)
    loop.remove_writer(file)
    os.close(file)
