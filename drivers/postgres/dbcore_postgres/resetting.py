"""Between two holders: the session as it was, and a look whether the server still answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import psycopg

from dbcore.config import Reset
from dbcore.errors import DbConnectionError
from dbcore_postgres.cancelling import abandon
from dbcore_postgres.connection import ACTIVE, IDLE, NAMES, NATIVE, OK, RETIRED, SESSION, Connection
from dbcore_postgres.errors import to_error
from dbcore_postgres.prepared import deallocate
from dbcore_postgres.wire import simple

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["Resetting", "ping"]

logger = logging.getLogger("dbcore.postgres")

_PATIENCE = 0.1
_READ_ONLY = (b"t", b"on")
"""What a server that takes no writes answers to the one or the other probe."""

# Never DISCARD ALL or DEALLOCATE ALL: both end the prepared statements that we and psycopg need. Those made by PREPARE
# in SQL have names that nobody of us knows, and only they can be in a next holder's way.
_RESET = (
    b"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();"
    b"DISCARD TEMP; DISCARD SEQUENCES;" + deallocate(b"from_sql")
)


class Resetting:
    """The hook `reset` of one pool."""

    def __init__(self, *, pool: str, mode: Reset) -> None:
        self._pool = pool
        self._session = {"full": -1, "tracked": SESSION | NATIVE, "transaction": 0}[mode]
        """The marks that call for a reset of the session."""

    async def __call__(self, connection: Connection) -> None:
        """Roll back, and restore the session where that is called for: one trip. Raises if it is of no more use."""
        pgconn = connection.pgconn
        if connection.marks & RETIRED or pgconn.status != OK:
            raise DbConnectionError("the server ended this session, or is not the one that the pool wants")
        connection.open_stream = None
        if _busy(connection):
            await _outwait(connection)
        if pgconn.transaction_status == ACTIVE:
            await abandon(connection)
        if pgconn.pipeline_status:
            raise DbConnectionError("a pipeline of its former holder is still open")
        text = b""
        if pgconn.transaction_status != IDLE:
            logger.warning("pool %s: a transaction that its holder left open is rolled back", self._pool)
            text = b"ROLLBACK;"
        if connection.marks & self._session:
            text += _RESET
        if text:
            await _run(connection, text)
        connection.pending = None
        if connection.altered or (text and connection.marks & (NAMES | NATIVE)):
            connection.prepared.forget_names(gone=False)
            connection.altered = False
        if connection.marks & NATIVE:
            await connection.restore_defaults()
        connection.block = connection.read_only_block = False
        connection.marks = 0


async def _outwait(connection: Connection) -> None:
    """Let another task, which still waits for a statement, have its end: end the statement, and wait until it knows."""
    while _busy(connection):
        if connection.ending is not None:
            await connection.quiet()
            continue
        await connection.cancel_safe()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):  # then the server is told again: it may not have begun before
                while (waiter := connection.waiter) is not None:
                    await asyncio.wait([waiter])
                async with connection.lock:
                    pass


def _busy(connection: Connection) -> bool:
    return connection.waiter is not None or connection.ending is not None or connection.lock.locked()


async def ping(connection: Connection) -> None:
    """Ask the server for next to nothing; one trip.

    Raises `DbConnectionError` if no answer comes, or one that says that this server takes no writes any more.
    """
    (answer,) = await _run(connection, connection.probe)
    if answer.get_value(0, 0) in _READ_ONLY:
        raise DbConnectionError("the server takes no writes any more; target_session_attrs wants one that does")


async def _run(connection: Connection, text: bytes) -> list[PGresult]:
    """Run SQL for the pool, whose time is limited: a connection that does not answer is dropped at once."""
    try:
        return await simple(connection, text, hasty=True)
    except psycopg.Error as error:
        raise (to_error(error) or DbConnectionError("the connection failed")) from error
