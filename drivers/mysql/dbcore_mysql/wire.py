"""Sending a text to the server and taking in its answer: one trip. What goes wrong is raised as dbcore has it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from dbcore.errors import DbConnectionError, DbError, DecodeError, QueryError
from dbcore_mysql.cancelling import guarded
from dbcore_mysql.connection import RETIRED, Connection
from dbcore_mysql.errors import explain, is_end_of_session, is_read_only_server, number_of, sqlstate_of
from dbcore_mysql.library import LibraryResult, MySQLError
from dbcore_mysql.literals import fill

__all__ = ["ask", "columns_of", "payload", "run", "talk"]

T = TypeVar("T")

Description = tuple[tuple[Any, ...], ...] | None


def payload(connection: Connection, sql: str, params: Sequence[Any]) -> bytes:
    """Return what is sent for a statement. Raises `QueryError` for what cannot be."""
    if params:
        connection.check_literals(sql)
    data = fill(sql, params)
    if len(data) >= connection.max_packet:
        raise QueryError(
            f"the statement, with its parameters, is {len(data)} bytes, and the server takes less than "
            f"{connection.max_packet} (max_allowed_packet); send less at a time"
        )
    return data


async def run(connection: Connection, sql: str, params: Sequence[Any] = ()) -> LibraryResult:
    """Run one statement and return its result: of several, the first that has rows."""
    return await talk(connection, ask(connection, payload(connection, sql, params)), sql if params else None)


async def ask(connection: Connection, data: bytes) -> LibraryResult:
    """Send a text, and take in all that comes back. To be awaited by `talk`."""
    await connection.query(data)
    chosen = result = connection.last_result()
    while result.has_next:
        await connection.next_result()
        result = connection.last_result()
        if chosen.rows is None and result.rows is not None:
            chosen = result
    return chosen


async def talk(connection: Connection, work: Coroutine[Any, Any, T], template: str | None = None) -> T:
    """Await what talks to the server. `template` is the text without its parameters, where there are some."""
    try:
        connection.check_cut_off()
        return await guarded(connection, work)
    except DbError:
        work.close()
        raise
    except MySQLError as error:
        raise await _failure(connection, error, template) from error
    except Exception as error:
        # From the middle of an answer: nobody knows what of it is still to come.
        connection.drop()
        if isinstance(error, UnicodeDecodeError):
            raise DecodeError("a column holds a text that is not UTF-8; cast it to BINARY in the statement") from error
        raise DbConnectionError("the server's answer could not be read; see the cause") from error


def columns_of(description: Description, sql: str, params: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the columns. One that is called after a parameter, as MySQL does it, is called `?` here.

    Names of columns are shown in errors, and parameters are not.
    """
    names = tuple([column[0] for column in description or ()])
    if params:
        texts = [text for value in params if (text := _spelled(value)) and text not in sql]
        if texts:
            return tuple(["?" if _is_called_after(name, texts) else name for name in names])
    return names


def _spelled(value: Any) -> str:
    """Return how a parameter begins in the name of a column that has no name but its text."""
    return value[:_SHOWN] if isinstance(value, str) else str(value)[:_SHOWN] if value is not None else ""


def _is_called_after(name: str, texts: Sequence[str]) -> bool:
    return any(text in name if len(text) >= _TELLING else text == name or f"'{text}'" in name for text in texts)


_SHOWN, _TELLING = 40, 8
"""A text of at least `_TELLING` characters stands in the name of a column for no other reason."""


async def _failure(connection: Connection, error: MySQLError, template: str | None) -> DbError:
    if sqlstate_of(error) is None or is_end_of_session(error):
        connection.drop()
        return _lost(connection, error)
    if is_read_only_server(error):
        connection.marks |= RETIRED
    if connection.block or connection.in_transaction:
        # An error says nothing of the transaction, and some errors end it. A ping does.
        try:
            await connection.ping(reconnect=False)
        except MySQLError:
            connection.drop()
    return explain(error, None if template is None else template.replace("%%", "%"))


def _lost(connection: Connection, error: MySQLError) -> DbConnectionError:
    number, sqlstate = number_of(error), sqlstate_of(error)
    what = f"{number}, {sqlstate}" if sqlstate else str(number)
    if connection.committing:
        return DbConnectionError(
            f"the connection was lost during COMMIT ({what}); whether the transaction was committed is not known",
            outcome_unknown=True,
            sqlstate=sqlstate,
        )
    if connection.block:
        text = f"the connection was lost inside of a transaction ({what}); nothing of it was done"
        return DbConnectionError(text, retryable=True, sqlstate=sqlstate)
    if number in _GONE_BEFORE:
        text = f"the connection had been lost before the statement was sent ({what})"
        return DbConnectionError(text, retryable=True, sqlstate=sqlstate)
    if sqlstate is not None:
        text = f"the server ended the session, and nothing of the statement was done ({what})"
        return DbConnectionError(text, retryable=True, sqlstate=sqlstate)
    text = f"the connection was lost while a statement was under way; whether it was done is not known ({what})"
    return DbConnectionError(text, outcome_unknown=True)


_GONE_BEFORE = frozenset({0, 2006})
"""asyncmy had closed its socket, or found it closed, before it wrote."""
