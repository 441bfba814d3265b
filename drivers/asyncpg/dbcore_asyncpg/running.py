"""Every operation of asyncpg that this driver awaits goes through here, so that its outcome is noted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from dbcore.driver import CancelledTooLate
from dbcore.errors import DbConnectionError, DbError, TransactionError
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.errors import GONE, from_server, server_error

__all__ = ["run", "use"]

P = ParamSpec("P")
T = TypeVar("T")

_RETIRING = frozenset({"57P01", "57P02", "57P03"})


def use(connection: Connection) -> None:
    """Begin something with it. Raises `TransactionError` where its transaction was ended behind its back."""
    if connection.block and not connection.is_closed() and not connection.is_in_transaction():
        raise TransactionError(
            "the transaction is over: it was ended by a COMMIT or ROLLBACK that was sent as text; leave its block and "
            "begin anew"
        )


async def run(connection: Connection, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Await one operation; note what it means for the transaction, and tell a lost connection from all else.

    A connection that is lost is a `DbConnectionError`: `retryable` where nothing can have been done,
    `outcome_unknown` where a statement that is its own transaction, or a COMMIT, was under way.
    """
    closed = connection.is_closed()
    inside = connection.block and not connection.committing
    connection.begin_operation()
    try:
        if connection.insisting is not None:
            await connection.cancelled()
        result = await call(*args, **kwargs)
    except Exception as error:
        if connection.is_closed():
            connection.retired = True
            raise _lost(error, inside=inside, sent=not closed) from error
        if from_server(error):
            connection.failed = connection.is_in_transaction()
            _look_for_retirement(connection, error)
        raise
    except BaseException as error:
        # Whether the server had done it, asyncpg finds out later: nothing must be committed on a guess.
        connection.failed = connection.is_in_transaction()
        connection.insist()
        if isinstance(error, asyncio.CancelledError) and not inside:
            raise error from CancelledTooLate("asyncpg does not wait to hear whether it was done")
        raise
    finally:
        connection.end_operation()
    connection.failed = False
    return result


def _look_for_retirement(connection: Connection, error: Exception) -> None:
    sqlstate = getattr(error, "sqlstate", None) or ""
    read_only = sqlstate == "25006" and connection.retire_read_only and not connection.read_only_block
    if read_only or sqlstate in _RETIRING or sqlstate[:2] == "08":
        connection.retired = True


def _lost(error: Exception, *, inside: bool, sent: bool) -> DbError:
    said = server_error(error)
    sqlstate = None if said is None else said.sqlstate
    why = "" if said is None else f": {said.args[0]}"
    if inside:
        text = "the connection was lost inside of a transaction; nothing of it was done"
        return DbConnectionError(f"{text}{why}", retryable=True, sqlstate=sqlstate)
    if sqlstate in GONE:
        return DbConnectionError(f"the server ended the session{why}", retryable=True, sqlstate=sqlstate)
    if not sent:
        return DbConnectionError("the connection was lost before; nothing was sent", retryable=True)
    text = "the connection was lost while a statement was under way; whether it was done is not known"
    return DbConnectionError(f"{text}{why}", outcome_unknown=True, sqlstate=sqlstate)
