"""Between two holders: the session as it was, and a look whether the server still answers."""

from __future__ import annotations

import asyncio
import logging

from dbcore.config import Reset
from dbcore.errors import DbConnectionError
from dbcore_mysql.cancelling import end
from dbcore_mysql.connection import DATABASE, NATIVE, RETIRED, ROLE, SESSION, Connection
from dbcore_mysql.errors import number_of
from dbcore_mysql.library import MySQLError

__all__ = ["Resetting", "ping"]

logger = logging.getLogger("dbcore.mysql")

_RESET_CONNECTION, _INIT_DB = 0x1F, 0x02


class Resetting:
    """The hook `reset` of one pool."""

    def __init__(self, *, pool: str, mode: Reset) -> None:
        self._pool = pool
        self._session = {"full": -1, "tracked": SESSION | NATIVE | DATABASE | ROLE, "transaction": 0}[mode]
        """The marks that call for a reset of the session."""

    async def __call__(self, connection: Connection) -> None:
        """Roll back, and restore the session where that is called for. Raises if it is of no more use."""
        if connection.marks & RETIRED or connection.is_broken:
            raise DbConnectionError("the server ended this session, or is not the one that the pool wants")
        await _end_what_runs(connection)
        with connection.use():
            try:
                await self._restore(connection)
            except MySQLError as error:
                raise DbConnectionError(f"the session could not be reset ({number_of(error)})") from error
        connection.restore()

    async def _restore(self, connection: Connection) -> None:
        marks = connection.marks & self._session
        if connection.in_transaction:
            logger.warning("pool %s: a transaction that its holder left open is rolled back", self._pool)
            if not marks:
                await connection.query(b"ROLLBACK")
                connection.last_result()
        if not marks:
            return
        if marks & ROLE:
            raise DbConnectionError("its holder took another role by SET ROLE, which outlasts every reset")
        # It ends the transaction too; user variables, temporary tables, locks and prepared statements go with it.
        await connection.command(_RESET_CONNECTION, b"")
        await connection.query(connection.setup)
        connection.last_result()
        if marks & (DATABASE | NATIVE):
            await self._go_back(connection, marks)

    async def _go_back(self, connection: Connection, marks: int) -> None:
        if connection.database is not None:
            await connection.command(_INIT_DB, connection.database.encode())
        elif marks & DATABASE:
            raise DbConnectionError("its holder went to a database by USE, and the config names none to go back to")


async def _end_what_runs(connection: Connection) -> None:
    """End what another task still does, or a stream that was not closed."""
    while connection.is_busy:
        connection.cut_off = True
        connection.idle = connection.idle or asyncio.get_running_loop().create_future()
        await end(connection, connection.idle)
    stream = connection.open_stream
    if stream is not None:
        with connection.use(streaming=stream):
            if connection.is_streaming:
                await end(connection)
            connection.close_stream()
    if connection.is_broken:
        raise DbConnectionError("the connection was lost while what ran on it was ended")


async def ping(connection: Connection) -> None:
    """Ask the server for nothing; one trip. Raises `DbConnectionError` if no answer comes."""
    with connection.use():
        try:
            await connection.ping(reconnect=False)
        except MySQLError as error:
            raise DbConnectionError(f"the connection was lost ({number_of(error)})") from error
