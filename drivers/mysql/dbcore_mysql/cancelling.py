"""The end of a statement that nobody waits for any more.

asyncmy closes its connection when it is cancelled, and leaves the server at work. Here no cancellation reaches it: the
server is told to end the statement, by KILL QUERY on a second connection, and its answer is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

from dbcore.driver import CancelledTooLate
from dbcore.errors import DbConnectionError
from dbcore_mysql.connection import Connection
from dbcore_mysql.errors import INTERRUPTED, number_of
from dbcore_mysql.library import LibraryStream, MySQLError

__all__ = ["end", "guarded"]

logger = logging.getLogger("dbcore.mysql")

T = TypeVar("T")

CANCEL_SECONDS = 5.0
"""How long a cancelled statement may take to end before its connection is dropped."""
_GRACE = 0.01
"""Seconds in which a statement may end by itself: most do, and a second connection is not opened for nothing."""
_PATIENCE = 0.1
"""Seconds after which the server is told for the second time; they double from time to time."""

_ROWS = 1000
"""Rows that are read at a time where nobody wants them."""

_telling: set[asyncio.Task[None]] = set()


async def guarded(connection: Connection, work: Coroutine[Any, Any, T]) -> T:
    """Await what talks to the server. Cancelled, end it at the server first; cancelled twice, drop the connection."""
    ending: Ending | None = None
    done = False

    def cancelled() -> None:
        nonlocal ending
        if ending is None:
            ending = Ending(connection)
        else:
            connection.drop()

    try:
        result = await _drive(connection, work, cancelled)
    except Exception:
        if ending is None:
            raise
    except BaseException:
        connection.drop()  # in the middle of an answer
        raise
    else:
        if ending is None:
            return result
        done = True
    await _rest(connection, cancelled)
    await ending.finish()
    if connection.is_broken:
        done = not connection.block or connection.committing
    if done:
        raise asyncio.CancelledError from CancelledTooLate("the work was done before it was ended, or may have been")
    raise asyncio.CancelledError


async def end(connection: Connection, idle: asyncio.Future[None] | None = None) -> None:
    """End a stream that is left early; or, with `idle`, what another task does until that is done."""
    ending = Ending(connection)
    interrupted = False

    def cancelled() -> None:
        nonlocal interrupted
        interrupted = True
        connection.drop()

    if idle is None:
        await _rest(connection, cancelled)
    else:
        try:
            await asyncio.wait([idle])
        except asyncio.CancelledError:
            cancelled()
    await ending.finish()
    if interrupted:
        raise asyncio.CancelledError


async def _rest(connection: Connection, cancelled: Callable[[], None]) -> None:
    """Take in the rows of a stream that are still to come."""
    stream = connection.open_stream
    if stream is not None and connection.is_streaming and not connection.is_broken:
        with contextlib.suppress(Exception):  # the statement was ended, or the connection is lost: neither is news
            await _drive(connection, _read(stream), cancelled)


async def _read(stream: LibraryStream) -> None:
    while await stream.fetchmany(_ROWS):  # noqa: ASYNC110 (it waits for nothing: others have a turn)
        await asyncio.sleep(0)  # the server may be faster than we are, and has to be told


@types.coroutine
def _drive(
    connection: Connection, work: Coroutine[Any, Any, T], cancelled: Callable[[], None]
) -> Generator[Any, Any, T]:
    """Run `work` in this very task, and keep cancellations from it: `cancelled` is called for each.

    A task in which a future is waited for cancels that future when it is cancelled. So it is given another one, that is
    done when the first one is; this is `asyncio.shield`, without the task that it needs for a coroutine.

    While a stream is open the socket is read only here, while something is waited for.
    """
    stream = connection if connection.open_stream is not None else None
    try:
        while True:
            try:
                waited = work.send(None)
            except StopIteration as end:
                result: T = end.value
                return result
            if waited is None:
                try:
                    yield
                except asyncio.CancelledError:
                    cancelled()
                continue
            waited._asyncio_future_blocking = False  # noqa: SLF001 (what `await` sets, for the task that is to wait)
            while not waited.done():
                mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                wake = partial(_wake, mine, stream)
                waited.add_done_callback(wake)
                if stream is not None:
                    stream.let_in(let=True)
                try:
                    yield from mine
                except asyncio.CancelledError:
                    cancelled()
                finally:
                    waited.remove_done_callback(wake)
    finally:
        work.close()


def _wake(mine: asyncio.Future[None], stream: Connection | None, _: asyncio.Future[Any]) -> None:
    if stream is not None:
        stream.let_in(let=False)
    if not mine.done():
        mine.set_result(None)


class Ending:
    """Tells the server, in a task of its own, to end what runs on a connection, until it has ended."""

    def __init__(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._connection = connection
        self._over: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._end(), name="dbcore mysql cancel")
        _telling.add(self._task)
        self._task.add_done_callback(_telling.discard)

    async def finish(self) -> None:
        """Note that the statement has ended; return when the connection can be used again, or was dropped."""
        self._over.set_result(None)
        connection = self._connection
        if connection.is_broken:
            return  # what the server is told now concerns no one here
        try:
            await asyncio.shield(self._task)
            await self._absorb()
        except BaseException as error:
            connection.drop()
            if not isinstance(error, Exception):
                raise

    async def _end(self) -> None:
        connection, over = self._connection, self._over
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await asyncio.wait([over], timeout=_GRACE)
                if over.done() and not connection.is_broken:
                    return
                await self._tell()
        except Exception as error:
            # Whatever failed: a connection in an unknown state must not be used again.
            logger.warning("a cancelled statement could not be ended, its connection is dropped: %r", error)
            connection.drop()

    async def _tell(self) -> None:
        connection, over = self._connection, self._over
        if connection.open_another is None:
            raise AssertionError("bug: a connection was used before it was ready")
        other = await connection.open_another()
        try:
            if other.identity != connection.identity:
                raise DbConnectionError("another server answers to the same name; its statements are not ours to end")
            patience = _PATIENCE
            while not over.done():
                await other.query(b"KILL QUERY %d" % connection.thread_id())
                # It may have come before the statement: then the server takes no notice of it.
                await asyncio.wait([over], timeout=patience)
                patience *= 2
            if connection.is_broken:
                await other.query(b"KILL %d" % connection.thread_id())
        except MySQLError as error:
            if number_of(error) != _NO_SUCH_THREAD or not connection.is_broken:
                raise
        finally:
            other.drop()

    async def _absorb(self) -> None:
        """Send a statement that does nothing. If the KILL came late, it hits this one; and its answer has the state."""
        connection = self._connection
        connection.let_in(let=True)
        async with asyncio.timeout(CANCEL_SECONDS):
            while not connection.is_broken:
                try:
                    await connection.query(b"DO 0")
                except MySQLError as error:
                    if number_of(error) != INTERRUPTED:
                        connection.drop()
                else:
                    connection.last_result()
                    return


_NO_SUCH_THREAD = 1094
