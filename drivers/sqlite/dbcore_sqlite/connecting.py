"""Connecting: what the connections of one pool share, and how one more is made."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref

from dbcore.config import Reset
from dbcore_sqlite.bell import Bell
from dbcore_sqlite.connection import PATIENCE, Connection
from dbcore_sqlite.lane import Lane
from dbcore_sqlite.opening import File, Place
from dbcore_sqlite.settings import SqliteSettings
from dbcore_sqlite.worker import Worker, no_thread, start

__all__ = ["Home", "connect"]

log = logging.getLogger("dbcore.pool")


class Home:
    """What the connections of one pool share."""

    __slots__ = ("_file", "_opened", "_writer", "bell", "lane", "place", "reset", "strict", "threads")

    def __init__(self, place: Place, lane: Lane, bell: Bell, reset: Reset) -> None:
        self.place = place
        self.lane = lane
        self.bell = bell
        self.reset: Reset = reset
        self.strict = reset == "full" or lane.everything
        """Even a statement that only reads leaves something to be seen to."""
        self.threads: set[threading.Thread] = set()
        """aiosqlite's, each of which ends after the worker beside it; the end of the pool waits for theirs."""
        self._writer: Worker | None = None
        self._file: File | None = None
        self._opened: weakref.WeakSet[Connection] = weakref.WeakSet()

    @property
    def writer(self) -> Worker:
        """Runs what whoever has the lane wants to be run."""
        if self._writer is None:
            self._writer = Worker(self.bell, f"dbcore-sqlite {self.lane.line.name} writer")
        return self._writer

    async def ended(self, limit: float) -> None:
        """Wait until the threads have ended, at most so many seconds: a statement may run that hears no interrupt."""
        if self._writer is not None:
            self._writer.end()
        now = asyncio.get_running_loop().time
        deadline = now() + limit
        while self._is_alive() and now() < deadline:  # noqa: ASYNC110 (a thread sets no event)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)  # the last thread's last word

    def _is_alive(self) -> bool:
        writer = self._writer
        return (writer is not None and writer.is_alive) or any(thread.is_alive() for thread in self.threads)

    def opened(self, connection: Connection) -> None:
        """Note a new connection. If it found another file than the older ones, those are not used again."""
        if self._opened and connection.file != self._file:
            for older in self._opened:
                older.broken = True
            log.warning(
                "pool %s: %s was deleted or replaced while it was open; connections to the old file are dropped, and "
                "what they wrote since is not in the new one",
                self.lane.line.name,
                self.place.path,
            )
        self._file = connection.file
        self._opened.add(connection)


async def connect(home: Home, settings: SqliteSettings) -> Connection:
    """Open one connection. Raises `DbConnectionError`; leaves nothing behind when it is cancelled."""
    loop = asyncio.get_running_loop()
    made: list[Connection] = []

    def make() -> None:
        made.append(Connection(home, settings, loop))

    # aiosqlite's thread inherits "daemon" from the thread that makes it: a program that forgets to stop still exits.
    maker = threading.Thread(target=make, name="dbcore-sqlite connect", daemon=True)
    start(maker)
    maker.join()
    connection = made.pop()
    try:
        await connection
        connection.opened(f"dbcore-sqlite {home.lane.line.name}")
    except BaseException as error:
        if isinstance(error, RuntimeError) and connection.thread is maker:  # aiosqlite's has not begun
            raise no_thread() from error
        if isinstance(error, asyncio.CancelledError):
            connection.give_up()
        # aiosqlite has told its thread to end, and that reports to the loop, which must not be closed by then.
        deadline = loop.time() + PATIENCE
        while loop.time() < deadline and (connection.thread is maker or connection.thread.is_alive()):  # noqa: ASYNC110 (as in close)
            await asyncio.sleep(0.0005)
        raise
    finally:
        home.threads = {thread for thread in home.threads if thread.is_alive()}
        home.threads.add(connection.thread)
    home.opened(connection)
    return connection
