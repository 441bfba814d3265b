"""Sending to the server and waiting for it, by libpq as psycopg wraps it (`psycopg.pq`).

psycopg's cursors spend as much Python on a short statement as the server and the network spend time. Here is what is
left of one: send, wait, take the results. A statement is one trip, whatever goes along with it.

Whatever waits here and is cancelled ends the work at the server first. `abandon` is the one place where that is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NoReturn

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from dbcore.errors import UsageError
from dbcore_postgres.connection import ACTIVE, OK, RETIRED, STREAM, Connection
from dbcore_postgres.errors import LostInTransaction

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = [
    "COPY_STATES",
    "TUPLES_OK",
    "Command",
    "abandon",
    "collect",
    "fetch",
    "flush",
    "lost",
    "pipeline",
    "ready",
    "refused",
    "simple",
]

logger = logging.getLogger("dbcore.postgres")

CANCEL_SECONDS = 5.0
"""How long a cancelled statement may take to end before its connection is dropped."""
_PATIENCE = 0.1
"""Seconds after which the server is told for the second time; they double from time to time."""
_PUMP_EVERY = 256

COMMAND_OK = int(pq.ExecStatus.COMMAND_OK)
TUPLES_OK = int(pq.ExecStatus.TUPLES_OK)
EMPTY = int(pq.ExecStatus.EMPTY_QUERY)
FATAL = int(pq.ExecStatus.FATAL_ERROR)
COPY_IN = int(pq.ExecStatus.COPY_IN)
COPY_OUT = int(pq.ExecStatus.COPY_OUT)
COPY_BOTH = int(pq.ExecStatus.COPY_BOTH)
SYNC = int(pq.ExecStatus.PIPELINE_SYNC)
ABORTED = int(pq.ExecStatus.PIPELINE_ABORTED)
COPY_STATES = (COPY_IN, COPY_OUT, COPY_BOTH)

# A statement that fails, in place of one that was not sent: without it the end of the pipeline would commit the others.
_POISON = b"SELECT 1/0 AS cancelled"

Command = tuple[Callable[[], None], Callable[["PGresult"], None] | None]
"""Sends one command of a pipeline; and what gets its result, if it succeeds."""

_RETIRING = frozenset({"57P01", "57P02", "57P03"})


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def ready(connection: Connection, *, writing: bool = False) -> None:
    """Wait until something can be read, or with `writing` read or written."""
    loop = asyncio.get_running_loop()
    file = connection.pgconn.socket
    waiter: asyncio.Future[None] = loop.create_future()
    connection.waiter = waiter
    loop.add_reader(file, _wake, waiter)
    if writing:
        loop.add_writer(file, _wake, waiter)
    try:
        await waiter
    finally:
        # `abort` took both away already: the number of the file may be somebody else's by now.
        if connection.waiter is waiter:
            connection.waiter = None
            loop.remove_reader(file)
            if writing:
                loop.remove_writer(file)


async def flush(connection: Connection) -> None:
    """Hand everything to the system; what arrives meanwhile is taken in, or both sides would wait for each other."""
    pgconn = connection.pgconn
    while pgconn.flush():
        await ready(connection, writing=True)
        pgconn.consume_input()


async def receive(connection: Connection) -> PGresult | None:
    """Wait for the next result of what was sent; `None` when there are no more."""
    pgconn = connection.pgconn
    while pgconn.is_busy():
        await ready(connection)
        pgconn.consume_input()
    return pgconn.get_result()


async def collect(connection: Connection, *, hasty: bool = False) -> list[PGresult]:
    """Flush, and wait for all results of one command. Raises what it failed with.

    `hasty`: when cancelled, drop the connection in place of cleaning up.
    """
    pgconn = connection.pgconn
    results: list[PGresult] = []
    try:
        if pgconn.flush():
            await flush(connection)
        while True:
            while pgconn.is_busy():
                await ready(connection)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            results.append(result)
            if result.status in COPY_STATES:
                break
    except psycopg.OperationalError as error:
        # A server that ends a session says why before it does.
        if not (results and results[-1].status == FATAL):
            lost(connection, error)
    except BaseException:
        if hasty:
            pgconn.finish()
        else:
            await abandon(connection)
        raise
    if connection.marks:
        _take_notifications(connection)
    for result in results:
        if result.status == FATAL:
            refused(connection, result)
    return results


async def fetch(connection: Connection) -> PGresult | None:
    """Wait for the next result, as `receive`, and end the work when cancelled."""
    try:
        if connection.pgconn.flush():
            await flush(connection)
        result = await receive(connection)
    except psycopg.OperationalError as error:
        lost(connection, error)
    except BaseException:
        await abandon(connection)
        raise
    if result is not None and result.status == FATAL:
        with contextlib.suppress(psycopg.OperationalError):
            await collect(connection)  # what is left: nothing, or the end of the connection
        refused(connection, result)
    return result


async def simple(connection: Connection, text: bytes, *, hasty: bool = False) -> list[PGresult]:
    """Run a text of one or more statements without parameters; all or nothing, as the protocol has it."""
    try:
        connection.pgconn.send_query(text)
    except psycopg.OperationalError as error:
        lost(connection, error)
    return await collect(connection, hasty=hasty)


async def pipeline(connection: Connection, commands: Iterable[Command]) -> None:
    """Run commands in one trip, as one unit: outside of a transaction they commit together or not at all."""
    pgconn = connection.pgconn
    takers: deque[Callable[[PGresult], None] | None] = deque()
    failures: list[PGresult] = []
    synced = False

    def take(result: PGresult) -> None:
        status = result.status
        if status == FATAL:
            failures.append(result)
        if status != SYNC:
            taker = takers.popleft()
            if taker is not None and status not in (FATAL, ABORTED):
                taker(result)

    try:
        pgconn.enter_pipeline_mode()
        for number, (send, taker) in enumerate(commands, 1):
            send()
            takers.append(taker)
            if number % _PUMP_EVERY == 0:
                await _pump(connection, take)
        pgconn.pipeline_sync()
        synced = True
        await flush(connection)
        while True:
            result = await receive(connection)
            if result is not None:
                take(result)
                if result.status == SYNC:
                    break
    except psycopg.OperationalError as error:
        if failures:
            refused(connection, failures[0])
        lost(connection, error)
    except BaseException:
        await abandon(connection, unsynced=not synced)
        raise
    pgconn.exit_pipeline_mode()
    if failures:
        refused(connection, failures[0])


async def _pump(connection: Connection, take: Callable[[PGresult], None]) -> None:
    """In a long pipeline: take in what has arrived, and let other tasks have a turn."""
    pgconn = connection.pgconn
    await flush(connection)
    await asyncio.sleep(0)
    pgconn.consume_input()
    ended = False
    while not pgconn.is_busy():
        result = pgconn.get_result()
        if result is not None:
            take(result)
        elif ended:
            break
        ended = result is None


async def abandon(connection: Connection, *, unsynced: bool = False) -> None:
    """End at the server what nobody waits for any more, and take in what is left of it.

    Afterwards the connection can be used again. If that takes longer than `CANCEL_SECONDS`, or the caller is cancelled
    once more, the connection is dropped; the server sees that when it next looks (`client_connection_check_interval`).
    """
    pgconn = connection.pgconn
    if pgconn.status != OK:
        return
    connection.cleaning = cleaned = asyncio.get_running_loop().create_future()
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            if unsynced and pgconn.pipeline_status:
                pgconn.send_query_params(_POISON, None)
                pgconn.pipeline_sync()
            patience = _PATIENCE
            while not await _ended(connection, patience):
                patience *= 2
    except Exception as error:
        # Whatever failed: a connection in an unknown state must not be used again.
        logger.warning("a cancelled statement could not be ended, its connection is dropped: %r", error)
        pgconn.finish()
    except BaseException:
        pgconn.finish()
        raise
    finally:
        connection.cleaning = None
        cleaned.set_result(None)


async def _ended(connection: Connection, patience: float) -> bool:
    """Tell the server to stop, and see whether it does.

    It has to be told again if not: told before it has begun, it takes no notice.
    """
    await connection.cancel_safe(timeout=CANCEL_SECONDS)
    try:
        async with asyncio.timeout(patience):
            await _drain(connection)
    except TimeoutError:
        return False
    return True


async def _drain(connection: Connection) -> None:
    """Take in all results up to the end of the statement or pipeline. Can be cut short, and begun again."""
    pgconn = connection.pgconn
    in_pipeline = pgconn.pipeline_status != pq.PipelineStatus.OFF
    await flush(connection)
    while True:
        result = await receive(connection)
        if result is None:
            if not in_pipeline:
                return
        elif result.status == SYNC:
            pgconn.exit_pipeline_mode()
            return
        elif result.status == COPY_IN:
            pgconn.put_copy_end(b"cancelled")
            await flush(connection)
        elif result.status in COPY_STATES:
            await _skip_copy(connection)


async def _skip_copy(connection: Connection) -> None:
    while True:
        size, _ = connection.pgconn.get_copy_data(1)
        if size < 0:
            return
        if size == 0:
            await ready(connection)
            connection.pgconn.consume_input()


def refused(connection: Connection, result: PGresult) -> NoReturn:
    """Raise what the server refused a statement with, and note whether the connection is of further use."""
    error = error_from_result(result)
    code = error.sqlstate or ""
    read_only = code == "25006" and connection.retire_read_only and not connection.read_only_block
    if read_only or code in _RETIRING or code[:2] == "08":
        connection.marks |= RETIRED
    raise error


def lost(connection: Connection, error: psycopg.OperationalError) -> NoReturn:
    """Raise what is to be said of a failure below the statements: most likely the connection is gone."""
    if connection.pgconn.status == OK and connection.pgconn.transaction_status == ACTIVE:
        if connection.marks & STREAM:
            text = "a stream is open on this connection: leave its block first, or use another connection"
        else:
            text = "another statement is under way on this connection; use one connection for each task"
        raise UsageError(text) from error
    connection.marks |= RETIRED
    if connection.block:
        raise LostInTransaction(str(error)) from error
    raise error


def _take_notifications(connection: Connection) -> None:
    """Hand on what LISTEN brought, or libpq would keep it for ever."""
    pgconn = connection.pgconn
    if pgconn.status == OK:
        while (notification := pgconn.notifies()) is not None:
            if pgconn.notify_handler is not None:
                pgconn.notify_handler(notification)
