"""Transactions: BEGIN goes along with the first statement, and a transaction without one costs nothing."""

from __future__ import annotations

import sqlite3

from dbcore.driver import Isolation, TransactionStatus
from dbcore.errors import DbConnectionError, TransactionError, UnsupportedError, UsageError
from dbcore_sqlite.connection import Connection, lost_in_transaction
from dbcore_sqlite.errors import is_busy
from dbcore_sqlite.worker import Native

__all__ = ["begin", "commit", "rollback", "transaction_status", "wait_to_write"]

_WRITE = ("BEGIN IMMEDIATE",)
_READ = ("PRAGMA query_only = 1", "BEGIN")


async def begin(connection: Connection, isolation: Isolation | None, read_only: bool) -> None:
    """Begin a transaction. One that may write waits here for its turn; SQLite hears of it with the first statement.

    Raises `UsageError` in a transaction that a BEGIN or SAVEPOINT sent as text has opened.
    """
    if isolation is not None and isolation != "serializable":
        raise UnsupportedError(
            f"SQLite has no isolation {isolation!r}: every transaction is serializable, which gives more than that; "
            "leave isolation out, or say 'serializable'"
        )
    if connection.ending is not None:
        await connection.quiet()
    if connection.inside:
        raise UsageError(
            "a transaction is open already, by a BEGIN or SAVEPOINT that was sent as text; end it by COMMIT or "
            "ROLLBACK first, or leave BEGIN to transaction()"
        )
    read_only = read_only or connection.read_only
    if (not read_only or connection.lane.everything) and not connection.lane.take_now(connection):
        await connection.lane.take(connection)
    connection.begun = "read" if read_only else "write"
    connection.pending = _READ if read_only else _WRITE


async def wait_to_write(connection: Connection, seconds: float) -> None:
    """Wait for the writer lane. Raises `PoolTimeout`; the reset gives the lane back if nothing was begun after all."""
    await connection.quiet()
    if not connection.read_only or connection.lane.everything:
        await connection.lane.take(connection, seconds)


async def commit(connection: Connection) -> None:
    """Commit. Raises `TransactionError` for a transaction that SQLite has rolled back, or that failed, already."""
    if connection.ending is not None:
        await connection.quiet()
    if connection.pending:
        _over(connection)
        return
    if connection.begun and (connection.parted or not connection.inside):
        if not connection.is_open:
            _over(connection)
            raise lost_in_transaction()
        if connection.begun == "read":
            await connection.run(_read_write, interruptible=False)
        _over(connection)
        raise TransactionError(
            "nothing was committed: SQLite had rolled the transaction back when a statement failed or was cancelled, "
            "or it was ended by a text; run it again"
        )
    if connection.failed:
        raise TransactionError("nothing was committed: of several statements sent together one failed; roll it back")
    before = connection.job
    try:
        if connection.begun == "read":  # an interrupt half-way would leave `query_only` set
            await connection.run(_commit_read, interruptible=False)
        else:
            await connection.work(_commit, ends=True)
    except DbConnectionError as error:
        job = connection.job
        error.outcome_unknown = job is not None and job is not before and job.started
        raise
    finally:
        if connection.is_quiet and not connection.inside:
            _over(connection)


async def rollback(connection: Connection) -> None:
    """Roll back what `begin` began; harmless without that. A cancelled caller does not stop it."""
    await connection.quiet()
    try:
        if connection.begun and not connection.pending and connection.is_open:
            await connection.run(_rollback, connection.begun == "read", interruptible=False)
    finally:
        if connection.is_quiet and not (connection.begun and connection.inside and not connection.pending):
            lane = connection.lane
            if lane.owner is connection:  # its block may go on for long, and write elsewhere
                lane.dismiss(lane.task)
            _over(connection)


def transaction_status(connection: Connection) -> TransactionStatus:
    """Say from local state how the transaction is; `idle` after SQLite itself has rolled it back."""
    if connection.pending:
        return "open"
    if not connection.inside:
        lost = connection.begun and not connection.is_open  # nobody has ended it; its COMMIT will tell
        return "open" if lost else "idle"
    return "failed" if connection.failed else "open"


def _over(connection: Connection) -> None:
    connection.begun = ""
    connection.pending = ()
    connection.failed = False
    connection.settle()


# -- in the worker -----------------------------------------------------------------------------------------------------


def _commit(native: Native) -> None:
    try:
        native.execute("COMMIT")
    except sqlite3.Error as error:
        if not is_busy(error):  # here and now, for the next writer stands behind
            _rollback(native, read=False)
        raise


def _commit_read(native: Native) -> None:
    try:
        _commit(native)
    finally:
        if not native.in_transaction:
            _read_write(native)


def _rollback(native: Native, read: bool) -> None:
    if native.in_transaction:
        native.execute("ROLLBACK")
    if read:
        _read_write(native)


def _read_write(native: Native) -> None:
    native.execute("PRAGMA query_only = 0")
