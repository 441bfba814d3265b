"""Sending to the server and waiting for it, by libpq as psycopg wraps it (`psycopg.pq`).

psycopg's cursors spend as much Python on a short statement as the server and the network spend time. Here is what is
left of one: send, wait, take the results. A statement is one trip, whatever goes along with it.

Whatever waits here and is cancelled ends the work at the server first, by `cut_short`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NoReturn

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from dbcore.errors import UsageError
from dbcore_postgres.cancelling import COPY_STATES, cut_short
from dbcore_postgres.connection import ACTIVE, OK, RETIRED, STREAM, Connection
from dbcore_postgres.errors import LostInFlight, LostInTransaction, Stale, is_stale
from dbcore_postgres.waiting import flush, ready, receive

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = [
    "FATAL",
    "SYNC",
    "TUPLES_OK",
    "Command",
    "collect",
    "fetch",
    "lost",
    "pipeline",
    "refusal",
    "refused",
    "simple",
]

_PUMP_EVERY = 256
"""Commands of a pipeline after which other tasks have a turn."""

TUPLES_OK = int(pq.ExecStatus.TUPLES_OK)
FATAL = int(pq.ExecStatus.FATAL_ERROR)
SYNC = int(pq.ExecStatus.PIPELINE_SYNC)
ABORTED = int(pq.ExecStatus.PIPELINE_ABORTED)

Command = tuple[Callable[[], None], Callable[["PGresult"], None] | None, bool]
"""Sends one command of a pipeline; what gets its result, if it succeeds; and whether it is a statement that is sent by
our name for it."""

_RETIRING = frozenset({"57P01", "57P02", "57P03"})


async def collect(connection: Connection, *, hasty: bool = False, by_name: bool = False) -> list[PGresult]:
    """Flush, and wait for all results of one command. Raises what it failed with.

    `hasty`: when cancelled, drop the connection in place of cleaning up. `by_name`: see `refused`.
    """
    pgconn = connection.pgconn
    results: list[PGresult] = []
    try:
        if pgconn.flush():
            await flush(connection)
        while True:
            while pgconn.is_busy():
                await ready(connection)
            result = pgconn.get_result()
            if result is None:
                break
            results.append(result)
            if result.status in COPY_STATES:
                break
    except psycopg.OperationalError as error:
        # A server that ends a session says why before it does.
        if not (results and results[-1].status == FATAL):
            lost(connection, error, sent=True)
    except BaseException as error:
        if not hasty:
            await cut_short(connection, error)
        pgconn.finish()
        raise
    if connection.marks:
        _take_notifications(connection)
    for result in results:
        if result.status == FATAL:
            refused(connection, result, by_name)
    return results


async def fetch(connection: Connection) -> PGresult | None:
    """Wait for the next result, as `receive`, and end the work when cancelled."""
    try:
        if connection.pgconn.flush():
            await flush(connection)
        result = await receive(connection)
    except psycopg.OperationalError as error:
        lost(connection, error, sent=True)
    except BaseException as error:
        await cut_short(connection, error)
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
    """Run commands in one trip, as one unit: outside of a transaction they commit together or not at all.

    Raises `Stale` where it was a prepared statement that failed, and before it ran.
    """
    pgconn = connection.pgconn
    takers: deque[tuple[Callable[[PGresult], None] | None, bool]] = deque()
    failures: list[tuple[PGresult, bool]] = []
    synced = False

    def take(result: PGresult) -> None:
        status = result.status
        by_name = False
        if status != SYNC and takers:  # a COMMIT that fails, at the end of it all, is no command's failure
            taker, by_name = takers.popleft()
            if taker is not None and status not in (FATAL, ABORTED):
                taker(result)
        if status == FATAL:
            failures.append((result, by_name))

    try:
        pgconn.enter_pipeline_mode()
        if connection.chunked:
            # libpq would still be in the mode of the stream for the first command; let that be an empty one.
            connection.chunked = False
            pgconn.send_query_params(b"", None)
            takers.append((None, False))
        for number, (send, taker, by_name) in enumerate(commands, 1):
            send()
            takers.append((taker, by_name))
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
            refused(connection, *failures[0])
        lost(connection, error, sent=synced)
    except BaseException as error:
        await cut_short(connection, error, unsynced=not synced)
    pgconn.exit_pipeline_mode()
    if failures:
        refused(connection, *failures[0])


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


def refusal(connection: Connection, result: PGresult) -> psycopg.Error:
    """Return what the server refused a statement with, and note whether the connection is of further use."""
    error = error_from_result(result)
    code = error.sqlstate or ""
    read_only = code == "25006" and connection.retire_read_only and not connection.read_only_block
    if read_only or code in _RETIRING or code[:2] == "08":
        connection.marks |= RETIRED
    return error


def refused(connection: Connection, result: PGresult, by_name: bool = False) -> NoReturn:
    """Raise what the server refused a statement with: `Stale` if it was sent by our name, which is no good any more."""
    error = refusal(connection, result)
    if by_name and is_stale(error):
        raise Stale(str(error)) from error
    raise error


def lost(connection: Connection, error: psycopg.OperationalError, *, sent: bool = False) -> NoReturn:
    """Raise what is to be said of a failure below the statements: most likely the connection is gone.

    `sent`: the server may have got all of it, and done it.
    """
    if connection.pgconn.status == OK and connection.pgconn.transaction_status == ACTIVE:
        if connection.marks & STREAM:
            text = "a stream is open on this connection: leave its block first, or use another connection"
        else:
            text = "another statement is under way on this connection; use one connection for each task"
        raise UsageError(text) from error
    connection.marks |= RETIRED
    if connection.block and not connection.committing:
        raise LostInTransaction(str(error)) from error
    if sent:
        raise LostInFlight(str(error)) from error
    raise error


def _take_notifications(connection: Connection) -> None:
    """Hand on what LISTEN brought, or libpq would keep it for ever."""
    pgconn = connection.pgconn
    if pgconn.status == OK:
        while (notification := pgconn.notifies()) is not None:
            if pgconn.notify_handler is not None:
                pgconn.notify_handler(notification)
