"""The native connection: asyncmy's own, with what the driver knows about it; and what judges and ends one."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

from dbcore.driver import ServerInfo, TransactionStatus
from dbcore.errors import DbConnectionError, QueryError, TransactionError, UsageError
from dbcore_mysql.library import LibraryConnection, LibraryResult, LibraryStream
from dbcore_mysql.words import Kind

__all__ = [
    "DATABASE",
    "NATIVE",
    "RETIRED",
    "ROLE",
    "SESSION",
    "USED",
    "Connection",
    "Identity",
    "abort",
    "close",
    "in_transaction",
    "is_clean",
    "is_usable",
    "server_info",
    "touch",
    "transaction_status",
]

# What happened to a session since it was last known to be pristine: `Connection.marks`.
SESSION = 1
"""A statement that changes the session was seen."""
NATIVE = 2
"""asyncmy's own interface was used, so anything may have happened."""
RETIRED = 4
"""The server said something after which this connection is of no more use."""
USED = 8
"""It was used at all; noted where every use is followed by a reset."""
DATABASE = 16
"""It may have gone to another database."""
ROLE = 32
"""It may have taken another role, which no reset of a session undoes."""

_IN_TRANSACTION = 1
_NO_BACKSLASH_ESCAPES = 512
_SSL = 1 << 11
_MULTI_STATEMENTS = 1 << 16

Identity = tuple[Any, ...]
"""What tells one server from another that answers to the same name."""


class Connection(LibraryConnection):
    """An asyncmy connection in autocommit mode, on which asyncmy's own interface can be used as well.

    A text holds one statement, with asyncmy's interface too: the server is asked to take no more.
    """

    def __init__(self, *, encrypt: bool, **options: Any) -> None:
        super().__init__(**options)
        # asyncmy asks for several statements in a text whatever it is told, and bounds a connect by
        # `asyncio.wait_for`, which on Python 3.11 can eat a cancellation. The engine bounds connects itself.
        self._client_flag &= ~_MULTI_STATEMENTS
        self._connect_timeout = None
        self.marks = 0
        self.mark_use = 0
        """`USED` where each use is followed by a reset, else 0."""
        self.block = False
        """A transaction was begun by `begin` and is not over."""
        self.committing = False
        """Its COMMIT was sent: if the connection is lost now, nobody knows what became of it."""
        self.max_packet = 0
        """Bytes of the largest command that the server takes."""
        self.version = ""
        self.database: str | None = None
        self.identity: Identity = ()
        self.ansi_quotes = False
        self.setup = b""
        """What sets a session as this driver wants it."""
        self.open_another: Callable[[], Awaitable[Connection]] | None = None
        """Opens a second connection to the same server, to end what runs on this one."""
        self.open_stream: LibraryStream | None = None
        """The stream that is open. One that a reset has ended must not touch the connection any more."""
        self.idle: asyncio.Future[None] | None = None
        """Set by who waits for the end of what is under way; done when that has ended."""
        self._encrypt = encrypt
        self._busy = False
        self.cut_off = False
        """A reset waits for the function that has the connection: it is to come to its end without sending more."""
        self._poll: select.poll | None = None

    # -- what asyncmy calls --------------------------------------------------------------------------------------------

    async def _get_server_information(self) -> None:
        """Read the server's greeting, which says whether it can encrypt: asyncmy would ask for it in any case."""
        await super()._get_server_information()
        if self._ssl_context is not None and not self.server_capabilities & _SSL:
            if self._encrypt:
                raise DbConnectionError("the server does not offer encryption, and ssl_mode asks for it")
            self._ssl_context = None
            self._client_flag &= ~_SSL

    async def _execute_command(self, command: int, sql: str | bytes) -> None:
        """Everything that is sent goes through here. What this driver did not begin, somebody else did."""
        if not self._busy:
            self.marks |= NATIVE
        await super()._execute_command(command, sql)

    # -- use -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def use(self, *, streaming: LibraryStream | None = None) -> Generator[None, None, None]:
        """Have the connection alone, for one function of the driver. Raises `UsageError` where another one has it."""
        if self._busy:
            raise UsageError("another statement is under way on this connection; use one connection for each task")
        if self.open_stream is not streaming:
            raise UsageError(
                "a stream is open on this connection: leave its block first, or use another connection"
                if streaming is None
                else "the stream was closed early: its connection was released"
            )
        self._busy = True
        self.marks |= self.mark_use
        try:
            yield
        finally:
            self._busy = False
            idle, self.idle = self.idle, None
            if idle is not None and not idle.done():
                idle.set_result(None)

    def check(self, kind: Kind) -> None:
        """Refuse a statement, before it is sent, that cannot go here; note what it does to the session."""
        if kind.refused is not None:
            raise UsageError(f"this statement is refused: {kind.refused}")
        if self.block:
            self.check_block()
            if kind.unfit is not None:
                raise UsageError(
                    f"{kind.unfit} ends the transaction in which it stands, in MySQL, and commits it; "
                    "run it outside of transaction()"
                )
        if kind.session:
            self.marks |= SESSION | (DATABASE if kind.database else 0) | (ROLE if kind.role else 0)

    def check_block(self) -> None:
        """Raise `TransactionError` where the transaction was ended behind its back."""
        if self.block and not self.is_broken and not self.in_transaction:
            raise TransactionError(
                "the transaction is over: it was ended by the server (a deadlock), or by a COMMIT or ROLLBACK that was "
                "sent as text; leave its block and begin anew"
            )

    def check_literals(self, sql: str) -> None:
        """Refuse parameters where the server would not read their literals as they are written."""
        if self.server_status & _NO_BACKSLASH_ESCAPES:
            raise QueryError(
                "the session was set to NO_BACKSLASH_ESCAPES, with which parameters cannot be sent safely; take it out "
                "of sql_mode"
            )
        if self.ansi_quotes and '"' in sql and "\\" in sql:
            raise QueryError(
                "with ANSI_QUOTES a text that has parameters cannot hold both double quotes and a backslash; send what "
                "has the backslash as a parameter"
            )

    def check_cut_off(self) -> None:
        """Refuse to send more for a function whose holder has released the connection."""
        if self.cut_off:
            raise UsageError("the connection was released while a statement was under way on it")

    def restore(self) -> None:
        """Note that the session is pristine."""
        self.cut_off = self.block = self.committing = False
        self.marks = 0

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return self._busy

    @property
    def is_broken(self) -> bool:
        """Whether it is closed, as far as is known here."""
        transport, protocol = self._transport, self._proto
        return transport is None or transport.is_closing() or protocol is None or protocol.eof

    @property
    def in_transaction(self) -> bool:
        return bool(self.server_status & _IN_TRANSACTION)

    @property
    def is_encrypted(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is not None

    def last_result(self) -> LibraryResult:
        """Return what the server answered last, and take over the status that came with it."""
        result = self._result
        if result is None:
            raise AssertionError("bug: a result is asked for before there is one")
        if self._deprecate_eof or result.rows is None:
            self.server_status = result.server_status  # asyncmy leaves out a status of 0
        return result

    def let_in(self, *, let: bool) -> None:
        """Let the socket be read, or not: asyncmy takes in what comes, wanted or not, and a table may come."""
        if self._transport is not None:
            if let:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    @property
    def is_streaming(self) -> bool:
        """Whether rows of the open stream are still to come."""
        return self._result is not None and bool(self._result.unbuffered_active)

    async def finish_stream(self) -> None:
        """Take in what follows the last row of a stream."""
        result = self._result
        if result is not None:
            if result.server_status or self._deprecate_eof:
                self.server_status = result.server_status
            while result.has_next:
                await self.next_result()
                result = self.last_result()

    def close_stream(self) -> None:
        """Note that no stream is open any more."""
        self.open_stream = None
        self.let_in(let=True)

    async def command(self, number: int, argument: bytes) -> None:
        """Send a command for which asyncmy has no method, and take its answer, which holds nothing."""
        await self._execute_command(number, argument)
        await self.read_packet()

    def has_input(self) -> bool:
        """Say whether something has come, or can be read, without waiting and without reading it."""
        transport, protocol = self._transport, self._proto
        if transport is None or protocol is None or protocol.length > protocol.pos:
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def drop(self) -> None:
        """Close the socket at once; whoever waits for it is woken with an error."""
        transport = self._transport
        if transport is not None:
            try:
                transport.abort()
            except RuntimeError:  # its event loop is closed, and the socket with it
                return
        self.close()


def is_usable(connection: Connection) -> bool:
    """Say whether nothing speaks against the connection. Readable while idle means a goodbye, or the end."""
    return not (connection.is_broken or connection.has_input())


def is_clean(connection: Connection) -> bool:
    """Say whether there is nothing to reset."""
    return not (
        connection.marks
        or connection.server_status & _IN_TRANSACTION
        or connection.block
        or connection.is_busy
        or connection.open_stream is not None
        or connection.is_broken
    )


def in_transaction(connection: Connection) -> bool:
    """Say whether a transaction is open, or was and its block is not left."""
    return connection.block or connection.in_transaction


def transaction_status(connection: Connection) -> TransactionStatus:
    """Say where the transaction stands. On a connection that is lost it is open: COMMIT will tell."""
    if connection.is_broken:
        return "open" if connection.block else "idle"
    return "open" if connection.in_transaction else "idle"


def touch(connection: Connection) -> None:
    """Note that anything may have been done to the session."""
    connection.marks |= NATIVE


async def close(connection: Connection) -> None:
    """Say goodbye to the server, and close."""
    await connection.ensure_closed()


def abort(connection: Connection) -> None:
    """Drop the connection at once."""
    connection.drop()


async def server_info(connection: Connection) -> ServerInfo:
    """Return what the server said of itself when the connection was made. No trip."""
    return ServerInfo(version=connection.version, tls=connection.is_encrypted)
