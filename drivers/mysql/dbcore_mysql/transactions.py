"""Transactions, and a COMMIT that says what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from dbcore.driver import Isolation
from dbcore.errors import DbConnectionError, DbError, TransactionError, UsageError
from dbcore_mysql.connection import SESSION, Connection
from dbcore_mysql.wire import run

__all__ = ["begin", "commit", "rollback", "together"]

_LEVELS: Mapping[Isolation, str] = {
    "read committed": "READ COMMITTED",
    "repeatable read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}


async def begin(connection: Connection, isolation: Isolation | None, read_only: bool) -> None:
    """Begin a transaction: one trip, and one more for an isolation.

    Raises `UsageError` in a transaction that a BEGIN sent as text has opened: MySQL would commit that one.
    """
    with connection.use():
        if connection.in_transaction and not connection.is_broken:
            raise UsageError(
                "a transaction is open already, by a BEGIN that was sent as text; end it by COMMIT or ROLLBACK first, "
                "or leave BEGIN to transaction()"
            )
        if isolation is not None:
            # It holds for the next transaction; cut short behind it, that would be somebody else's.
            unmarked, connection.marks = connection.marks, connection.marks | SESSION
            await run(connection, f"SET TRANSACTION ISOLATION LEVEL {_LEVELS[isolation]}")
            await _start(connection, read_only=read_only)
            connection.marks = unmarked
        else:
            await _start(connection, read_only=read_only)


async def _start(connection: Connection, *, read_only: bool) -> None:
    connection.block = True  # also if it is cancelled and was begun all the same: then it has to be rolled back
    try:
        await run(connection, "START TRANSACTION READ ONLY" if read_only else "START TRANSACTION")
    except BaseException:
        connection.block = connection.in_transaction and not connection.is_broken
        raise


async def commit(connection: Connection) -> None:
    """Commit. Raises `TransactionError` if there is nothing that could be committed.

    A connection that is lost meanwhile is a `DbConnectionError` with `outcome_unknown`.
    """
    with connection.use():
        await _commit(connection)


async def _commit(connection: Connection) -> None:
    try:
        if connection.is_broken:
            raise DbConnectionError("the connection was lost before COMMIT was sent; nothing was done", retryable=True)
        if not connection.in_transaction:
            raise TransactionError("the transaction was ended before, by the server or by a COMMIT or ROLLBACK as text")
        connection.committing = True
        await run(connection, "COMMIT")
    finally:
        connection.committing = False
        # Cancelled before the server came to it, the COMMIT may have left a transaction to roll back.
        if connection.is_broken or not connection.in_transaction:
            connection.block = False


async def rollback(connection: Connection) -> None:
    """Roll back what `begin` began. Harmless without that, and with a connection that is lost: nothing is left then."""
    if connection.block:
        with connection.use():
            await _rollback(connection)


async def _rollback(connection: Connection) -> None:
    try:
        if connection.in_transaction and not connection.is_broken:
            await run(connection, "ROLLBACK")
    finally:
        connection.block = False


@asynccontextmanager
async def together(connection: Connection) -> AsyncGenerator[None, None]:
    """Have what is done inside in the open transaction, or in one of its own: all or nothing. Inside of `use`."""
    connection.check_block()
    if connection.in_transaction:
        yield
        return
    try:
        await _start(connection, read_only=False)
        yield
        await _commit(connection)
    except (Exception, asyncio.CancelledError) as error:
        if not connection.cut_off:  # else the reset rolls back
            try:
                await _rollback(connection)
            except DbError:
                connection.drop()
                error.add_note("The rollback failed too; the connection was dropped.")
        raise
