"""The native connection: psycopg's own, with what the driver knows about it; and what judges and ends one."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncRawCursor, pq
from psycopg.adapt import AdaptersMap, Transformer
from psycopg.rows import tuple_row

from dbcore.driver import ServerInfo, TransactionStatus
from dbcore.errors import DbConnectionError, TransactionError
from dbcore_postgres.awake import Awake
from dbcore_postgres.ear import Ear
from dbcore_postgres.prepared import Prepared
from dbcore_postgres.values import ADAPTERS

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen
    from psycopg.pq.abc import PGconn

    from dbcore_postgres.trip import SharedTrip

__all__ = [
    "NATIVE",
    "RETIRED",
    "SESSION",
    "STREAM",
    "USED",
    "Connection",
    "abort",
    "close",
    "in_transaction",
    "is_clean",
    "is_usable",
    "server_info",
    "touch",
    "transaction_status",
    "use",
]

IDLE = int(pq.TransactionStatus.IDLE)
ACTIVE = int(pq.TransactionStatus.ACTIVE)
IN_TRANSACTION = int(pq.TransactionStatus.INTRANS)
IN_ERROR = int(pq.TransactionStatus.INERROR)
OK = int(pq.ConnStatus.OK)

_ENCODING, _UTF8 = b"client_encoding", b"UTF8"

# What happened to a session since it was last known to be pristine: `Connection.marks`.
SESSION = 1
"""A statement that changes the session was seen."""
NATIVE = 2
"""psycopg's own interface was used, so anything may have happened."""
STREAM = 4
"""A stream is open."""
RETIRED = 8
"""The server said something after which this connection is of no more use."""
NAMES = 32
"""A statement was seen that changes what names mean; to put that back changes it again."""
USED = 16
"""It was used at all; noted where every use is followed by a reset."""


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A psycopg connection in autocommit mode, on which psycopg's own interface can be used as well.

    Its cursors are raw ones (`$1`) and prepare nothing, for psycopg would end all prepared statements of the session,
    this driver's too, when it sees a DROP, an ALTER or a ROLLBACK.
    """

    def __init__(self, pgconn: PGconn, *args: Any, **kwargs: Any) -> None:
        self._map = AdaptersMap(ADAPTERS)
        super().__init__(pgconn, *args, **kwargs)
        self.cursor_factory = AsyncRawCursor
        self.prepare_threshold = None
        self.transformer = Transformer(self)
        self.styles = self.read_styles()
        self.prepared = Prepared(0)
        self.chunked = False
        """A stream has been read since the last pipeline."""
        self.open_stream: object | None = None
        """The stream that is open. One that a reset has ended must not touch the connection any more."""
        self.marks = 0
        self.mark_use = 0
        """`USED` where each use is followed by a reset, else 0."""
        self.retire_read_only = True
        """A server that says "read-only" is not the one that the pool wants."""
        self.probe = b"SELECT 1"
        """What a ping asks. Where a server that writes is wanted: whether this one does not."""
        self.pending: bytes | None = None
        """A BEGIN that goes along with the next statement."""
        self.altered = False
        """Something was altered in the transaction that is open, and may be as it was at its end."""
        self.block = False
        """A transaction was begun by `begin` and is not over."""
        self.read_only_block = False
        self.committing = False
        """Its COMMIT was sent: if the connection is lost now, nobody knows what became of it."""
        self.waiter: asyncio.Future[None] | None = None
        """What the statement that is under way waits for."""
        self.eager = False
        """It wants to be woken by whatever can be read, and not by a whole result alone."""
        self.ear = Ear(pgconn.socket)
        self.awake = Awake(0)
        """Of the pool; the connector puts it here."""
        self.doubts = 0
        """About the next answer: whether it comes soon."""
        self.ending: asyncio.Task[bool] | None = None
        """Ends a statement that was cancelled; nothing may be sent meanwhile."""
        self.trip: SharedTrip | None = None
        """The trip of many tasks' statements that is under way."""

    @property
    def adapters(self) -> AdaptersMap:
        return self._map

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Everything that psycopg itself does on the connection comes through here.

        A BEGIN that is pending goes first, or what is done through `native` would be outside of the transaction.
        """
        self.marks |= NATIVE
        await self.quiet()
        begin, self.pending = self.pending, None
        if begin is not None:
            from dbcore_postgres.wire import simple  # which imports this module

            try:
                await simple(self, begin)
            except BaseException:
                if self.pgconn.transaction_status == IDLE:
                    self.pending = begin
                raise
        if timeout is None:  # psycopg before 3.3 knows no timeout
            return await super().wait(gen, interval)
        return await super().wait(gen, interval, timeout)

    async def quiet(self) -> None:
        """Wait for the end of what an earlier statement has left behind. A hot path looks at `ending` itself."""
        if self.ending is not None:
            await asyncio.wait([self.ending])

    def read_styles(self) -> tuple[bytes | None, ...]:
        """Return the parameters of the session that psycopg's loaders go by; they read them when they are made."""
        status = self.pgconn.parameter_status
        return status(b"TimeZone"), status(b"DateStyle"), status(b"IntervalStyle")

    def follow_styles(self) -> None:
        """Look in which styles the server writes from now on; in UTF-8, or `need_utf8` raises.

        To be called before results are read, for the statement itself may have changed them.
        """
        self.need_utf8()
        styles = self.read_styles()
        if styles != self.styles:
            self.styles, self.transformer = styles, Transformer(self)

    def follow_adapters(self) -> None:
        """Look anew which loaders and dumpers there are, where psycopg's interface may have registered some."""
        if not self.marks & NATIVE:
            return
        self.transformer = Transformer(self)
        self.prepared.forget_formats()

    def need_utf8(self) -> None:
        """Raise `DbConnectionError`, and retire the connection, where the session speaks another encoding than we do.

        The server would take our UTF-8 for other characters, and store those without a word.
        """
        try:
            encoding = self.pgconn.parameter_status(_ENCODING)
        except psycopg.OperationalError:
            return  # it is closed, and what is sent next says so
        if encoding != _UTF8 and encoding is not None:
            self.marks |= RETIRED
            name = encoding.decode(errors="replace")
            raise DbConnectionError(
                f"client_encoding of this session was set to {name}, and the driver speaks UTF8 alone; leave it as it "
                "is, and convert at the server, by convert_to and convert_from"
            )

    def hear(self) -> None:
        """Read what there is to be read, and wake the statement that waits for it. Runs in the event loop."""
        waiter = self.waiter
        if waiter is None or waiter.done():
            return  # woken already; it has its turn before the loop asks again
        try:
            self.pgconn.consume_input()
            if self.eager or not self.pgconn.is_busy():
                waiter.set_result(None)
        except psycopg.OperationalError as error:
            waiter.set_exception(error)

    async def close(self) -> None:
        """As psycopg's."""
        self.ear.close()
        await super().close()

    def __del__(self, *_: Any) -> None:
        """Let go of the server when nobody refers to the connection any more; the pool has warned about itself."""
        with suppress(AttributeError):  # it was never made to its end
            self.ear.close()
            self.pgconn.finish()

    async def restore_defaults(self) -> None:
        """Undo what a user of psycopg's interface may have set on the object itself."""
        self._map = AdaptersMap(ADAPTERS)
        self.transformer = Transformer(self)
        self.prepared.forget_formats()
        self.cursor_factory = AsyncRawCursor
        self.row_factory = tuple_row
        self.prepare_threshold = None
        if not self.autocommit:
            await self.set_autocommit(True)
        if (self.isolation_level, self.read_only, self.deferrable) != (None, None, None):
            await self.set_isolation_level(None)
            await self.set_read_only(None)
            await self.set_deferrable(None)


def is_usable(connection: Connection) -> bool:
    """Say whether nothing speaks against the connection. Readable while idle means a goodbye, a notice, or the end."""
    return connection.pgconn.status == OK and not connection.ear.has_input()


def is_clean(connection: Connection) -> bool:
    """Say whether there is nothing to reset. A connection that is lost is never in the status IDLE, which is 0."""
    return not (connection.marks or connection.pending or connection.pgconn.transaction_status)


def in_transaction(connection: Connection) -> bool:
    """Say whether a transaction is open or failed."""
    return connection.pending is not None or connection.block or connection.pgconn.transaction_status >= IN_TRANSACTION


def transaction_status(connection: Connection) -> TransactionStatus:
    """Say where the transaction stands. One whose BEGIN still waits is open, and one on a connection that is lost."""
    if connection.pending is not None:
        return "open"
    status = connection.pgconn.transaction_status
    if status == IDLE:
        return "idle"
    if status == IN_TRANSACTION:
        return "open"
    if status == IN_ERROR:
        return "failed"
    # A stream is open, and the server tells only when it has ended; or the connection is lost, and COMMIT will tell.
    return "open" if connection.block else "idle"


def touch(connection: Connection) -> None:
    """Note that anything may have been done to the session, and registered at psycopg's adapters."""
    connection.marks |= NATIVE
    connection.transformer = Transformer(connection)


def use(connection: Connection) -> None:
    """Begin something with it. Raises `TransactionError` where its transaction was ended behind its back.

    And `DbConnectionError` where the session does not speak UTF-8 any more.
    """
    connection.need_utf8()
    connection.marks |= connection.mark_use
    if connection.block and connection.pending is None and connection.pgconn.transaction_status == IDLE:
        raise TransactionError(
            "the transaction is over: it was ended by a COMMIT or ROLLBACK that was sent as text; leave its block and "
            "begin anew"
        )


async def close(connection: Connection) -> None:
    """Say goodbye to the server, and close."""
    await connection.close()


def abort(connection: Connection) -> None:
    """Drop the connection at once; whoever waits for it is woken with an error."""
    if connection.lock.locked() and connection.pgconn.status == OK:
        # psycopg waits on the socket itself: it must see the end, and not another file that gets the same number.
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as own:
            own.shutdown(socket.SHUT_RDWR)
        return
    waiter, connection.waiter = connection.waiter, None
    connection.ear.close()
    if waiter is not None and not waiter.get_loop().is_closed() and not waiter.done():
        waiter.set_exception(psycopg.OperationalError("the connection was dropped"))
    connection.pgconn.finish()


async def server_info(connection: Connection) -> ServerInfo:
    """Return what the server said of itself when the connection was made. No trip."""
    version = connection.pgconn.parameter_status(b"server_version")
    if version is None:
        raise DbConnectionError("the server did not say its version")
    return ServerInfo(version=f"PostgreSQL {version.decode().split()[0]}", tls=connection.pgconn.ssl_in_use)
