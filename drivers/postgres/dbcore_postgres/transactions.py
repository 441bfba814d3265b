"""Transactions: a BEGIN that costs no trip, and a COMMIT that says what became of it."""

from __future__ import annotations

import psycopg

from dbcore.driver import Isolation
from dbcore.errors import DbConnectionError, TransactionError, UsageError
from dbcore_postgres.connection import ACTIVE, IDLE, IN_ERROR, IN_TRANSACTION, NATIVE, OK, Connection
from dbcore_postgres.errors import to_error
from dbcore_postgres.wire import simple

__all__ = ["begin", "commit", "rollback"]

_LEVELS: dict[Isolation | None, bytes] = {
    None: b"",
    "read committed": b" ISOLATION LEVEL READ COMMITTED",
    "repeatable read": b" ISOLATION LEVEL REPEATABLE READ",
    "serializable": b" ISOLATION LEVEL SERIALIZABLE",
}


async def begin(connection: Connection, isolation: Isolation | None, read_only: bool) -> None:
    """Note that a transaction begins: the BEGIN goes along with the first statement.

    Raises `UsageError` in a transaction that a BEGIN sent as text has opened: the server would make one of the two.
    """
    if connection.ending is not None:
        await connection.quiet()
    if connection.pgconn.transaction_status in (IN_TRANSACTION, IN_ERROR):
        raise UsageError(
            "a transaction is open already, by a BEGIN that was sent as text; end it by COMMIT or ROLLBACK first, "
            "or leave BEGIN to transaction()"
        )
    connection.pending = b"BEGIN" + _LEVELS[isolation] + (b" READ ONLY" if read_only else b"")
    connection.block = True
    connection.read_only_block = read_only


async def commit(connection: Connection) -> None:
    """Commit. Raises `TransactionError` if there is nothing that could be committed, and rolls back then.

    A connection that is lost meanwhile is a `DbConnectionError` with `outcome_unknown`.
    """
    if connection.ending is not None:
        await connection.quiet()
    if connection.pending is not None:
        _over(connection)
        return
    status = connection.pgconn.transaction_status
    if status == IDLE:
        _over(connection)
        raise TransactionError("the transaction was ended by a COMMIT or ROLLBACK that was sent as a statement")
    if status in (IN_TRANSACTION, ACTIVE):
        await _commit(connection)
    elif connection.pgconn.status == OK:
        await rollback(connection)
        raise TransactionError("the transaction was rolled back: an earlier statement of it had failed")
    else:
        _over(connection)
        raise DbConnectionError("the connection was lost before COMMIT was sent; nothing was done", retryable=True)


async def _commit(connection: Connection) -> None:
    connection.committing = True
    try:
        results = await simple(connection, b"COMMIT")
    except psycopg.Error as error:
        if connection.pgconn.status == OK and error.diag.severity_nonlocalized not in ("FATAL", "PANIC"):
            raise
        known = to_error(error)
        raise DbConnectionError(
            "the connection was lost during COMMIT; whether the transaction was committed is not known",
            outcome_unknown=True,
            sqlstate=None if known is None else known.sqlstate,
        ) from error
    finally:
        connection.committing = False
        # Cancelled before the server came to it, the COMMIT may have left a transaction to roll back.
        if connection.ending is None and connection.pgconn.transaction_status not in (IN_TRANSACTION, IN_ERROR):
            _over(connection)
    if results[-1].command_status != b"COMMIT":
        raise TransactionError("the server rolled the transaction back in place of committing it")


async def rollback(connection: Connection) -> None:
    """Roll back what `begin` began. Harmless without that, and with a connection that is lost: nothing is left then."""
    await connection.quiet()
    sent = connection.block and connection.pending is None
    try:
        if sent and connection.pgconn.status == OK and connection.pgconn.transaction_status != IDLE:
            await simple(connection, b"ROLLBACK")
    finally:
        _over(connection)


def _over(connection: Connection) -> None:
    if connection.altered or connection.marks & NATIVE:
        # Who was prepared inside of the transaction knows types that are no more, or names of a `SET LOCAL`.
        connection.prepared.forget_names(gone=False)
        connection.altered = False
    connection.pending = None
    connection.block = connection.read_only_block = False
