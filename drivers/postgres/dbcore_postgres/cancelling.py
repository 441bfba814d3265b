"""The end of a statement that nobody waits for any more."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

from psycopg import pq

from dbcore.driver import CancelledTooLate
from dbcore.loops import look_at_failure
from dbcore_postgres.connection import IN_TRANSACTION, OK, Connection
from dbcore_postgres.waiting import flush, ready, receive

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["CANCEL_SECONDS", "COPY_STATES", "PATIENCE", "abandon", "cut_off", "cut_short", "tell"]

logger = logging.getLogger("dbcore.postgres")

CANCEL_SECONDS = 5.0
"""How long a cancelled statement may take to end before its connection is dropped."""
PATIENCE = 0.1
"""Seconds after which the server is told for the second time; they double from time to time."""

_telling: set[asyncio.Task[None]] = set()

SYNC = int(pq.ExecStatus.PIPELINE_SYNC)
FAILURES = (int(pq.ExecStatus.FATAL_ERROR), int(pq.ExecStatus.PIPELINE_ABORTED))
COPY_IN = int(pq.ExecStatus.COPY_IN)
COPY_STATES = (COPY_IN, int(pq.ExecStatus.COPY_OUT), int(pq.ExecStatus.COPY_BOTH))

# A statement that fails: in a pipeline that was not sent to its end, or that would commit what was sent; and in a
# transaction that is to be doomed.
_POISON = b"SELECT 1/0 AS cancelled"


async def cut_short(connection: Connection, error: BaseException, *, unsynced: bool = False) -> NoReturn:
    """End what `error` has cut short, as `abandon` does, and raise it: by `CancelledTooLate` where it came too late.

    Inside of a transaction it never does: that is doomed, also by a statement that was through by then, or it would
    depend on a moment what a COMMIT keeps.
    """
    nothing_kept = await abandon(connection, unsynced=unsynced, doom=True)
    if isinstance(error, asyncio.CancelledError) and not nothing_kept:
        raise error from CancelledTooLate("the work was done before it could be ended, or may have been")
    raise error


async def abandon(connection: Connection, *, unsynced: bool = False, doom: bool = False) -> bool:
    """End at the server what nobody waits for any more, and take in what is left of it.

    Afterwards the connection can be used again. If that takes longer than `CANCEL_SECONDS` the connection is dropped;
    the server sees that when it next looks (`client_connection_check_interval`). A caller that is cancelled once more
    leaves at once: a task goes on with it, and whatever comes next on the connection waits for that task, by `quiet`.

    Returns whether nothing of it is kept, as far as is known. With `doom` a transaction that is open ends like that.
    """
    if connection.ending is None:
        if connection.pgconn.status != OK:
            return _undone_with_connection(connection)
        loop = asyncio.get_running_loop()
        connection.ending = loop.create_task(_end(connection, unsynced=unsynced, doom=doom))
    return await asyncio.shield(connection.ending)


def _undone_with_connection(connection: Connection) -> bool:
    return connection.block and not connection.committing


async def _end(connection: Connection, *, unsynced: bool, doom: bool) -> bool:
    pgconn = connection.pgconn
    undone_with_connection = _undone_with_connection(connection)
    failures: list[PGresult] = []
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            if unsynced and pgconn.pipeline_status:
                pgconn.send_query_params(_POISON, None)
                pgconn.pipeline_sync()
            patience = PATIENCE
            while not await _ended(connection, patience, failures):
                patience *= 2
            if doom and pgconn.transaction_status == IN_TRANSACTION and not failures:
                pgconn.send_query(_POISON)
                await _drain(connection, failures)
    except Exception as error:
        # Whatever failed: a connection in an unknown state must not be used again.
        logger.warning("a cancelled statement could not be ended, its connection is dropped: %r", error)
        pgconn.finish()
        return undone_with_connection
    except BaseException:  # the loop ends
        pgconn.finish()
        raise
    finally:
        connection.ending = None
    return bool(failures)


async def cut_off(connection: Connection) -> None:
    """Drop the connection and what runs on it; the server is told, or it would go on until it looks."""
    try:
        await asyncio.shield(tell(connection))
    except Exception as error:
        logger.debug("the server could not be told to stop: %r", error)
    finally:
        connection.pgconn.finish()


async def _ended(connection: Connection, patience: float, failures: list[PGresult]) -> bool:
    """Tell the server to stop, and see whether it does.

    It has to be told again if not: told before it has begun, it takes no notice.
    """
    await asyncio.shield(tell(connection))
    try:
        async with asyncio.timeout(patience):
            await _drain(connection, failures)
    except TimeoutError:
        return False
    return True


def tell(connection: Connection) -> asyncio.Task[None]:
    """Ask the server to cancel what runs; also if the caller is cancelled meanwhile, and drops the connection.

    A request goes by a connection of its own. Without it the server would go on until it looks whether we are there.
    When the task has ended well, the request hits nothing that is sent from then on.
    """
    telling = asyncio.create_task(connection.cancel_safe(timeout=CANCEL_SECONDS))
    _telling.add(telling)
    telling.add_done_callback(_telling.discard)
    telling.add_done_callback(look_at_failure)
    return telling


async def _drain(connection: Connection, failures: list[PGresult]) -> None:
    """Take in all results up to the end of the statement or pipeline, and note those of what has failed.

    Can be cut short, and begun again.
    """
    pgconn = connection.pgconn
    in_pipeline = pgconn.pipeline_status != pq.PipelineStatus.OFF
    await flush(connection)
    while True:
        result = await receive(connection)
        if result is None:
            if not in_pipeline:
                return
        elif result.status in FAILURES:
            failures.append(result)
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
