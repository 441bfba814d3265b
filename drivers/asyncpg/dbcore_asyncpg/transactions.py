"""Transactions: as text, and a COMMIT that says what became of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dbcore.driver import Isolation
from dbcore.errors import DbConnectionError, TransactionError, UsageError
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.running import run

__all__ = ["begin", "commit", "rollback", "whole"]

_LEVELS: dict[Isolation | None, str] = {
    None: "",
    "read committed": " ISOLATION LEVEL READ COMMITTED",
    "repeatable read": " ISOLATION LEVEL REPEATABLE READ",
    "serializable": " ISOLATION LEVEL SERIALIZABLE",
}


async def begin(connection: Connection, isolation: Isolation | None, read_only: bool) -> None:
    """Begin a transaction: one trip.

    Raises `UsageError` in a transaction that a BEGIN sent as text has opened: the server would make one of the two.
    """
    if connection.is_in_transaction():
        raise UsageError(
            "a transaction is open already, by a BEGIN that was sent as text; end it by COMMIT or ROLLBACK first, "
            "or leave BEGIN to transaction()"
        )
    connection.block = True
    connection.read_only_block = read_only
    text = f"BEGIN{_LEVELS[isolation]}{' READ ONLY' if read_only else ''}"
    await run(connection, connection.execute, text)


async def commit(connection: Connection) -> None:
    """Commit. Raises `TransactionError` if there is nothing that could be committed, and rolls back then.

    A connection that is lost meanwhile is a `DbConnectionError` with `outcome_unknown`.
    """
    if connection.is_closed():
        _over(connection)
        raise DbConnectionError("the connection was lost before COMMIT was sent; nothing was done", retryable=True)
    if not connection.is_in_transaction():
        _over(connection)
        raise TransactionError("the transaction was ended by a COMMIT or ROLLBACK that was sent as a statement")
    if connection.failed:
        await rollback(connection)
        raise TransactionError("the transaction was rolled back: an earlier statement of it had failed")
    await _commit(connection)


async def _commit(connection: Connection) -> None:
    connection.committing = True
    try:
        status = await run(connection, connection.execute, "COMMIT")
    except DbConnectionError as error:
        raise DbConnectionError(
            "the connection was lost during COMMIT; whether the transaction was committed is not known",
            outcome_unknown=True,
            sqlstate=error.sqlstate,
        ) from error.__cause__
    finally:
        connection.committing = False
        # Cancelled before the server came to it, the COMMIT may have left a transaction to roll back.
        if not connection.is_in_transaction():
            _over(connection)
    if status != "COMMIT":
        raise TransactionError("the server rolled the transaction back in place of committing it")


async def rollback(connection: Connection) -> None:
    """Roll back what `begin` began. Harmless without that, and with a connection that is lost: nothing is left then."""
    try:
        # Also where the server has not said that it began: a BEGIN that was cancelled may have come through.
        if connection.block and not connection.is_closed():
            await run(connection, connection.execute, "ROLLBACK")
    finally:
        _over(connection)


def _over(connection: Connection) -> None:
    if connection.altered:
        connection.schema_changed()
    elif connection.renaming:
        connection.forget_schema()
    connection.altered = connection.renaming = False
    connection.block = connection.read_only_block = False


@asynccontextmanager
async def whole(connection: Connection) -> AsyncGenerator[None, None]:
    """All or nothing, for what takes several statements: a transaction, unless there is one."""
    if connection.is_in_transaction():
        yield
        return
    try:
        await begin(connection, None, False)  # noqa: FBT003  # the contract's order
        yield
    except BaseException:
        await rollback(connection)
        raise
    await commit(connection)
